"""One hook's rules as columns: for each dimension the distinct value sets, and which of them each rule has.

Pure. A dimension's values are the indices that ``bpf/include/l4.h`` gives a packet; their layout is in abi.h
(XG_L4_*, XG_VLAN_*). Addresses are 32-bit and 128-bit integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from xdpguard.classify.conditions import FIELDS, conditions
from xdpguard.rules.many import Matches, gathered
from xdpguard.rules.model import Action, Intervals, Match
from xdpguard.rules.values import SEVERAL, AddressValues

ANY = -1
"""The set of a rule that does not look at the dimension."""
_NO_ACTION = (Action.PASS, None)

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

    Rules share most values that they consist of, so these are told apart first; what a rule wants is looked
    up once for all that have the same ones.
    """
    rules = matches if isinstance(matches, Matches) else gathered(matches, [_NO_ACTION] * len(matches))
    templates, src, dst, sport, dport = (np.array(each, dtype=np.int64) for each in rules.columns())
    wanted = {
        f"{side}{version}": _addresses(rules.values.addresses, some, version)
        for side, some in (("src", _distinct(src)), ("dst", _distinct(dst)))
        for version in (4, 6)
    }
    alike = _distinct(templates * 4 + (sport > 0) * 2 + (dport > 0))  # but for the numbers of plain ports
    found = [conditions(rules[at]) for at in alike.first.tolist()]
    for name in ("l4", "vlan"):
        wanted[name] = column([getattr(each, name) for each in found], FIELDS[name]).spread(alike.of)
    for name, numbers in (("sport", sport), ("dport", dport)):
        some = _distinct(np.where(numbers > 0, numbers + len(found), alike.of))
        values = [
            rules.values.ports[number - len(found)] if number >= len(found) else getattr(found[number], name)
            for number in some.values.tolist()
        ]
        wanted[name] = column(values, FIELDS[name]).spread(some.of)
    return wanted


class _Distinct(NamedTuple):
    """``of[r]``: which of the distinct values, in the order in which they appear, rule r has; ``first``: the
    first rule that has it; ``values``: themselves."""

    of: Numbers
    first: Numbers
    values: Numbers


def _distinct(values: Numbers) -> _Distinct:
    """``values``: from 0, not many times as high as there are rules or values."""
    first = np.full(values.max(initial=-1) + 1, len(values))
    first[values[::-1]] = np.arange(len(values) - 1, -1, -1)
    found = np.nonzero(first < len(values))[0]
    found = found[np.argsort(first[found])]
    number = np.empty(len(first), dtype=np.int64)
    number[found] = np.arange(len(found))
    return _Distinct(number[values], first[found], found)


def _addresses(values: AddressValues, some: _Distinct, version: int) -> Column:
    """Those of one side in one IP version. Equal sets of one interval are one, and so are shared tuples."""
    bits = 32 if version == 4 else 128
    kinds = np.array(values.kinds, dtype=np.int64)[some.values]
    numbers = some.values.tolist()
    several: dict[int, Intervals] = {}
    alike = np.where(kinds == version, np.arange(len(kinds)), len(kinds))
    wanted = (kinds == 4) | (kinds == 6)
    known: dict[int, int] = {}
    for at in np.nonzero(kinds == SEVERAL)[0].tolist():
        addresses = values[numbers[at]]
        intervals = getattr(addresses, f"v{version}")
        wanted[at] = intervals != ((0, (1 << bits) - 1),)
        alike[at] = known.setdefault(id(intervals), at) if intervals else len(kinds)
        several[at] = intervals
    sets = _distinct(alike[wanted])
    ids = np.full(len(kinds), ANY)
    ids[wanted] = sets.of
    first, last = values.first, values.last
    several[len(kinds)] = ()
    distinct = [
        several[at] if at in several else ((first[numbers[at]], last[numbers[at]]),)
        for at in sets.values.tolist()
    ]
    return Column(ids, _sets(distinct, bits)).spread(some.of)


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
