"""Tables -> the bytes of one generation, laid out as ``struct xg_blob`` of abi.h says.

Pure. Offsets are relative to the start, so the bytes stay valid wherever they are copied.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.bitvectors import WORDS, Dimension
from xdpguard.classify.tables import MAX_BYTES, too_large
from xdpguard.classify.trees import LINE, Tree
from xdpguard.errors import Problem, RulesError

_ABI = abi()
_RECORD = _ABI.numbers["XG_MAX_BLOCKS"]
RECORD_BYTES = 4 * _RECORD


class Blob:
    """A growing list of arrays at known offsets; ``finish`` joins them, and leaves none."""

    def __init__(self, file: str) -> None:
        self._file = file
        self._parts: list[tuple[int, NDArray[Any]]] = []
        self._end = _ABI.structs["xg_blob"].size
        self.header = bytearray(self._end)

    def put(self, array: NDArray[Any], align: int = 8) -> int:
        """Append an array on an ``align``-byte boundary; return its offset."""
        offset = -(-self._end // align) * align
        self._parts.append((offset, array))
        self._end = offset + array.nbytes
        if self._end > MAX_BYTES:
            raise too_large(self._file)
        return offset

    def refused(self, message: str) -> RulesError:
        return RulesError([Problem(self._file, 0, 0, "error", message)])

    def finish(self) -> NDArray[np.uint8]:
        joined = np.zeros(-(-self._end // 8) * 8, dtype=np.uint8)
        joined[: len(self.header)] = np.frombuffer(self.header, dtype=np.uint8)
        while self._parts:  # each goes once it is copied: all of them twice may be too much
            offset, array = self._parts.pop()
            joined[offset : offset + array.nbytes] = np.ascontiguousarray(array).view(np.uint8).ravel()
        return joined

    def put_classes(self, dimension: Dimension) -> int:
        """Write a dimension's blocks and class records; return the offset of the records."""
        # A class that has no rule in a block has that of no rules.
        blocks = np.r_[dimension.blocks, np.zeros((1, WORDS), dtype=np.uint64)]
        words = np.zeros((len(blocks), WORDS + 1), dtype=np.uint64)
        words[:, 1:] = blocks
        words[:, 0] = _bitmap(blocks != 0)
        empty = len(blocks) - 1
        number = np.full((len(dimension.members), _RECORD), empty)
        number[:, : dimension.members.shape[1]] = np.where(dimension.members < 0, empty, dimension.members)
        offsets = self.put(words) + number * (8 * (WORDS + 1))
        return self.put(offsets.astype(np.uint32), RECORD_BYTES)

    def put_paged(self, dimension: Dimension, pages: int, at: int) -> None:
        """Write a small dimension as ``struct xg_paged`` at offset ``at`` of the header."""
        ends = np.r_[dimension.starts[1:], np.uint64(pages * 256)]
        values = np.repeat(dimension.numbers.astype(np.uint16), (ends - dimension.starts).astype(np.int64))
        entries, page_numbers = np.unique(values.reshape(pages, 256), axis=0, return_inverse=True)
        self.fields(
            "xg_paged",
            at,
            pages=self.put(page_numbers.ravel().astype(np.uint16)),
            entries=self.put(entries),
            classes=self.put_classes(dimension),
        )

    def put_numbers(self, dimension: Dimension, count: int) -> tuple[int, int]:
        """Write a dimension over ``count`` values as __u32 per value, the offset of its class record.

        Return the offset of these, and the last of them.
        """
        records = self.put_classes(dimension)
        lengths = np.diff(np.r_[dimension.starts, np.uint64(count)].astype(np.int64))
        offsets = records + np.repeat(dimension.numbers.astype(np.int64), lengths) * RECORD_BYTES
        return self.put(offsets.astype(np.uint32)), int(offsets[-1])

    def put_tree(self, tree: Tree, at: int) -> None:
        """Write an address tree as ``struct xg_tree`` at offset ``at`` of the header."""
        levels = [self.put(keys, LINE) for keys in tree.levels]
        struct.pack_into(f"={len(levels)}I", self.header, at + _ABI.offset("xg_tree.level"), *levels)
        self.fields(
            "xg_tree",
            at,
            base=tree.index.base,
            shift=tree.index.shift,
            most=len(tree.index.entries) - 1,
            index=self.put(tree.index.entries, LINE),
            leaves=self.put(tree.leaves, LINE),
        )
        if tree.halves is not None:
            self.fields(
                "xg_tree",
                at,
                blocks=self.put(tree.halves.blocks, LINE),
                lows=self.put(tree.halves.lows),
                rows=self.put(tree.halves.rows, LINE),
            )

    def fields(self, kind: str, at: int, **values: int) -> None:
        """Set fields of the struct ``kind`` at offset ``at`` of the header."""
        for name, value in values.items():
            _ABI.put(self.header, f"{kind}.{name}", value, at)


def _bitmap(flags: NDArray[np.bool_]) -> NDArray[np.uint64]:
    """[n, 64] truth values -> [n] words, column 0 in the lowest bit."""
    return np.packbits(flags, axis=1, bitorder="little").view(np.uint64).ravel()


def concatenate_bytes(parts: Sequence[bytes]) -> NDArray[np.uint8]:
    return np.frombuffer(b"".join(parts), dtype=np.uint8)
