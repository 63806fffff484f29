"""What rules say beside their addresses, as pairs of words: the lowest and highest value of each lane.

Pure NumPy. Ports are compared as they are; L4 indices and VLAN ids by their class, numbered so that nested
sets of values are ranges of classes. A rule whose values are several ranges has several pairs of words; one
that would have too many, or classes that are too many for a lane, is ``unfit`` and goes to the bit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.columns import ANY, Column, Columns, Numbers, Sets
from xdpguard.classify.conditions import PAGES
from xdpguard.classify.partition import expand, runs

_NUMBERS = abi().numbers
MOST_WORDS = 16
"""Pairs of words that one rule may have."""
BROAD_SHIFT = _NUMBERS["XG_LANE_BROAD"]
BROAD_MOST = _NUMBERS["XG_MAX_BROAD"] - 1
GUARDS = _NUMBERS["XG_LANE_GUARDS"]
_PORT_MOST = 0xFFFF
_SEED = 0x2545F4914F6CDD1D
_ROWS = 512  # sets that are copied at a time; a multiple of 8
_CLASSES = {"l4": _NUMBERS["XG_MAX_L4_CLASSES"], "vlan": _NUMBERS["XG_MAX_VLAN_CLASSES"]}
_SHIFTS = {name: _NUMBERS[f"XG_LANE_{name.upper()}"] for name in PAGES}


L4_SIZE, _VLAN_SIZE = PAGES["l4"] * 256, PAGES["vlan"] * 256
_VLANS = np.arange(_VLAN_SIZE) <= _NUMBERS["XG_VLAN_NONE"]


def l4_values(family: int) -> NDArray[np.bool_]:
    """Which L4 indices a packet of the family can have."""
    values = np.zeros(L4_SIZE, dtype=bool)
    number = _NUMBERS[f"XG_L4_IPV{family}"]
    for base in (number, _NUMBERS[f"XG_L4_TCP{family}"], _NUMBERS["XG_L4_HEADER"] + number):
        values[base : base + 256] = True
    return values


@dataclass(frozen=True, slots=True)
class Lanes:
    """Rule r's pairs of words:

    ``low`` and ``high`` from ``offsets[r]`` to ``offsets[r + 1]``, without the broad lane.

    ``tables``: for "l4" and "vlan" the class of each index.
    """

    offsets: Numbers
    low: NDArray[np.uint64]
    high: NDArray[np.uint64]
    unfit: NDArray[np.bool_]
    tables: dict[str, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class _Ranges:
    """The ranges that each set of one dimension consists of; set -1 (ANY) is the last one, the whole lane."""

    offsets: Numbers
    low: Numbers
    high: Numbers
    unfit: NDArray[np.bool_]


def lanes(columns: Columns, family: int) -> Lanes:
    """As packets of one family (4 or 6) see them."""
    tables: dict[str, NDArray[np.uint8]] = {}
    ranges = {name: _ports(columns[name]) for name in ("sport", "dport")}
    for name, values in (("l4", l4_values(family)), ("vlan", _VLANS)):
        ranges[name], tables[name] = _classes(columns[name], values, _CLASSES[name])
    specs, of_rule = _distinct({name: columns[name].ids for name in ranges})
    counts = np.ones(len(specs["l4"]), dtype=np.int64)
    unfit = np.zeros(len(counts), dtype=bool)
    for name, each in ranges.items():
        counts *= np.diff(each.offsets)[specs[name]]
        unfit |= each.unfit[specs[name]]
    unfit |= counts > MOST_WORDS
    counts[unfit] = 0
    low, high = _words(ranges, specs, counts)
    starts = np.r_[0, np.cumsum(counts)]
    rule, step = expand(counts[of_rule])
    at = starts[of_rule][rule] + step
    offsets = np.r_[0, np.cumsum(counts[of_rule])]
    return Lanes(offsets, low[at], high[at], unfit[of_rule], tables)


def _distinct(ids: dict[str, Numbers]) -> tuple[dict[str, Numbers], Numbers]:
    """The distinct combinations of sets, and which of them each rule has."""
    key, values = np.zeros(len(ids["l4"]), dtype=np.int64), 1
    for column in ids.values():
        width = int(column.max(initial=0)) + 2
        if values * width >= 1 << 63:
            distinct, key = np.unique(key, return_inverse=True)
            values = len(distinct)
        key, values = key.ravel() * width + column + 1, values * width
    _, where, number = np.unique(key, return_index=True, return_inverse=True)
    return {name: column[where] for name, column in ids.items()}, number.ravel()


def _words(
    ranges: dict[str, _Ranges], specs: dict[str, Numbers], counts: Numbers
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """Every combination of the ranges of a spec's sets."""
    spec, step = expand(counts)
    low = np.zeros(len(spec), dtype=np.uint64)
    high = np.zeros(len(spec), dtype=np.uint64)
    for name, each in ranges.items():
        number = specs[name][spec]
        width = np.diff(each.offsets)[number]
        at = each.offsets[:-1][number] + step % np.maximum(width, 1)
        step = step // np.maximum(width, 1)
        shift = np.uint64(_SHIFTS[name])
        low |= each.low[at].astype(np.uint64) << shift
        high |= each.high[at].astype(np.uint64) << shift
    return low, high


def _ports(column: Column) -> _Ranges:
    sets = column.sets
    low = sets.first.astype(np.int64)
    high = (sets.after.astype(np.int64) - 1) & _PORT_MOST
    return _with_any(sets.offsets, low, high, _PORT_MOST, np.zeros(len(sets), dtype=bool))


def _with_any(offsets: Numbers, low: Numbers, high: Numbers, most: int, unfit: NDArray[np.bool_]) -> _Ranges:
    return _Ranges(np.r_[offsets, offsets[-1] + 1], np.r_[low, 0], np.r_[high, most], np.r_[unfit, False])


def _classes(column: Column, values: NDArray[np.bool_], most: int) -> tuple[_Ranges, NDArray[np.uint8]]:
    """Ranges of classes for each set, and the class of each value. ``values``: those that there are."""
    sets = members(column, len(values))
    sets &= values
    # Where there are too many classes, the sets that the fewest rules have must go.
    by_use = np.argsort(-np.bincount(column.ids[column.ids != ANY], minlength=len(sets)), kind="stable")
    fit, too_many = len(sets), len(sets) + 1
    if _count(column.sets, by_use, values) > most:
        fit, too_many = 0, len(sets)
    while too_many - fit > 1:
        middle = (fit + too_many) // 2
        fits = _count(column.sets, by_use[:middle], values) <= most
        fit, too_many = (middle, too_many) if fits else (fit, middle)
    table = _number(sets, np.sort(by_use) if fit == len(sets) else by_use[:fit])
    if table.max(initial=0) >= most:
        raise AssertionError("two different classes have the same 64-bit sum")
    unfit = np.ones(len(sets), dtype=bool)
    unfit[by_use[:fit]] = False
    # A set that fits holds all values of a class or none: one tells.
    classes, one_of = np.unique(table, return_index=True)
    owner, number = np.nonzero(sets[:, one_of] & ~unfit[:, None])
    offsets, low, high = runs(np.searchsorted(owner, np.arange(len(sets) + 1)), classes[number])
    whole = (sets.sum(axis=1) == values.sum()) & ~unfit
    low[offsets[:-1][whole]], high[offsets[:-1][whole]] = 0, most - 1
    return _with_any(offsets, low, high, most - 1, unfit), table.astype(np.uint8)


def members(column: Column, size: int) -> NDArray[np.bool_]:
    """Which values each set holds: [set, value], values below ``size``."""
    sets = column.sets
    changes = np.zeros((len(sets), size + 1), dtype=np.int8)
    owner = np.repeat(np.arange(len(sets)), np.diff(sets.offsets))
    after = sets.after.astype(np.int64)
    np.add.at(changes, (owner, sets.first.astype(np.int64)), 1)
    np.add.at(changes, (owner, np.where(after == 0, size, after)), -1)
    return np.cumsum(changes, axis=1, out=changes)[:, :-1].view(bool)


def _count(sets: Sets, chosen: Numbers, values: NDArray[np.bool_]) -> int:
    """How many classes the chosen sets divide the values into, and the others as one that no set holds.

    Classes are told apart by the sum of a random number per set, as in ``partition.divide``.
    """
    marks = np.zeros(len(sets), dtype=np.uint64)
    marks[chosen] = np.random.default_rng(_SEED).integers(1, 1 << 64, len(chosen), dtype=np.uint64)
    marks = np.repeat(marks, np.diff(sets.offsets))
    changes = np.zeros(len(values) + 1, dtype=np.uint64)
    after = sets.after.astype(np.int64)
    np.add.at(changes, sets.first.astype(np.int64), marks)
    np.subtract.at(changes, np.where(after == 0, len(values), after), marks)
    return len(np.unique(np.where(values, np.cumsum(changes, dtype=np.uint64)[:-1], 0)))


def _number(sets: NDArray[np.bool_], chosen: Numbers) -> Numbers:
    """The class of each value, numbered so that the classes of nested sets lie together."""
    if not len(chosen):
        return np.zeros(sets.shape[1], dtype=np.int64)
    by_size = chosen[np.argsort(-sets.sum(axis=1)[chosen], kind="stable")]
    parts = [np.packbits(sets[by_size[at : at + _ROWS]], axis=0) for at in range(0, len(by_size), _ROWS)]
    packed = np.concatenate(parts).T
    _, number = np.unique(packed, axis=0, return_inverse=True)
    return np.asarray(number.ravel(), dtype=np.int64)
