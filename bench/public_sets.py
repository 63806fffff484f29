"""Reads ClassBench filter files, where there are any; none of them belongs to the project.

One rule a line: ``@SRC/LEN DST/LEN LO : HI LO : HI PROTO/MASK FLAGS/MASK``, tab-separated; the flags are
not used.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
from filterset import ANY, Filters, distinct, masks

_LINE = re.compile(
    r"@(\d+)\.(\d+)\.(\d+)\.(\d+)/(\d+)\t(\d+)\.(\d+)\.(\d+)\.(\d+)/(\d+)"
    r"\t(\d+) : (\d+)\t(\d+) : (\d+)\t0x([0-9a-fA-F]+)/0x([0-9a-fA-F]+)"
)
_KEYS_SEED = 2007


def read(path: Path) -> Filters:
    """ValueError: a line that is none."""
    rows = []
    for number, line in enumerate(path.read_text().splitlines(), 1):
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"{path}:{number}: not a ClassBench rule")
        values = [int(one) for one in found.groups()[:14]]
        rows.append([*values, int(found[15], 16) if int(found[16], 16) else ANY])
    data = np.array(rows, dtype=np.int64)
    sides = data[:, :10].reshape(-1, 2, 5)
    addresses = (sides[:, :, :4] << np.array([24, 16, 8, 0])).sum(axis=2).astype(np.uint64)
    lengths = sides[:, :, 4]
    ends = np.stack([np.zeros_like(addresses), addresses], -1) & masks(lengths, 4)
    ports = data[:, 10:14].reshape(-1, 2, 2)
    return Filters(f"ClassBench {path.name}", 4, ends, lengths, ports, data[:, 14])


def enlarged(filters: Filters, rules: int) -> Filters:
    """``rules`` rules: copies with all sources and all destinations XORed by fixed random keys, which keeps
    the nesting of prefixes, in turn with the original; the n-th rules of all copies follow one another."""
    rng = np.random.default_rng(_KEYS_SEED)
    copies = -(-rules * 5 // (4 * len(filters)))  # some rules of copies are the same
    keys = rng.integers(0, 1 << 32, (copies, 2), dtype=np.uint64)
    keys[0] = 0
    mask = masks(filters.lengths, filters.family)
    while True:
        ends = np.repeat(filters.ends[:, None], copies, axis=1)
        ends[..., 1] ^= keys[None] & mask[:, None, :, 1]
        rows = np.repeat(np.arange(len(filters)), copies)
        found = filters.take(rows)
        found = distinct(
            Filters(
                filters.name, 4, ends.reshape(found.ends.shape), found.lengths, found.ports, found.protocol
            )
        )
        if len(found) >= rules:
            return found.first(rules)
        copies += 2
        keys = np.concatenate([keys, rng.integers(0, 1 << 32, (2, 2), dtype=np.uint64)])


def folder() -> Path | None:
    """Where the files are looked for: beside the checkout."""
    found = Path(__file__).resolve().parents[2] / "shared" / "classbench"
    return found if found.is_dir() else None
