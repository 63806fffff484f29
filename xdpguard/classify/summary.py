"""What a hook's rules became, in a line for ``--verbose``. Pure."""

from __future__ import annotations

import numpy as np

from xdpguard.abi import abi
from xdpguard.classify.engine import Engine
from xdpguard.classify.split import Group
from xdpguard.classify.trees import Tree

_SHIFT = abi().numbers["XG_NODE_SHIFT"]
_WORDS = {
    Group.PAIR: "by both addresses",
    Group.SRC: "by source",
    Group.DST: "by destination",
    Group.WIDE: "by bit vectors",
}


def describe(engine: Engine) -> str:
    """Rules per group and family, the sizes of the tables, and the steps of a search for an address."""
    parts = []
    for number, groups in engine.groups.items():
        some = [f"{groups[group]} {words}" for group, words in _WORDS.items() if groups.get(group)]
        if some:
            family = engine.families[number]
            parts.append(f"IPv{number} {', '.join(some)} ({_tree(family.src)} + {_tree(family.dst)})")
    conditions = engine.conditions
    parts.append(
        f"{len(conditions.low)} conditions, {len(conditions.entries)} list entries, "
        f"{engine.pair_lines} lines of pairs"
    )
    return "; ".join(parts)


def _tree(tree: Tree) -> str:
    """Steps from one line to the next, the leaf's own among them; an index spares some at most stretches."""
    above = tree.index.entries >> np.uint32(_SHIFT)
    return f"{tree.rows} rows, {1 + above.mean():.1f} of at most {1 + len(tree.levels)} steps"
