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
from xdpguard.classify import trees6
from xdpguard.classify.columns import Bounds, Numbers
from xdpguard.classify.trees6 import Halves

_ABI = abi()
LINE = _ABI.numbers["XG_LINE"]
LEVELS = _ABI.numbers["XG_TREE_LEVELS"]
_ROW = np.dtype([("last", "<u4"), ("pair", "<u4"), ("word", "<u8")])
if _ROW.itemsize != _ABI.structs["xg_row"].size:
    raise AssertionError("abi.h and classify/trees.py disagree on struct xg_row")
_PER_LEAF = LINE // _ROW.itemsize
_NODE_SHIFT = _ABI.numbers["XG_NODE_SHIFT"]
_INDEX_BITS = ((0, 0.0), (4, 0.0), (8, 0.0), (10, 0.05), (12, 0.1), (14, 0.25), (16, 0.5))
"""Sizes of an index, and what each costs in cache, in levels of a search."""
_MOST32 = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class Index:
    """Where a search begins: ``entries[(address - base) >> shift]``, clamped at both ends."""

    base: int
    shift: int
    entries: NDArray[np.uint32]


@dataclass(frozen=True, slots=True)
class Tree:
    """``levels``: the lowest first. ``leaves``: of IPv4, struct xg_row. ``halves``: of IPv6, all that is
    below the levels. ``rows``: how many intervals it tells apart.
    """

    index: Index
    levels: list[NDArray[Any]]
    leaves: NDArray[Any]
    rows: int
    halves: Halves | None = None


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
        index, levels = _above(rows["last"], _PER_LEAF)
        return Tree(index, levels, _padded(rows), len(rows))
    found = trees6.halves(starts, rows)
    index, levels = _above(found.highs, trees6.PER_LEAF)
    return Tree(index, levels, found.leaves, len(rows), found)


def _above(lasts: NDArray[Any], per_leaf: int) -> tuple[Index, list[NDArray[Any]]]:
    """What is above the leaves. ``lasts``: their keys."""
    levels = _levels(lasts, per_leaf)
    return _index(lasts, per_leaf, len(levels)), levels


def _levels(lasts: NDArray[Any], width: int) -> list[NDArray[Any]]:
    """The levels above the leaves, the lowest first:

    the highest key of every line below, of ``width`` keys, until one line is left.
    """
    per_line = LINE // lasts.dtype.itemsize
    most = np.array(trees6.MOST, dtype=np.uint64).astype(lasts.dtype)
    keys, levels = lasts, []
    while len(keys) > width:
        ends = np.minimum(np.arange(width - 1, len(keys) + width - 1, width), len(keys) - 1)
        keys, width = keys[ends], per_line
        padding = -len(keys) % per_line
        levels.append(np.r_[keys, np.full(padding, most, dtype=lasts.dtype)])
    return levels


def _index(lasts: NDArray[Any], per_leaf: int, depth: int) -> Index:
    """The index that spares most levels for its size. ``lasts``: keys of the leaves' rows."""
    keys = lasts.astype(np.uint64)
    # Below the first key and above the last but one there is nothing to tell apart.
    base, span = int(keys[0]), int(keys[-2]) - int(keys[0]) if len(keys) > 1 else 0
    choices = []
    for bits, price in _INDEX_BITS:
        if bits and 1 << bits > 4 * len(keys):
            break
        shift = max(span.bit_length() - bits, 0)
        widths = per_leaf, LINE // lasts.dtype.itemsize
        node, levels = _entry_points(keys, base, shift, span >> shift, depth, widths)
        stretch = np.minimum(
            (np.maximum(keys, np.uint64(base)) - np.uint64(base)) >> np.uint64(shift), span >> shift
        )
        entries = (node | levels << _NODE_SHIFT).astype(np.uint32)
        choices.append((float(levels[stretch.astype(np.int64)].mean()) + price, Index(base, shift, entries)))
    return min(choices, key=lambda choice: choice[0])[1]


def _entry_points(
    keys: NDArray[np.uint64], base: int, shift: int, most: int, depth: int, widths: tuple[int, int]
) -> tuple[Numbers, Numbers]:
    """For each stretch the lowest node that all of its rows are under, and how many levels that is above the
    leaves. ``widths``: keys of a leaf, and of a node.
    """
    per_leaf, per_line = widths
    starts = np.uint64(base) + (np.arange(most + 1, dtype=np.uint64) << np.uint64(shift))
    first = np.searchsorted(keys, starts)
    last = np.r_[np.searchsorted(keys, starts[1:] - np.uint64(1)), len(keys) - 1]
    node, end, levels = first // per_leaf, last // per_leaf, np.zeros(most + 1, dtype=np.int64)
    for _ in range(depth):
        apart = node != end
        # Whoever is still apart goes one level up.
        node, end = np.where(apart, node // per_line, node), np.where(apart, end // per_line, end)
        levels += apart
    return node, levels


def _padded(rows: NDArray[Any]) -> NDArray[Any]:
    padding = np.repeat(rows[-1:], -len(rows) % _PER_LEAF)
    padding["last"] = _MOST32
    return np.concatenate([rows, padding])
