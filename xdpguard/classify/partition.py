"""Sets of addresses -> elementary intervals, and the classes that the sets divide them into.

Pure NumPy; the same for 32-bit and 128-bit addresses, which are known by their rank. A class is "these sets
contain it, those do not". Intervals are told apart by the sum of a random 128-bit number per set, so sets may
be prefixes, ranges, or a million entries each.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.classify.columns import Bounds, Numbers, Sets

_SEED = 0x5DEECE66D


@dataclass(frozen=True, slots=True)
class Ranked:
    """The sets of one column in ranks: elementary interval k begins at ``starts[k]``, ``starts[0]`` is 0.

    Interval j of set i, ``offsets[i] <= j < offsets[i + 1]``, is the elementary intervals ``low[j]`` to
    ``high[j] - 1``.
    """

    starts: Bounds
    offsets: Numbers
    low: Numbers
    high: Numbers

    def __len__(self) -> int:
        return len(self.offsets) - 1


@dataclass(frozen=True, slots=True)
class Classes:
    """``of[k]``: class of elementary interval k, numbered by first appearance so that nested sets are ranges
    of classes; 0 is the class that no set contains, present or not. ``count``: that of the classes.
    ``first[c - 1]``: the first elementary interval of class c.
    """

    of: Numbers
    count: int
    first: Numbers


def rank(sets: Sets, zero: Bounds) -> Ranked:
    """``zero``: an array of the one value 0, of the column's type."""
    ordered = np.sort(np.concatenate([zero, sets.first, sets.after]))  # np.unique would hash first: slower
    starts = ordered[np.r_[True, ordered[1:] != ordered[:-1]]]
    high = np.searchsorted(starts, sets.after)
    return Ranked(
        starts,
        sets.offsets,
        np.searchsorted(starts, sets.first),
        np.where(high == 0, len(starts), high),
    )


def expand(counts: Numbers) -> tuple[Numbers, Numbers]:
    """For counts c: each index i repeated c[i] times, and 0 to c[i] - 1 beside it."""
    index = np.repeat(np.arange(len(counts)), counts)
    starts = np.cumsum(counts) - counts
    return index, np.arange(len(index)) - starts[index]


def intervals_of(ranked: Ranked, chosen: Numbers) -> tuple[Numbers, Numbers]:
    """The intervals of the chosen sets: place in ``chosen``, index of the interval."""
    counts = ranked.offsets[chosen + 1] - ranked.offsets[chosen]
    which, step = expand(counts)
    return which, ranked.offsets[chosen][which] + step


def divide(ranked: Ranked, chosen: Numbers) -> Classes:
    """The classes into which the chosen sets (distinct numbers) divide the elementary intervals."""
    which, interval = intervals_of(ranked, chosen)
    size = len(ranked.starts)
    rng = np.random.default_rng(_SEED)
    sums = [
        _sums(rng, which, ranked.low[interval], ranked.high[interval], len(chosen), size) for _ in range(2)
    ]
    values, where, number = np.unique(sums[0], return_index=True, return_inverse=True)
    number = number.ravel()
    if not np.array_equal(sums[1][where][number], sums[1]):
        raise AssertionError("two different classes have the same 64-bit sum")
    where = np.where(values == 0, -1, where)
    order = np.argsort(where, kind="stable")
    uncovered = bool(len(values)) and where[order[0]] == -1
    renumbered = np.empty(len(values), dtype=np.int64)
    renumbered[order] = np.arange(len(values)) + (not uncovered)
    first = where[order][int(uncovered) :]
    return Classes(renumbered[number], len(first) + 1, first)


def _sums(
    rng: np.random.Generator, which: Numbers, low: Numbers, high: Numbers, sets: int, size: int
) -> NDArray[np.uint64]:
    """For each elementary interval the sum of the random numbers of the sets that contain it."""
    marks = rng.integers(0, 1 << 64, sets, dtype=np.uint64)[which]
    changes = np.zeros(size + 1, dtype=np.uint64)
    np.add.at(changes, low, marks)
    np.subtract.at(changes, high, marks)
    return np.cumsum(changes[:-1], dtype=np.uint64)


def spans(ranked: Ranked, chosen: Numbers, classes: Classes) -> tuple[Numbers, Numbers, Numbers]:
    """Per interval of the chosen sets the classes that begin in it: place in ``chosen``, lowest, how many.

    A set that took part in ``divide`` contains a class wholly or not at all, so where the class begins tells.
    The work grows with the classes, not with the elementary intervals: a set of a million entries makes two
    million of these in every broad set over it.
    """
    which, interval = intervals_of(ranked, chosen)
    begins = np.zeros(len(ranked.starts) + 1, dtype=np.int64)
    begins[classes.first + 1] = 1
    before = np.cumsum(begins)  # classes that begin before an elementary interval
    low = before[ranked.low[interval]] + 1
    return which, low, before[ranked.high[interval]] + 1 - low


def covers(ranked: Ranked, chosen: Numbers, classes: Classes) -> tuple[Numbers, Numbers]:
    """The classes of each chosen set: (offsets, classes ascending), set i at offsets[i] to offsets[i + 1]."""
    which, low, count = spans(ranked, chosen, classes)
    index, step = expand(count)
    return np.searchsorted(which[index], np.arange(len(chosen) + 1)), low[index] + step


def ranges(ranked: Ranked, chosen: Numbers, classes: Classes) -> tuple[Numbers, Numbers, Numbers]:
    """The same as maximal runs of consecutive classes: (offsets, lowest, highest)."""
    which, low, count = spans(ranked, chosen, classes)
    which, low, count = which[count > 0], low[count > 0], count[count > 0]
    begins = np.r_[True, (low[1:] != (low + count)[:-1]) | (which[1:] != which[:-1])][: len(which)]
    starts = np.nonzero(begins)[0]
    ends = np.r_[starts[1:], len(which)][: len(starts)] - 1
    offsets = np.searchsorted(which[starts], np.arange(len(chosen) + 1))
    return offsets, low[starts], (low + count)[ends] - 1


def sizes(ranked: Ranked, chosen: Numbers, classes: Classes) -> Numbers:
    """How many classes each chosen set consists of."""
    which, _, count = spans(ranked, chosen, classes)
    return np.bincount(which, count, len(chosen)).astype(np.int64)


def runs(offsets: Numbers, values: Numbers) -> tuple[Numbers, Numbers, Numbers]:
    """Ascending values per set -> maximal runs of consecutive ones: (offsets, lowest, highest)."""
    owner = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    begins = np.r_[True, (values[1:] != values[:-1] + 1) | (owner[1:] != owner[:-1])][: len(values)]
    starts = np.nonzero(begins)[0]
    ends = np.r_[starts[1:], len(values)][: len(starts)] - 1
    return np.searchsorted(owner[starts], np.arange(len(offsets))), values[starts], values[ends]
