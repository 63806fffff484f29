"""What a hook's engine found -> the fields of ``struct xg_hook``. Pure."""

from __future__ import annotations

import numpy as np

from xdpguard.abi import abi
from xdpguard.classify.blob import Blob
from xdpguard.classify.conditions import PAGES, SMALL
from xdpguard.classify.engine import Engine
from xdpguard.classify.trees import LEVELS, LINE

_ABI = abi()
_NUMBERS = _ABI.numbers


def put_engine(blob: Blob, engine: Engine, base: int) -> None:
    """Write all tables; ``base``: offset of the struct xg_hook in the blob's header."""
    conditions = np.stack([engine.conditions.low, engine.conditions.high], axis=1)
    blob.fields(
        "xg_hook",
        base,
        l4_classes=blob.put(engine.tables["l4"]),
        vlan_classes=blob.put(engine.tables["vlan"]),
        conditions=blob.put(conditions, LINE),
        entries=blob.put(engine.conditions.entries, LINE),
        pairs=blob.put(engine.pairs, LINE),
        pair_lines=engine.pair_lines,
        arp_fallback=engine.arp_fallback,
    )
    _put_families(blob, engine, base)
    _put_wide(blob, engine, base)


def _put_families(blob: Blob, engine: Engine, base: int) -> None:
    for number, family in engine.families.items():
        at = base + _ABI.offset(f"xg_hook.ipv{number}")
        blob.fields("xg_addresses", at, fallback=family.fallback)
        for side, tree in (("src", family.src), ("dst", family.dst)):
            if len(tree.levels) > LEVELS:
                raise AssertionError(
                    f"an address tree of {len(tree.levels)} levels; the programs read {LEVELS}"
                )
            blob.put_tree(tree, at + _ABI.offset(f"xg_addresses.{side}"))


def _put_wide(blob: Blob, engine: Engine, base: int) -> None:
    wide = engine.wide
    small = base + _ABI.offset("xg_hook.small")
    for index, name in enumerate(SMALL):
        blob.put_paged(wide.small[name], PAGES[name], small + index * _ABI.structs["xg_paged"].size)
    arp = 0
    for number in engine.families:
        at = base + _ABI.offset(f"xg_hook.ipv{number}")
        blob.fields("xg_addresses", at, wide=wide.first[number])
        for side in ("src", "dst"):
            offset, arp = blob.put_numbers(*wide.addresses[f"{side}{number}"])
            blob.fields("xg_addresses", at, **{f"{side}_wide": offset})
    blob.fields(
        "xg_hook",
        base,
        wide_blocks=-(-len(wide.rules) // _NUMBERS["XG_BLOCK_RULES"]),
        wide_rules=blob.put(wide.rules.astype(np.uint32)),
        arp_first=wide.first[0],
        arp_wide=arp,
    )
