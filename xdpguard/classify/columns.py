"""One hook's rules as columns: for each dimension the distinct value sets, and which of them each rule has.

Pure. A dimension's values are the indices that ``bpf/include/l4.h`` gives a packet; their layout is in abi.h
(XG_L4_*, XG_VLAN_*). Addresses are 32-bit and 128-bit integers.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
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


Columns = dict[str, Column]
"""By the field names of ``Conditions``."""


def columns(matches: Iterable[Match]) -> Columns:
    """The columns of the rules' conditions, in the rules' order."""
    wanted = [conditions(match) for match in matches]
    return {name: column([getattr(each, name) for each in wanted], bits=FIELDS[name]) for name in FIELDS}


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
    first = [low for intervals in distinct for low, _ in intervals]
    after = [(high + 1) & ((1 << bits) - 1) for intervals in distinct for _, high in intervals]
    return Sets(np.r_[0, np.cumsum(lengths)], bounds(first, bits), bounds(after, bits))


def bounds(values: Sequence[int], bits: int) -> Bounds:
    if bits > 64:
        joined = b"".join(value.to_bytes(16, "big") for value in values)
        return np.frombuffer(joined, dtype="S16")
    return np.array(values, dtype=np.uint64)
