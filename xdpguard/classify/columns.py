"""One hook's rules as columns: for each dimension the distinct value sets, and which of them each rule has.

Pure. A dimension's values are the indices that ``bpf/include/l4.h`` gives a packet; their layout is in abi.h
(XG_L4_*, XG_VLAN_*). Addresses are 32-bit and 128-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.classify.conditions import FIELDS, conditions
from xdpguard.rules.model import Intervals, Match

ANY = -1
"""The set of a rule that does not look at the dimension."""

Bounds = NDArray[Any]
"""Values of one dimension: uint64, or S16 (128-bit big-endian) for IPv6 addresses."""

Numbers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Sets:
    """Distinct sets of values. The intervals of set i are ``offsets[i]`` to ``offsets[i + 1]``, ascending.

    ``first`` is the lowest value of each interval, ``after`` the one behind its highest; 0 where that is
    behind the dimension's end.
    """

    offsets: Numbers
    first: Bounds
    after: Bounds

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Column:
    """``ids[r]``: the set of rule r, or ANY."""

    ids: Numbers
    sets: Sets

    def spread(self, numbers: Numbers) -> Column:
        """The column of rules that have these entries of it."""
        return Column(self.ids[numbers], self.sets)


Columns = dict[str, Column]
"""By the field names of ``Conditions``."""


def columns(matches: Sequence[Match]) -> Columns:
    """The columns of the rules' conditions, in the rules' order.

    Rules share most objects that they consist of, so these are told apart first; what a rule wants is looked
    up once for all that have the same ones.
    """
    wanted = dict(_addresses(matches))
    rest = _Distinct(
        (*map(id, (match.protocols, match.tcp_flags, *_others(match))), match.arp, match.ipv4, match.ipv6)
        for match in matches
    )
    found = [conditions(matches[at]) for at in rest.first]
    for name in FIELDS:
        if name not in wanted:
            wanted[name] = column([getattr(each, name) for each in found], FIELDS[name]).spread(rest.numbers)
    return wanted


def _others(match: Match) -> tuple[Intervals | None, ...]:
    return match.sport, match.dport, match.icmp_type, match.icmp_code, match.vlan


def _addresses(matches: Sequence[Match]) -> Iterator[tuple[str, Column]]:
    for side in ("src", "dst"):
        values = [getattr(match, side) for match in matches]
        some = _Distinct(map(id, values))
        distinct = [values[at] for at in some.first]
        for version in ("v4", "v6"):
            name = side + version[1]
            every = ((0, (1 << FIELDS[name]) - 1),)
            parts = [getattr(addresses, version, None) for addresses in distinct]
            parts = [None if part == every else part for part in parts]
            yield name, column(parts, FIELDS[name]).spread(some.numbers)


class _Distinct:
    """``numbers[r]``: which of the distinct values rule r has; ``first``: a rule that has it."""

    def __init__(self, values: Iterable[object]) -> None:
        known: dict[object, int] = {}
        self.numbers = np.array([known.setdefault(value, len(known)) for value in values], dtype=np.int64)
        self.first = np.unique(self.numbers, return_index=True)[1].tolist()


def column(values: Sequence[Intervals | None], bits: int) -> Column:
    """One column of values below 2^bits. Equal sets of one interval are one, and so are shared tuples."""
    numbers: dict[Any, int] = {}
    distinct: list[Intervals] = []
    ids = []
    for intervals in values:
        if intervals is None:
            ids.append(ANY)
            continue
        key = intervals[0] if len(intervals) == 1 else id(intervals)
        number = numbers.setdefault(key, len(distinct))
        if number == len(distinct):
            distinct.append(intervals)
        ids.append(number)
    return Column(np.array(ids, dtype=np.int64), _sets(distinct, bits))


def _sets(distinct: Sequence[Intervals], bits: int) -> Sets:
    lengths = np.array([len(intervals) for intervals in distinct], dtype=np.int64)
    offsets = np.r_[0, np.cumsum(lengths)]
    if bits > 64:
        first = [low for intervals in distinct for low, _ in intervals]
        after = [(high + 1) & ((1 << bits) - 1) for intervals in distinct for _, high in intervals]
        return Sets(offsets, bounds(first, bits), bounds(after, bits))
    values = chain.from_iterable(chain.from_iterable(distinct))
    both = np.fromiter(values, dtype=np.uint64, count=2 * int(offsets[-1])).reshape(-1, 2)
    return Sets(offsets, both[:, 0].copy(), both[:, 1] + np.uint64(1) & np.uint64((1 << bits) - 1))


def bounds(values: Sequence[int], bits: int) -> Bounds:
    if bits > 64:
        joined = b"".join(value.to_bytes(16, "big") for value in values)
        return np.frombuffer(joined, dtype="S16")
    return np.array(values, dtype=np.uint64)
