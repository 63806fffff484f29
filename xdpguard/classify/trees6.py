"""Intervals of IPv6 addresses with what is known of them -> leaves by upper half, and where lower halves are
told apart.

Pure NumPy. Most upper halves have one interval or three: a prefix of at most 64 bits ends with one, a longer
prefix has in its half what is before it and, alike, what is behind it. Those are found in the leaf itself and
in half a line more.
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
_LEAF = np.dtype([("high", "<u8", 3), ("word", "<u8", 3), ("pair", "<u4", 3), ("kinds", "<u4")])
_BLOCK = np.dtype([("first", "<u8"), ("last", "<u8"), ("word", "<u8"), ("pair", "<u4"), ("pad", "<u4")])
if _LEAF.itemsize != _ABI.structs["xg_leaf6"].size or _BLOCK.itemsize != _ABI.structs["xg_block6"].size:
    raise AssertionError("abi.h and classify/trees6.py disagree on struct xg_leaf6 or xg_block6")
PER_LEAF = 3
_SHIFT = _ABI.numbers["XG_FIRST_BLOCK"]
_SAME, _BLOCK_OF, _SEARCH = (_ABI.numbers[f"XG_{name}"] for name in ("SAME", "BLOCK", "SEARCH"))
MOST = 0xFFFFFFFFFFFFFFFF


@dataclass(frozen=True, slots=True)
class Halves:
    """``highs``: the upper halves in which intervals end, ascending. ``leaves``: struct xg_leaf6; ``blocks``:
    struct xg_block6; ``lows`` and ``rows``: for binary searches.
    """

    highs: NDArray[np.uint64]
    leaves: NDArray[Any]
    blocks: NDArray[Any]
    lows: NDArray[np.uint64]
    rows: NDArray[Any]


def halves(starts: Bounds, rows: NDArray[Any]) -> Halves:
    """``starts[i]``, big-endian, begins interval i; ``rows[i]`` is its struct xg_row."""
    split = np.frombuffer(starts.tobytes(), dtype=">u8").reshape(-1, 2).astype(np.uint64)
    after_high, after_low = split[1:, 0], split[1:, 1]
    high = np.r_[after_high - (after_low == 0).astype(np.uint64), np.uint64(MOST)]
    low = np.r_[after_low - np.uint64(1), np.uint64(MOST)]
    first = np.nonzero(np.r_[True, high[1:] != high[:-1]])[0]
    counts = np.diff(np.r_[first, len(high)])
    # An address behind all that end in its upper half lies in the next interval: one more than is compared.
    compared = counts - (low[first + counts - 1] == MOST)
    word, pair = rows["word"][first], rows["pair"][first]
    blocks, is_block = _blocks(first, compared, low, rows)
    kinds = np.select([compared == 0, is_block], [_SAME, _BLOCK_OF], _SEARCH)
    searched = kinds == _SEARCH
    lows, found, steps = _searches(first[searched], compared[searched], low, rows)
    word[searched] = steps
    pair[searched] = np.cumsum(1 << steps) - (1 << steps)
    return Halves(high[first], _leaves(high[first], word, pair, kinds), blocks, lows, found)


def _blocks(
    first: Numbers, compared: Numbers, low: NDArray[np.uint64], rows: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """The blocks, and which upper halves have one: behind the second interval it must be as before it."""
    second, behind = first + np.minimum(compared, 1), first + np.minimum(compared, 2)
    alike = (rows["word"][behind] == rows["word"][first]) & (rows["pair"][behind] == rows["pair"][first])
    chosen = (compared == 1) | (compared == 2) & alike
    made = np.zeros(int(chosen.sum()), dtype=_BLOCK)
    made["first"] = low[first[chosen]] + np.uint64(1)
    made["last"] = np.where(compared[chosen] == 2, low[second[chosen]], np.uint64(MOST))
    made["word"], made["pair"] = rows["word"][second[chosen]], rows["pair"][second[chosen]]
    return made, chosen


def _searches(
    first: Numbers, compared: Numbers, low: NDArray[np.uint64], rows: NDArray[Any]
) -> tuple[NDArray[np.uint64], NDArray[Any], Numbers]:
    """-> lower halves, rows, and the steps of each search."""
    steps = np.ceil(np.log2(compared + 1)).astype(np.int64)
    search, place = expand(1 << steps)
    at = first[search] + np.minimum(place, compared[search])
    lows = np.where(place < compared[search], low[at], np.uint64(MOST))
    return lows, rows[at], steps


def _leaves(
    high: NDArray[np.uint64], word: NDArray[np.uint64], pair: Numbers, kinds: Numbers
) -> NDArray[Any]:
    """Whole lines: what fills the last one is the highest address again."""
    padding = -len(high) % PER_LEAF
    made = np.zeros((len(high) + padding) // PER_LEAF, dtype=_LEAF)
    for name, values in (("high", high), ("word", word), ("pair", pair)):
        made[name] = np.r_[values, np.repeat(values[-1:], padding)].reshape(-1, PER_LEAF)
    by_leaf = np.r_[kinds, np.repeat(_SAME, padding)].reshape(-1, PER_LEAF)
    blocks = (by_leaf == _BLOCK_OF).sum(axis=1)
    made["kinds"] = (by_leaf << np.arange(PER_LEAF) * 2).sum(axis=1) | (np.cumsum(blocks) - blocks) << _SHIFT
    return made
