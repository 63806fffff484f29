"""Intervals per rule -> elementary intervals with a class each, a class being the set of rules that allow it.

Pure NumPy; knows nothing of packets or of the blob. The bit vectors in blocks are those of
``bpf/include/wide.h``: Lakshman and Stiliadis (SIGCOMM 1998), aggregated as by Baboescu and Varghese
(SIGCOMM 2001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.columns import ANY, Bounds, Numbers, Sets
from xdpguard.classify.partition import expand

BLOCK_RULES = abi().numbers["XG_BLOCK_RULES"]
WORDS = BLOCK_RULES // 64

_LARGE = 64
"""A set with more ends than these is painted by itself: its ends are not listed once more for each word."""


@dataclass(frozen=True, slots=True)
class Dimension:
    """One dimension of one hook.

    ``starts[i]`` begins elementary interval i, of class ``numbers[i]``; ``starts[0]`` is the lowest value.
    ``members[c]`` is class c: per block of 4,096 rules an index into ``blocks``, -1 where the block is empty.
    ``blocks[b]`` is the rule bits: WORDS uint64, rule 0 of the block in the lowest bit of word 0.
    """

    starts: Bounds
    numbers: NDArray[np.uint32]
    members: NDArray[np.int64]
    blocks: NDArray[np.uint64]


def build(ids: Numbers, sets: Sets, size: int) -> Dimension:
    """``ids[r]``: the set of values that rule r allows, or ANY. Values are below ``size``, at most 2^128."""
    changes = _Changes(ids, sets, size)
    starts = changes.starts
    per_block: list[NDArray[np.int64]] = []
    pool: list[NDArray[np.uint64]] = []
    pooled = 0
    for first in range(0, max(len(ids), 1), BLOCK_RULES):
        bits = changes.bits(first)
        unique, number = _unique_rows(bits)
        empty = ~unique.any(axis=1)
        per_block.append(np.where(empty, -1, np.arange(len(unique)) + pooled)[number])
        pool.append(unique)
        pooled += len(unique)
    member_rows, numbers = np.unique(np.stack(per_block, axis=1), axis=0, return_inverse=True)
    numbers = numbers.ravel()
    keep = np.r_[True, numbers[1:] != numbers[:-1]]
    return Dimension(starts[keep], numbers[keep].astype(np.uint32), member_rows, np.concatenate(pool))


class _Changes:
    """Where each set begins and ends, over the elementary intervals of one dimension."""

    def __init__(self, ids: Numbers, sets: Sets, size: int) -> None:
        self._ids = ids
        lengths = np.diff(sets.offsets)
        owner = np.repeat(np.arange(len(sets)), lengths)
        used = np.isin(owner, ids)
        zero = np.zeros(1, dtype=sets.first.dtype)
        ending = used & (sets.after != zero)  # 0: behind the end of all values
        if zero.dtype.kind != "S":
            ending &= sets.after < size
        ends = np.concatenate([sets.first[used], sets.after[ending]])
        self.starts: Bounds = np.unique(np.concatenate([zero, ends]))
        whose = np.concatenate([owner[used], owner[ending]])
        self._rows = np.searchsorted(self.starts, ends)[np.argsort(whose, kind="stable")]
        self._offsets = np.r_[0, np.cumsum(np.bincount(whose, minlength=len(sets)))]

    def bits(self, first: int) -> NDArray[np.uint64]:
        """Rule bits of the block that starts at rule ``first``: [interval, word]."""
        ids = self._ids[first : first + BLOCK_RULES]
        # A rule's bit changes at each end of its set's intervals, so a running XOR paints the intervals.
        changes = np.zeros((len(self.starts), WORDS), dtype=np.uint64)
        sets, words, masks = _masks(ids)
        counts = np.diff(self._offsets)[sets]
        large = counts > _LARGE
        for set_, word, mask in zip(sets[large], words[large], masks[large], strict=True):
            changes[self._rows[self._offsets[set_] : self._offsets[set_ + 1]], word] ^= mask
        which, step = expand(np.where(large, 0, counts))
        rows = self._rows[self._offsets[sets[which]] + step]
        np.bitwise_xor.at(changes, (rows, words[which]), masks[which])
        bits = np.bitwise_xor.accumulate(changes, axis=0, out=changes)
        wild = np.pad(ids == ANY, (0, BLOCK_RULES - len(ids)))
        bits |= np.packbits(wild, bitorder="little").view(np.uint64)
        return bits


def _masks(ids: Numbers) -> tuple[Numbers, Numbers, NDArray[np.uint64]]:
    """What the rules of one block change, where their sets do: (set, word, bits), one for all rules of a word
    that share a set."""
    rules = np.nonzero(ids != ANY)[0]
    keys = ids[rules] * WORDS + (rules >> 6)
    order = np.argsort(keys, kind="stable")
    keys, at = np.unique(keys[order], return_index=True)
    bits = np.uint64(1) << (rules[order] & 63).astype(np.uint64)
    masks = np.bitwise_or.reduceat(bits, at) if len(at) else bits
    return keys // WORDS, keys % WORDS, masks


def _unique_rows(rows: NDArray[np.uint64]) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    """Distinct rows and each row's index among them. Sorts 64-bit hashes; checks that none collide."""
    state = np.zeros(len(rows), dtype=np.uint64)
    for column in rows.T:
        state = (state ^ column) * np.uint64(0x9E3779B97F4A7C15)
        state ^= state >> np.uint64(32)
    _, where, number = np.unique(state, return_index=True, return_inverse=True)
    number = number.ravel()
    unique = rows[where]
    if not np.array_equal(unique[number], rows):  # a collision: compare the rows themselves
        unique, number = np.unique(rows, axis=0, return_inverse=True)
        number = number.ravel()
    return unique, number
