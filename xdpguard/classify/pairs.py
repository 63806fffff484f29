"""Words of pairs of classes -> a hash table whose buckets are cache lines (bpf/include/classify.h,
pair_word).

Pure NumPy. A pair lies in the line that its key hashes to, or in one of the next XG_MAX_HOPS - 1; a line with
a free place ends the search.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.columns import Numbers

_NUMBERS = abi().numbers
HOPS = _NUMBERS["XG_MAX_HOPS"]
HASH = 0x9E3779B97F4A7C15
"""XG_PAIR_HASH of classify.h: 2^64 / golden ratio (Knuth, TAOCP 3, 6.4)."""
_PAIR = np.dtype([("key", "<u8"), ("word", "<u8")])
_PER_LINE = _NUMBERS["XG_LINE"] // _PAIR.itemsize
_LOAD = 0.75
_GROWTH = 1.25


def table(keys: NDArray[np.uint64], words: NDArray[np.uint64]) -> tuple[NDArray[Any], int]:
    """``keys``: distinct, not 0. -> the lines, and how many a key may hash to."""
    lines = int(len(keys) / _PER_LINE / _LOAD) + 1
    while True:
        found = _insert(keys, words, lines)
        if found is not None:
            return found, lines
        lines = int(lines * _GROWTH) + 1


def home(keys: NDArray[np.uint64], lines: int) -> Numbers:
    """The line that each key hashes to."""
    hashed = (keys * np.uint64(HASH)) >> np.uint64(32)
    return ((hashed * np.uint64(lines)) >> np.uint64(32)).astype(np.int64)


def _insert(keys: NDArray[np.uint64], words: NDArray[np.uint64], lines: int) -> NDArray[Any] | None:
    """All pairs in rounds:

    who finds no place in a line goes on to the next one. None: the table is too small.
    """
    made = np.zeros((lines + HOPS, _PER_LINE), dtype=_PAIR)
    filled = np.zeros(lines + HOPS, dtype=np.int64)
    pending, line = np.arange(len(keys)), home(keys, lines)
    for _ in range(HOPS):
        order = np.argsort(line, kind="stable")
        pending, line = pending[order], line[order]
        new = np.r_[True, line[1:] != line[:-1]][: len(line)]
        starts = np.nonzero(new)[0]
        counts = np.diff(np.r_[starts, len(line)])
        place = np.arange(len(line)) - np.repeat(starts, counts) + filled[line]
        fits = place < _PER_LINE
        made["key"][line[fits], place[fits]] = keys[pending[fits]]
        made["word"][line[fits], place[fits]] = words[pending[fits]]
        filled[line[starts]] = np.minimum(filled[line[starts]] + counts, _PER_LINE)
        pending, line = pending[~fits], line[~fits] + 1
        if not len(pending):
            return made
    return None
