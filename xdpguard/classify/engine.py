"""One hook's columns -> everything that classify.h searches, as arrays. Pure.

What must never break: a rule is found wherever its conditions hold. In each family it is in one group, there
at every class (or pair of classes) that its addresses cover; or it is among the bit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify import lanes, pairs, split, trees, wide
from xdpguard.classify.columns import ANY, Columns, Numbers
from xdpguard.classify.groups import MAX_LIST, NO_RULE, Conditions, Ranges, Words, everywhere, place
from xdpguard.classify.lanes import BROAD_MOST, Lanes
from xdpguard.classify.partition import Classes, covers, divide, expand, ranges
from xdpguard.classify.split import Group, Side

FAMILIES = (4, 6)
_NUMBERS = abi().numbers
_ARP = _NUMBERS["XG_L4_ARP"]
_BROAD_SHIFT = np.uint64(_NUMBERS["XG_BROAD_SHIFT"])
_OTHERS = ("sport", "dport", "vlan")


class NoRoom(Exception):
    """``rules``: those that there is no room for, ascending; ``what`` they are; how much is ``allowed``."""

    def __init__(self, rules: Numbers, what: str, allowed: str) -> None:
        self.rules, self.what, self.allowed = rules, what, allowed


@dataclass(frozen=True, slots=True)
class Family:
    """``fallback``: the first rule that takes all packets of the family; NO_RULE if there is none."""

    src: trees.Tree
    dst: trees.Tree
    fallback: int


@dataclass(frozen=True, slots=True)
class Engine:
    """``tables``:

    class of each index, of "l4" and "vlan". ``groups``: number of rules, by family and group.
    """

    families: dict[int, Family]
    conditions: Conditions
    pairs: NDArray[Any]
    pair_lines: int
    wide: wide.Wide
    tables: dict[str, NDArray[np.uint8]]
    arp_fallback: int
    groups: dict[int, dict[Group, int]]


@dataclass(frozen=True, slots=True)
class _View:
    """The rules as packets of one family see them. ``live``: those that such a packet may meet."""

    family: int
    lanes: Lanes
    fallback: int
    live: NDArray[np.bool_]
    src: Side
    dst: Side


def build(columns: Columns) -> Engine:
    """Raises NoRoom."""
    members = lanes.members(columns["l4"], lanes.L4_SIZE)
    views = [_view(columns, members, family) for family in FAMILIES]
    groups = _split(views)
    arp = members[:, _ARP][columns["l4"].ids]
    arp_fallback = _first(arp & _anything(columns, (*_OTHERS, "src4", "dst4", "src6", "dst6")))
    is_wide = arp & (np.arange(len(arp)) < arp_fallback)
    for view, group in zip(views, groups, strict=True):
        is_wide |= (group == Group.WIDE) | (view.lanes.unfit & view.live)
    while is_wide.sum() <= wide.MOST:
        attempt = _Attempt(columns, is_wide)
        chosen = [np.where(is_wide, int(Group.WIDE), group) for group in groups]
        # Lists are soon made, and overflow most; pairs take longest.
        for view, group in zip(views, chosen, strict=True):
            attempt.add_lists(view, group)
        if not len(attempt.left_over):
            for view, group in zip(views, chosen, strict=True):
                attempt.add_pairs(view, group)
        if not len(attempt.left_over):
            return attempt.finish(views, arp, arp_fallback)
        is_wide[attempt.left_over] = True
    raise NoRoom(
        np.nonzero(is_wide)[0],
        "are too broad, or too many at one address, to be found fast",
        f"at most {wide.MOST} such rules are allowed (name addresses, or gather ports in lists)",
    )


def _split(views: list[_View]) -> list[Numbers]:
    most = split.most_places(len(views[0].live))
    for limits in split.LADDER:
        groups = [split.assign(view.src, view.dst, view.live, limits) for view in views]
        total = sum(
            split.places(view.src, view.dst, group, np.diff(view.lanes.offsets))
            for view, group in zip(views, groups, strict=True)
        )
        if total <= most:
            return groups
    raise NoRoom(
        np.nonzero(views[0].live | views[1].live)[0],
        "have addresses that overlap too much",
        f"at most {most} combinations of source, destination and ports are allowed",
    )


def _anything(columns: Columns, names: tuple[str, ...]) -> NDArray[np.bool_]:
    """The rules that look at none of these dimensions."""
    found: NDArray[np.bool_] = np.logical_and.reduce([columns[name].ids == ANY for name in names])
    return found


def _first(mask: NDArray[np.bool_]) -> int:
    return int(np.nonzero(mask)[0][0]) if mask.any() else NO_RULE


def _view(columns: Columns, members: NDArray[np.bool_], family: int) -> _View:
    """``members``: the L4 indices of each set, see ``lanes.members``."""
    ids = columns["l4"].ids
    values = lanes.l4_values(family)
    names = (f"src{family}", f"dst{family}")
    own = members[:, values]
    some, every = np.any(own, axis=1)[ids], np.all(own, axis=1)[ids]
    fallback = _first(every & _anything(columns, (*_OTHERS, *names)))
    live = some & (np.arange(len(ids)) < fallback)
    for name in names:
        column = columns[name]
        empty = np.r_[np.diff(column.sets.offsets) == 0, False]
        live &= ~empty[column.ids]
    src, dst = (split.side(columns, name, live) for name in names)
    return _View(family, lanes.lanes(columns, family), fallback, live, src, dst)


@dataclass(slots=True)
class _Attempt:
    """Tables for one choice of wide rules.

    ``left_over``: rules that turned out not to fit into their lists.
    """

    columns: Columns
    is_wide: NDArray[np.bool_]
    left_over: Numbers = field(default_factory=lambda: np.zeros(0, np.int64))
    conditions: Conditions = field(default_factory=Conditions)
    _families: dict[int, Family] = field(default_factory=dict)
    _words: dict[int, tuple[Words, Words]] = field(default_factory=dict)  # of each elementary interval
    _broad: dict[str, tuple[Ranges, int]] = field(default_factory=dict)
    _pair_keys: list[NDArray[np.uint64]] = field(default_factory=list)
    _pair_words: list[Words] = field(default_factory=list)
    _pair_classes: int = 0
    _groups: dict[int, dict[Group, int]] = field(default_factory=dict)

    def add_lists(self, view: _View, group: Numbers) -> None:
        """Those of one family."""
        chosen = {name: np.nonzero(view.live & (group == name))[0] for name in Group}
        self._groups[view.family] = {name: len(rules) for name, rules in chosen.items()}
        src_broad, src_classes = _broad(view.src, np.r_[chosen[Group.DST], chosen[Group.WIDE]])
        dst_broad, dst_classes = _broad(view.dst, np.r_[chosen[Group.SRC], chosen[Group.WIDE]])
        self._broad[f"src{view.family}"] = src_broad, src_classes.count
        self._broad[f"dst{view.family}"] = dst_broad, dst_classes.count
        src_lists = self._lists(view.src, chosen[Group.SRC], view.lanes, dst_broad)
        dst_lists = self._lists(view.dst, chosen[Group.DST], view.lanes, src_broad)
        self._words[view.family] = _words(src_lists, src_classes), _words(dst_lists, dst_classes)

    def add_pairs(self, view: _View, group: Numbers) -> None:
        """Those of one family, whose lists were added."""
        src_words, dst_words = self._words[view.family]
        src, dst = self._pairs(view, np.nonzero(view.live & (group == Group.PAIR))[0])
        self._families[view.family] = Family(
            trees.build(view.src.ranked.starts, src, src_words),
            trees.build(view.dst.ranked.starts, dst, dst_words),
            view.fallback,
        )

    def _pairs(self, view: _View, rules: Numbers) -> tuple[Numbers, Numbers]:
        """-> the class of each elementary interval, of both sides."""
        (src, src_offsets, src_of), (dst, dst_offsets, dst_of) = (
            _covered(side, rules) for side in (view.src, view.dst)
        )
        widths = np.diff(dst_offsets)
        index, step = expand(np.diff(src_offsets) * widths)
        width = np.maximum(widths[index], 1)
        # Classes of the two families are told apart by the source's.
        base = self._pair_classes
        keys = (src_of[src_offsets[index] + step // width] + base) | dst_of[
            dst_offsets[index] + step % width
        ] << 32
        placed = place(keys, rules[index], view.lanes, everywhere(len(view.live)))
        found, words, left_over = self.conditions.words(placed)
        self.left_over = np.union1d(self.left_over, left_over)
        self._pair_keys.append(found.astype(np.uint64))
        self._pair_words.append(words)
        self._pair_classes += src.count
        return np.where(src.of > 0, src.of + base, 0), dst.of

    def _lists(self, side: Side, rules: Numbers, of_rules: Lanes, other: Ranges) -> Words:
        """-> the word of each elementary interval."""
        classes, offsets, covered = _covered(side, rules)
        each = np.diff(of_rules.offsets)[rules] * np.diff(other.offsets)[rules]
        fits = ~_crowding(np.diff(offsets), each, split.most_places(len(side.ids)))
        index, step = expand(np.diff(offsets) * fits)
        placed = place(covered[offsets[index] + step], rules[index], of_rules, other)
        keys, found, left_over = self.conditions.words(placed)
        self.left_over = np.union1d(self.left_over, np.r_[left_over, rules[~fits]])
        words = np.full(classes.count, NO_RULE, dtype=np.uint64)
        words[keys] = found
        return words[classes.of]

    def finish(self, views: list[_View], arp: NDArray[np.bool_], arp_fallback: int) -> Engine:
        table, lines = pairs.table(np.concatenate(self._pair_keys), np.concatenate(self._pair_words))
        seen = {0: arp, **{view.family: view.live for view in views}}
        l4 = np.where(lanes.l4_values(4), views[0].lanes.tables["l4"], views[1].lanes.tables["l4"])
        return Engine(
            self._families,
            self.conditions,
            table,
            lines,
            wide.build(self.columns, np.nonzero(self.is_wide)[0], self._broad, seen),
            {"l4": l4, "vlan": views[0].lanes.tables["vlan"]},
            arp_fallback,
            self._groups,
        )


def _crowding(classes: Numbers, each: Numbers, most: int) -> NDArray[np.bool_]:
    """Rules, of so many classes with so many entries in each, that fit no list or make all lists too long:
    more than ``most`` entries."""
    cost = classes * each
    cheapest = np.argsort(cost, kind="stable")
    over = np.zeros(len(cost), dtype=bool)
    over[cheapest] = np.cumsum(cost[cheapest]) > most
    return over | (each > MAX_LIST)


def _sets_of(side: Side, rules: Numbers) -> Numbers:
    """The distinct sets of these rules."""
    return split.used(side.ids[rules], len(side.ranked))


def _covered(side: Side, rules: Numbers) -> tuple[Classes, Numbers, Numbers]:
    """The classes of these rules' sets; rule ``rules[i]`` covers those at ``offsets[i]`` to ``offsets[i +
    1]``.
    """
    sets = _sets_of(side, rules)
    classes = divide(side.ranked, sets)
    set_offsets, values = covers(side.ranked, sets, classes)
    places = np.zeros(len(side.ranked), dtype=np.int64)
    places[sets] = np.arange(len(sets))
    number = places[side.ids[rules]]
    counts = np.diff(set_offsets)[number]
    index, step = expand(counts)
    return classes, np.r_[0, np.cumsum(counts)], values[set_offsets[number][index] + step]


def _broad(side: Side, rules: Numbers) -> tuple[Ranges, Classes]:
    """The ranges of broad classes of these rules, indexed by rule; the others have none. Raises NoRoom."""
    sets = _sets_of(side, rules)
    classes = divide(side.ranked, sets)
    if classes.count > BROAD_MOST:
        raise NoRoom(
            np.sort(rules),
            f"have broad addresses that divide those of one side into {classes.count} parts",
            f"at most {BROAD_MOST} are allowed (use fewer ranges, or ones that nest)",
        )
    offsets, low, high = ranges(side.ranked, sets, classes)
    # The last one stands for a rule without a condition.
    offsets, low, high = np.r_[offsets, offsets[-1] + 1], np.r_[low, 0], np.r_[high, BROAD_MOST]
    ids = side.ids[rules]
    number = np.where(ids == ANY, len(sets), np.searchsorted(sets, ids))
    counts = np.zeros(len(side.ids), dtype=np.int64)
    counts[rules] = np.diff(offsets)[number]
    begin = np.zeros(len(side.ids), dtype=np.int64)
    begin[rules] = offsets[number]
    rule, step = expand(counts)
    at = begin[rule] + step
    return Ranges(np.r_[0, np.cumsum(counts)], low[at], high[at]), classes


def _words(lists: Words, broad: Classes) -> Words:
    return lists | broad.of.astype(np.uint64) << _BROAD_SHIFT
