"""Intervals per rule -> elementary intervals with a class each, a class being the set of rules that allow it.

Pure NumPy; knows nothing of packets or of the blob. The three-level bit vectors are those of
``bpf/include/classify.h``: Lakshman and Stiliadis (SIGCOMM 1998), aggregated as by Baboescu and Varghese
(SIGCOMM 2001).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.rules.model import Intervals

BLOCK_RULES = abi().numbers["XG_BLOCK_RULES"]
WORDS = BLOCK_RULES // 64

Bounds = NDArray[Any]
"""Ascending interval starts: uint64, or S16 (128-bit big-endian) for IPv6 addresses."""


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


def build(conditions: Sequence[Intervals | None], size: int) -> Dimension:
    """``conditions[r]``: values that rule r allows, None = all. Values are below ``size``, at most 2^128."""
    pairs = _Pairs(conditions, size, wide=size > 1 << 63)
    starts = pairs.starts
    per_block: list[NDArray[np.int64]] = []
    pool: list[NDArray[np.uint64]] = []
    pooled = 0
    for first in range(0, max(len(conditions), 1), BLOCK_RULES):
        bits = pairs.bits(first)
        unique, number = _unique_rows(bits)
        empty = ~unique.any(axis=1)
        per_block.append(np.where(empty, -1, np.arange(len(unique)) + pooled)[number])
        pool.append(unique)
        pooled += len(unique)
    member_rows, numbers = np.unique(np.stack(per_block, axis=1), axis=0, return_inverse=True)
    numbers = numbers.ravel()
    keep = np.r_[True, numbers[1:] != numbers[:-1]]
    return Dimension(starts[keep], numbers[keep].astype(np.uint32), member_rows, np.concatenate(pool))


class _Pairs:
    """Where each rule's values begin and end, over the elementary intervals of one dimension."""

    def __init__(self, conditions: Sequence[Intervals | None], size: int, *, wide: bool) -> None:
        cache: dict[int, tuple[Bounds, Bounds]] = {}
        per_rule: list[tuple[int, tuple[Bounds, Bounds]]] = []
        self._wild = np.array([values is None for values in conditions], dtype=bool)
        for rule, values in enumerate(conditions):
            if not values:
                continue
            # Rules that share one set share its tuple: convert it once.
            ends = cache.get(id(values))
            if ends is None:
                ends = cache[id(values)] = (
                    _array([first for first, _ in values], wide),
                    _array([last + 1 for _, last in values if last + 1 < size], wide),
                )
            per_rule.append((rule, ends))
        zero = _array([0], wide)
        self.starts: Bounds = np.unique(
            np.concatenate([zero, *(array for pair in cache.values() for array in pair)])
        )
        self._toggles(per_rule)

    def _toggles(self, per_rule: list[tuple[int, tuple[Bounds, Bounds]]]) -> None:
        rows = [np.searchsorted(self.starts, np.concatenate(ends)) for _, ends in per_rule]
        counts = [len(row) for row in rows]
        rules = np.repeat(np.array([rule for rule, _ in per_rule], dtype=np.int64), counts)
        self._rules = rules
        self._rows = np.concatenate(rows) if rows else np.zeros(0, dtype=np.int64)

    def bits(self, first: int) -> NDArray[np.uint64]:
        """Rule bits of the block that starts at rule ``first``: [interval, word]."""
        low, high = np.searchsorted(self._rules, [first, first + BLOCK_RULES])
        rules = self._rules[low:high] - first
        # A rule's bit changes at each of its interval ends, so a running XOR paints the intervals.
        changes = np.zeros((len(self.starts), WORDS), dtype=np.uint64)
        bit = np.uint64(1) << (rules & 63).astype(np.uint64)
        np.bitwise_xor.at(changes, (self._rows[low:high], rules >> 6), bit)
        bits = np.bitwise_xor.accumulate(changes, axis=0, out=changes)
        wild = self._wild[first : first + BLOCK_RULES]
        bits |= np.packbits(np.pad(wild, (0, BLOCK_RULES - len(wild))), bitorder="little").view(np.uint64)
        return bits


def _array(values: list[int], wide: bool) -> Bounds:
    if wide:
        return np.array([value.to_bytes(16, "big") for value in values], dtype="S16")
    return np.array(values, dtype=np.uint64)


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
