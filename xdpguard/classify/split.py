"""Which group finds each rule: pairs of address classes, lists of one address's class, or bit vectors.

Pure NumPy. A rule costs a group as many places as classes of addresses it covers there; broad rules on both
sides would fill whole tables (Srinivasan, Varghese, Suri and Waldvogel, SIGCOMM 1998, call it the cross-
product), so those go to the bit vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from xdpguard.classify.columns import ANY, Columns, Numbers, bounds
from xdpguard.classify.partition import Ranked, divide, rank, sizes


class Group(IntEnum):
    """Where a rule is looked for. ``ABSENT``: it cannot match in this family."""

    ABSENT = -1
    WIDE = 0
    PAIR = 1
    SRC = 2
    DST = 3


@dataclass(frozen=True, slots=True)
class Limits:
    """``pair``: places that a rule may take among the pairs; ``side``: among one side's lists."""

    pair: int
    side: int


LADDER = (Limits(16, 1024), Limits(16, 128), Limits(8, 16), Limits(2, 4))
"""From what is fastest to what is smallest."""


def most_places(rules: int) -> int:
    """So many entries may the groups of so many rules have together. Those of ClassBench have 7 a rule."""
    return min(max(1_000_000, 48 * rules), 6_000_000)


@dataclass(frozen=True, slots=True)
class Side:
    """One side's addresses in one family.

    ``sizes[s]``: how many classes set s covers, 0 if no rule that matters has it; ``all``: all of them.
    Where only some of the sets are, there are no more classes than these.
    """

    ids: Numbers
    ranked: Ranked
    sizes: Numbers
    all: int

    def of_rules(self) -> Numbers:
        return (
            np.where(self.ids == ANY, self.all, self.sizes[self.ids])
            if len(self.sizes)
            else (np.full(len(self.ids), self.all))
        )


def side(columns: Columns, name: str, live: NDArray[np.bool_]) -> Side:
    """``name``: src4, dst4, src6, dst6; ``live``: the rules that matter in the family."""
    column = columns[name]
    ranked = rank(column.sets, bounds([0], 128 if name.endswith("6") else 32))
    chosen = used(column.ids[live], len(ranked))
    classes = divide(ranked, chosen)
    per_set = np.zeros(len(ranked), dtype=np.int64)
    per_set[chosen] = sizes(ranked, chosen, classes)
    return Side(column.ids, ranked, per_set, classes.count)


def used(ids: Numbers, sets: int) -> Numbers:
    """The distinct numbers of sets among these, ascending, of so many."""
    there = np.zeros(sets, dtype=bool)
    there[ids[ids != ANY]] = True
    return np.nonzero(there)[0]


def assign(src: Side, dst: Side, live: NDArray[np.bool_], limits: Limits) -> NDArray[np.int64]:
    """The Group of each rule."""
    of_src, of_dst = src.of_rules(), dst.of_rules()
    any_src, any_dst = src.ids == ANY, dst.ids == ANY
    group = np.full(len(live), int(Group.WIDE))
    by_src = ~any_src & (of_src <= limits.side)
    by_dst = ~any_dst & (of_dst <= limits.side)
    group[by_src] = Group.SRC
    group[by_dst & (~by_src | (of_dst < of_src))] = Group.DST
    group[~any_src & ~any_dst & (of_src * of_dst <= limits.pair)] = Group.PAIR
    group[~live] = Group.ABSENT
    return group


def places(src: Side, dst: Side, group: NDArray[np.int64], words: Numbers) -> int:
    """How many entries all groups together have at most, of rules with so many pairs of condition words."""
    of_src, of_dst = src.of_rules(), dst.of_rules()
    each = np.where(group == Group.SRC, of_src, np.where(group == Group.DST, of_dst, of_src * of_dst))
    return int((each * words)[group > Group.WIDE].sum())
