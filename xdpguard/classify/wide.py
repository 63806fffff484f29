"""The rules that no list holds -> bit vectors over the classes that their packets' values have
(bpf/include/wide.h).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify import bitvectors
from xdpguard.classify.bitvectors import Dimension
from xdpguard.classify.columns import ANY, Column, Columns, Numbers
from xdpguard.classify.conditions import PAGES
from xdpguard.classify.groups import NO_RULE, Ranges
from xdpguard.rules.model import Intervals

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
    addresses = {}
    for name, (ranges, count) in broad.items():
        ids = columns[name].ids
        conditions = [
            None if ids[rule] == ANY else _of_rule(ranges, rule, count, arp=bool(seen[0][rule]))
            for rule in rules.tolist()
        ]
        addresses[name] = bitvectors.build(conditions, count + 1), count + 1
    small = {name: bitvectors.build(_intervals(columns[name], rules), PAGES[name] * 256) for name in PAGES}
    first = {family: int(rules[mask[rules]].min(initial=NO_RULE)) for family, mask in seen.items()}
    return Wide(rules, addresses, small, first)


def _of_rule(ranges: Ranges, rule: int, count: int, *, arp: bool) -> Intervals:
    at = slice(ranges.offsets[rule], ranges.offsets[rule + 1])
    found = list(zip(ranges.low[at].tolist(), ranges.high[at].tolist(), strict=True))
    return tuple([*found, (count, count)] if arp else found)


def _intervals(column: Column, rules: Numbers) -> list[Intervals | None]:
    """The value sets of these rules; equal sets share one tuple, which the bit vectors convert once."""
    sets = column.sets
    first, after = sets.first.tolist(), sets.after.tolist()
    cache: dict[int, Intervals] = {}

    def of(number: int) -> Intervals:
        if number not in cache:
            at = range(int(sets.offsets[number]), int(sets.offsets[number + 1]))
            cache[number] = tuple((first[i], (after[i] or 1 << 16) - 1) for i in at)
        return cache[number]

    return [None if number == ANY else of(number) for number in _ids(column, rules)]


def _ids(column: Column, rules: Numbers) -> Iterable[int]:
    return (int(number) for number in column.ids[rules])
