"""What became of every event: the kernel's books and user space's, added up. Pure.

    seen = emitted + filtered + sum(lost), for each kind and in total, always.

UDP is counted in datagrams, in the kernel and here, though one record stands for many of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from xdpguard.abi import abi
from xdpguard.trace.decode import KINDS, TASKS
from xdpguard.trace.model import KindLedger

_FIELDS = tuple(abi().structs["xg_ledger"].fields)
_SEEN, _EMITTED, _FILTERED = (_FIELDS.index(name) for name in ("seen", "emitted", "filtered"))
_LOST = {index: name.removeprefix("lost_") for index, name in enumerate(_FIELDS) if name.startswith("lost_")}
"""Index in struct xg_ledger -> cause: ``ring`` and ``map`` had no room."""

UNREAD, MALFORMED, UNACCOUNTED = "unread", "malformed", "unaccounted"
"""Causes in user space: left in the kernel at the end; no event at all; missing in the kernel's sum."""


@dataclass(slots=True)
class Tally:
    """User space's share of one kind. ``received``: read from the kernel, whatever became of it then."""

    received: int = 0
    emitted: int = 0
    filtered: int = 0
    malformed: int = 0
    unknown: int = 0

    @property
    def decided(self) -> int:
        return self.emitted + self.filtered + self.malformed


@dataclass(frozen=True, slots=True)
class Ledger:
    """``kinds``: of events; ``tasks``: of fork, exec and exit, which are read but are no records."""

    kinds: dict[str, KindLedger]
    tasks: dict[str, KindLedger]

    @property
    def total(self) -> KindLedger:
        """All events together: the numbers of the closing sentence."""
        return total(self.kinds.values())


def balance(kernel: Mapping[int, Sequence[int]], user: Mapping[str, Tally], final: bool = False) -> Ledger:
    """``kernel``: kind -> the fields of struct xg_ledger, summed over CPUs; ``user``: kind -> tally.

    While a trace runs, what still waits in the ring or to be put in order is not seen yet. With ``final``
    nothing will be read any more, so that it is lost.
    """

    def books(numbers: Mapping[int, str]) -> dict[str, KindLedger]:
        return {
            kind: _one(kernel.get(number, ()), user.get(kind, Tally()), final)
            for number, kind in numbers.items()
        }

    return Ledger(books(KINDS), books(TASKS))


def total(kinds: Iterable[KindLedger]) -> KindLedger:
    seen = emitted = filtered = unknown = 0
    lost: dict[str, int] = {}
    for one in kinds:
        seen, emitted, filtered = seen + one.seen, emitted + one.emitted, filtered + one.filtered
        unknown += one.unknown
        for cause, count in one.lost.items():
            lost[cause] = lost.get(cause, 0) + count
    return KindLedger(seen, emitted, filtered, unknown, lost)


def adds_up(one: KindLedger) -> bool:
    return one.seen == one.emitted + one.filtered + sum(one.lost.values())


def _one(fields: Sequence[int], user: Tally, final: bool) -> KindLedger:
    kernel = [*fields, *[0] * (len(_FIELDS) - len(fields))]
    lost = {cause: kernel[index] for index, cause in _LOST.items()}
    # The kernel's numbers are read before or after the ring is: what was received was certainly emitted.
    emitted = max(kernel[_EMITTED], user.received)
    filtered = kernel[_FILTERED] + user.filtered
    lost[MALFORMED] = user.malformed
    waiting = max(emitted - user.decided, 0)
    if final:
        lost[UNREAD] = waiting
    # An event is counted as seen first: one that is between its two counts is seen by nobody yet.
    missing = max(kernel[_SEEN] - emitted - kernel[_FILTERED] - sum(kernel[index] for index in _LOST), 0)
    if final:
        lost[UNACCOUNTED] = missing
    lost = {cause: count for cause, count in lost.items() if count}
    seen = user.emitted + filtered + sum(lost.values())
    return KindLedger(seen, user.emitted, filtered, user.unknown, lost)
