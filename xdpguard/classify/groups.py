"""The rules of one group -> one word per class (or pair of classes), and the lists that the words point to.

Pure NumPy. The layout of words and entries is in abi.h.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.columns import Numbers
from xdpguard.classify.lanes import BROAD_MOST, BROAD_SHIFT, GUARDS, Lanes
from xdpguard.classify.partition import expand

_NUMBERS = abi().numbers
NO_RULE = _NUMBERS["XG_NO_RULE"]
MAX_LIST = _NUMBERS["XG_MAX_LIST"]
_AT_SHIFT = np.uint64(_NUMBERS["XG_AT_SHIFT"])
_LIST = np.uint64(1 << _NUMBERS["XG_LIST_SHIFT"])
_LAST = np.uint64(1 << 63)

Words = NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Ranges:
    """Ranges of broad classes per rule: ``low`` and ``high`` from ``offsets[r]`` to ``offsets[r + 1]``."""

    offsets: Numbers
    low: Numbers
    high: Numbers


def everywhere(rules: int) -> Ranges:
    """Every rule with the whole range."""
    return Ranges(np.arange(rules + 1), np.zeros(rules, np.int64), np.full(rules, BROAD_MOST))


@dataclass(frozen=True, slots=True)
class Placed:
    """Rules at their places: ``keys`` (class, or pair of classes), rule, and its pair of condition words."""

    keys: Numbers
    rules: Numbers
    low: Words
    high: Words


def place(keys: Numbers, rules: Numbers, lanes: Lanes, broad: Ranges) -> Placed:
    """One place per (key, rule) given, per pair of lane words, per range of broad classes."""
    words = np.diff(lanes.offsets)[rules]
    ranges = np.diff(broad.offsets)[rules]
    index, step = expand(words * ranges)
    rule, width = rules[index], np.maximum(ranges, 1)[index]
    word = lanes.offsets[rule] + step // width
    part = broad.offsets[rule] + step % width
    shift = np.uint64(BROAD_SHIFT)
    low = lanes.low[word] | broad.low[part].astype(np.uint64) << shift
    high = lanes.high[word] | broad.high[part].astype(np.uint64) << shift
    return Placed(keys[index], rule, low, high | np.uint64(GUARDS))


@dataclass(slots=True)
class Conditions:
    """The distinct pairs of condition words of a hook, and its list entries, as they are added."""

    low: Words = field(default_factory=lambda: np.zeros(0, np.uint64))
    high: Words = field(default_factory=lambda: np.zeros(0, np.uint64))
    entries: Words = field(default_factory=lambda: np.zeros(0, np.uint64))

    def add(self, low: Words, high: Words) -> Numbers:
        """The number of each pair."""
        all_low, all_high = np.r_[self.low, low], np.r_[self.high, high]
        order = np.lexsort((np.arange(len(all_low)), all_low, all_high))
        sorted_low, sorted_high = all_low[order], all_high[order]
        new = np.r_[True, (sorted_low[1:] != sorted_low[:-1]) | (sorted_high[1:] != sorted_high[:-1])]
        new = new[: len(order)]
        first = order[
            new
        ]  # the place where each distinct pair appears first: those that were there keep their number
        rank = np.argsort(np.argsort(first, kind="stable"), kind="stable")
        numbers = np.empty(len(order), np.int64)
        numbers[order] = rank[np.cumsum(new) - 1]
        kept = np.sort(first)
        before = len(self.low)
        self.low, self.high = all_low[kept], all_high[kept]
        return numbers[before:]

    def words(self, placed: Placed) -> tuple[Numbers, Words, Numbers]:
        """Per distinct key its word; and the rules that do not fit into their lists."""
        order = np.lexsort((placed.rules, placed.keys))
        keys, rules = placed.keys[order], placed.rules[order]
        low, high = placed.low[order], placed.high[order]
        keep = ~_behind_unconditional(keys, low, high)
        keys, rules, low, high = keys[keep], rules[keep], low[keep], high[keep]
        new = np.r_[True, keys[1:] != keys[:-1]][: len(keys)]
        starts = np.nonzero(new)[0]
        counts = np.diff(np.r_[starts, len(keys)])
        position = np.arange(len(keys)) - np.repeat(starts, counts)
        if (counts > MAX_LIST).any():
            return keys[:0], low[:0], np.unique(rules[position >= MAX_LIST])
        numbers = self.add(low, high).astype(np.uint64)
        entries = rules.astype(np.uint64) | numbers << _AT_SHIFT
        words = entries[starts]
        several = counts > 1
        listed = np.repeat(several, counts)
        lists = entries[listed]
        at = len(self.entries) + np.cumsum(np.r_[0, counts[several]])
        lists[at[1:] - len(self.entries) - 1] |= _LAST
        words[several] = (
            rules[starts[several]].astype(np.uint64) | at[:-1].astype(np.uint64) << _AT_SHIFT | _LIST
        )
        self.entries = np.r_[self.entries, lists]
        return keys[starts], words, rules[:0]


def _behind_unconditional(keys: Numbers, low: Words, high: Words) -> NDArray[np.bool_]:
    """Places that no packet reaches: one before them, of the same key, takes everything."""
    full = np.uint64(0xFFFFFFFFFFFFFFFF)
    takes_all = (low == 0) & (high == full)
    before = np.cumsum(takes_all) - takes_all
    new = np.r_[True, keys[1:] != keys[:-1]][: len(keys)]
    at_start = np.repeat(before[new], np.diff(np.r_[np.nonzero(new)[0], len(keys)]))
    return np.asarray(before > at_start)
