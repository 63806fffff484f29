"""The rules that no list holds -> bit vectors over the classes that their packets' values have
(bpf/include/wide.h).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify import bitvectors
from xdpguard.classify.bitvectors import Dimension
from xdpguard.classify.columns import ANY, Column, Columns, Numbers, Sets
from xdpguard.classify.conditions import PAGES
from xdpguard.classify.groups import NO_RULE, Ranges
from xdpguard.classify.partition import expand

_NUMBERS = abi().numbers
MOST = _NUMBERS["XG_MAX_WIDE"]


@dataclass(frozen=True, slots=True)
class Wide:
    """``rules``:

    the rule of each bit. ``addresses``: by src4, dst4, src6, dst6 a dimension over broad classes and, as the
    last value, ARP, with the number of its values; ``small``: by the other dimensions. ``first``: the first
    rule for 4, 6 and 0 (ARP).
    """

    rules: Numbers
    addresses: dict[str, tuple[Dimension, int]]
    small: dict[str, Dimension]
    first: dict[int, int]


def build(
    columns: Columns, rules: Numbers, broad: dict[str, tuple[Ranges, int]], seen: dict[int, NDArray[np.bool_]]
) -> Wide:
    """``rules``:

    those wanted, ascending. ``broad``: by side the broad classes of each rule, and how many there are.
    ``seen``: by family (4, 6, 0 = ARP) the rules that may match there.
    """
    addresses = {
        name: (bitvectors.build(*_broad(columns[name], rules, ranges, count, seen[0]), count + 1), count + 1)
        for name, (ranges, count) in broad.items()
    }
    small = {
        name: bitvectors.build(columns[name].ids[rules], columns[name].sets, PAGES[name] * 256)
        for name in PAGES
    }
    first = {family: int(rules[mask[rules]].min(initial=NO_RULE)) for family, mask in seen.items()}
    return Wide(rules, addresses, small, first)


def _broad(
    column: Column, rules: Numbers, ranges: Ranges, count: int, arp: NDArray[np.bool_]
) -> tuple[Numbers, Sets]:
    """The set of broad classes of each rule, and the sets; ``count``, the last value, is ARP.

    Rules of one set of addresses have one, or two if only some of them are for ARP too.
    """
    of = column.ids[rules]
    keys, where, number = np.unique(of * 2 + arp[rules], return_index=True, return_inverse=True)
    chosen, extra = rules[where], (keys & 1).astype(np.int64)
    counts = np.diff(ranges.offsets)[chosen]
    which, step = expand(counts + extra)
    at = np.where(step < counts[which], ranges.offsets[chosen][which] + step, -1)
    first = np.r_[ranges.low, count][at].astype(np.uint64)
    after = np.r_[ranges.high, count][at].astype(np.uint64) + np.uint64(1)
    sets = Sets(np.r_[0, np.cumsum(counts + extra)], first, after)
    return np.where(of == ANY, ANY, number.ravel()), sets
