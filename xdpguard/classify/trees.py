"""Intervals of addresses with what is known of them -> the lines of an address tree (bpf/include/tree.h).

Pure NumPy. Every array starts on a cache line and is padded to whole lines with the highest address, which no
address is above, so no search can end in the padding.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.columns import Bounds, Numbers
from xdpguard.classify.partition import expand

_ABI = abi()
LINE = _ABI.numbers["XG_LINE"]
LEVELS = _ABI.numbers["XG_TREE_LEVELS"]
_ROW = np.dtype([("last", "<u4"), ("pair", "<u4"), ("word", "<u8")])
_HEAD = np.dtype([("high", "<u8"), ("first", "<u4"), ("steps", "<u4")])
if _ROW.itemsize != _ABI.structs["xg_row"].size or _HEAD.itemsize != _ABI.structs["xg_head"].size:
    raise AssertionError("abi.h and classify/trees.py disagree on struct xg_row or xg_head")
_PER_LEAF = LINE // _ROW.itemsize
_NODE_SHIFT = _ABI.numbers["XG_NODE_SHIFT"]
_INDEX_BITS = ((0, 0.0), (4, 0.0), (8, 0.0), (10, 0.05), (12, 0.1), (14, 0.25), (16, 0.5))
"""Sizes of an index, and what each costs in cache, in levels of a search."""
_MOST32, _MOST64 = 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Index:
    """Where a search begins: ``entries[(address - base) >> shift]``, clamped at both ends."""

    base: int
    shift: int
    entries: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Tree:
    """``levels``: the lowest first; ``lows`` and ``rows``: of IPv6 only, where ``leaves`` are heads."""

    index: Index
    levels: list[NDArray[Any]]
    leaves: NDArray[Any]
    lows: NDArray[np.uint64] | None = None
    rows: NDArray[Any] | None = None


def build(starts: Bounds, pair: Numbers, word: NDArray[np.uint64]) -> Tree:
    """``starts[i]`` begins interval i, ``pair[i]`` and ``word[i]`` are known of it.

    Equal neighbours become one.
    """
    keep = np.r_[True, (pair[1:] != pair[:-1]) | (word[1:] != word[:-1])]
    starts, pair, word = starts[keep], pair[keep], word[keep]
    rows = np.zeros(len(starts), dtype=_ROW)
    rows["pair"], rows["word"] = pair, word
    if starts.dtype.kind != "S":
        rows["last"] = np.r_[(starts[1:] - np.uint64(1)).astype(np.uint32), np.uint32(_MOST32)]
        levels = _levels(rows["last"])
        return Tree(_index(rows["last"], len(levels)), levels, _padded(rows, _PER_LEAF, "last", _MOST32))
    return _build6(starts, rows)


def _build6(starts: Bounds, rows: NDArray[Any]) -> Tree:
    halves = np.frombuffer(starts.tobytes(), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    after_high, after_low = halves[1:, 0], halves[1:, 1]
    high = np.r_[after_high - (after_low == 0).astype(np.uint64), np.uint64(_MOST64)]
    low = np.r_[after_low - np.uint64(1), np.uint64(_MOST64)]
    new = np.r_[True, high[1:] != high[:-1]]
    first = np.nonzero(new)[0]
    counts = np.diff(np.r_[first, len(high)])
    # An address behind all that end in its high half lies in the next interval: one more than is compared.
    compared = counts - (low[first + counts - 1] == _MOST64)
    steps = np.ceil(np.log2(compared + 1)).astype(np.int64)
    head, place = expand(1 << steps)
    at = first[head] + np.minimum(place, compared[head])
    heads = np.zeros(len(first), dtype=_HEAD)
    heads["high"], heads["steps"] = high[first], steps
    heads["first"] = np.cumsum(1 << steps) - (1 << steps)
    lows = np.where(place < compared[head], low[at], np.uint64(_MOST64))
    levels = _levels(heads["high"])
    leaves = _padded(heads, _PER_LEAF, "high", _MOST64)
    return Tree(_index(heads["high"], len(levels)), levels, leaves, lows, rows[at])


def _levels(lasts: NDArray[Any]) -> list[NDArray[Any]]:
    """The levels above the leaves, the lowest first:

    the highest key of every line below, until one line is left.
    """
    per_line = LINE // lasts.dtype.itemsize
    most = np.array(_MOST64, dtype=np.uint64).astype(lasts.dtype)
    keys, width, levels = lasts, _PER_LEAF, []
    while len(keys) > width:
        ends = np.minimum(np.arange(width - 1, len(keys) + width - 1, width), len(keys) - 1)
        keys, width = keys[ends], per_line
        padding = -len(keys) % per_line
        levels.append(np.r_[keys, np.full(padding, most, dtype=lasts.dtype)])
    return levels


def _index(lasts: NDArray[Any], depth: int) -> Index:
    """The index that spares most levels for its size. ``lasts``: keys of the leaves' rows."""
    keys = lasts.astype(np.uint64)
    # Below the first key and above the last but one there is nothing to tell apart.
    base, span = int(keys[0]), int(keys[-2]) - int(keys[0]) if len(keys) > 1 else 0
    choices = []
    for bits, price in _INDEX_BITS:
        if bits and 1 << bits > 4 * len(keys):
            break
        shift = max(span.bit_length() - bits, 0)
        node, levels = _entry_points(keys, base, shift, span >> shift, depth, LINE // lasts.dtype.itemsize)
        stretch = np.minimum(
            (np.maximum(keys, np.uint64(base)) - np.uint64(base)) >> np.uint64(shift), span >> shift
        )
        entries = (node | levels << _NODE_SHIFT).astype(np.uint32)
        choices.append((float(levels[stretch.astype(np.int64)].mean()) + price, Index(base, shift, entries)))
    return min(choices, key=lambda choice: choice[0])[1]


def _entry_points(
    keys: NDArray[np.uint64], base: int, shift: int, most: int, depth: int, per_line: int
) -> tuple[Numbers, Numbers]:
    """For each stretch the lowest node that all of its rows are under, and how many levels that is above the
    leaves.
    """
    starts = np.uint64(base) + (np.arange(most + 1, dtype=np.uint64) << np.uint64(shift))
    first = np.searchsorted(keys, starts)
    last = np.r_[np.searchsorted(keys, starts[1:] - np.uint64(1)), len(keys) - 1]
    node, end, levels = first // _PER_LEAF, last // _PER_LEAF, np.zeros(most + 1, dtype=np.int64)
    for _ in range(depth):
        apart = node != end
        # Whoever is still apart goes one level up.
        node, end = np.where(apart, node // per_line, node), np.where(apart, end // per_line, end)
        levels += apart
    return node, levels


def _padded(array: NDArray[Any], multiple: int, key: str, most: int) -> NDArray[Any]:
    padding = np.repeat(array[-1:], -len(array) % multiple)
    padding[key] = most
    return np.concatenate([array, padding])
