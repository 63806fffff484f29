"""The classifier's lookups, read from the bytes of a blob: ``bpf/include/classify.h`` in plain Python.

Owns a second reader of the tables that ``xdpguard/classify`` writes, so that they can be tested without a
kernel. It must never import ``xdpguard.classify`` or NumPy: it would share their view of the bytes. It is
stricter than the programs, which mask every offset: a misaligned or outside one raises here (blob_reader.py),
and so does a search longer than the programs' own.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from blob_reader import LINE, Indices, Reader, indices

from xdpguard.abi import abi

__all__ = ["Indices", "Reader", "indices"]  # beside what is here
_ABI = abi()
_NUMBERS = _ABI.numbers
_SMALL = ("XG_SPORT", "XG_DPORT", "XG_L4", "XG_VLAN")
NO_RULE, LEVELS = _NUMBERS["XG_NO_RULE"], _NUMBERS["XG_TREE_LEVELS"]
MOST_STEPS = 22  # of tree.h, search6
PAIR_HASH = 0x9E3779B97F4A7C15  # XG_PAIR_HASH of classify.h
# Lane, its lowest bit, and the guard bit above it.
LANES = {"sport": (0, 16), "dport": (17, 33), "l4": (34, 41), "vlan": (42, 48), "broad": (49, 63)}


class Target(NamedTuple):
    ifindex: int
    rewrite: int
    src_mac: bytes
    dst_mac: bytes


class Place(NamedTuple):
    """What an address tree knows of an address: its pair class, and its word."""

    pair: int
    word: int

    @property
    def broad(self) -> int:
        return self.word >> _NUMBERS["XG_BROAD_SHIFT"]


# ---- addresses ------------------------------------------------------------------------------------------
def find(reader: Reader, tree: dict[str, Any], family: int, address: int) -> Place:
    """What the tree knows of an address."""
    key = 4 if family == 4 else 8
    value = address if family == 4 else address >> 64
    stretch = min(max(value - tree["base"], 0) >> tree["shift"], tree["most"])
    entry = reader.load(tree["index"] + stretch * 4, 4)
    node, levels = entry & _NUMBERS["XG_NODE_MASK"], entry >> _NUMBERS["XG_NODE_SHIFT"]
    if levels > LEVELS:
        raise IndexError(f"{levels} levels; the programs descend {LEVELS}")
    for level in reversed(range(levels)):
        node = node * (LINE // key) + _branch(
            reader.line(tree["level"][level] + node * LINE, key, key), value
        )
    leaf = tree["leaves"] + node * LINE
    if family == 6:
        return _find6(reader, tree, leaf, address)
    at = leaf + _branch(reader.line(leaf, 4, 16), value) * 16
    return _row(reader, at)


def _row(reader: Reader, at: int) -> Place:
    return Place(
        reader.load(at + _ABI.offset("xg_row.pair"), 4), reader.load(at + _ABI.offset("xg_row.word"), 8)
    )


def _find6(reader: Reader, tree: dict[str, Any], at: int, address: int) -> Place:
    high, low = address >> 64, address & (1 << 64) - 1
    leaf = reader.struct("xg_leaf6", at)
    n = _branch(leaf["high"], high)
    found, kind = Place(leaf["pair"][n], leaf["word"][n]), leaf["kinds"] >> 2 * n & 3
    if kind == _NUMBERS["XG_SAME"]:
        return found
    if kind == _NUMBERS["XG_SEARCH"]:
        row = _search(reader, tree, found, low if leaf["high"][n] == high else 0)
        return _row(reader, tree["rows"] + row * 16)
    if kind != _NUMBERS["XG_BLOCK"]:
        raise IndexError(f"kind {kind}")
    before = sum(leaf["kinds"] >> 2 * other & 3 == kind for other in range(n))
    number = (leaf["kinds"] >> _NUMBERS["XG_FIRST_BLOCK"]) + before
    block = reader.struct("xg_block6", tree["blocks"] + number * _ABI.structs["xg_block6"].size)
    inside = leaf["high"][n] == high and block["first"] <= low <= block["last"]
    return Place(block["pair"], block["word"]) if inside else found


def _branch(keys: list[int], value: int) -> int:
    """How many keys are below the value. The last one is never asked: nothing may be above it."""
    if keys != sorted(keys):
        raise IndexError(f"keys out of order: {keys}")
    return sum(key < value for key in keys[:-1])


def _search(reader: Reader, tree: dict[str, Any], found: Place, low: int) -> int:
    """The number of the row; ``found`` says where the search begins, and its steps."""
    if found.word > MOST_STEPS:
        raise IndexError(f"{found.word} steps; the programs take {MOST_STEPS}")
    at: int = found.pair
    for step in reversed(range(found.word)):
        if reader.load(tree["lows"] + (at + (1 << step) - 1) * 8, 8) < low:
            at += 1 << step
    return at


# ---- words ----------------------------------------------------------------------------------------------
def entries(reader: Reader, header: dict[str, Any], word: int) -> Iterator[tuple[int, int]]:
    """The rules that a word stands for, each with the number of its condition."""
    rule, at = word & _NUMBERS["XG_RULE_MASK"], word >> _NUMBERS["XG_AT_SHIFT"] & _NUMBERS["XG_AT_MASK"]
    if rule == NO_RULE:
        return
    if not word >> _NUMBERS["XG_LIST_SHIFT"] & 1:
        yield rule, at
        return
    for place in range(_NUMBERS["XG_MAX_LIST"]):
        entry = reader.load(header["entries"] + (at + place) * 8, 8)
        if place == 0 and entry & NO_RULE != rule:
            raise IndexError(f"the word says rule {rule}, its list begins with {entry & NO_RULE}")
        yield entry & NO_RULE, entry >> _NUMBERS["XG_AT_SHIFT"] & _NUMBERS["XG_AT_MASK"]
        if entry >> 63:
            return
    raise IndexError("a list without an end")


def holds(reader: Reader, header: dict[str, Any], number: int, lanes: dict[str, int]) -> bool:
    """Lane by lane, not all at once as the programs do it."""
    at = header["conditions"] + number * _ABI.structs["xg_condition"].size
    low, high = reader.load(at, 8), reader.load(at + 8, 8)
    for name, (first, guard) in LANES.items():
        if not high >> guard & 1 or low >> guard & 1:
            raise IndexError(f"condition {number}: the guard of {name}")
        mask = (1 << guard - first) - 1
        if not low >> first & mask <= lanes[name] <= high >> first & mask:
            return False
    return True


def first_of(reader: Reader, header: dict[str, Any], word: int, lanes: dict[str, int]) -> int:
    """The first rule of a word whose condition holds, or NO_RULE."""
    found = list(entries(reader, header, word))
    if found != sorted(found, key=lambda each: each[0]):
        raise IndexError("a list whose rules do not ascend")
    if any(not 0 <= rule < header["rules"] for rule, _ in found):
        raise IndexError("a rule that there is not")
    return next((rule for rule, number in found if holds(reader, header, number, lanes)), NO_RULE)


def pair_word(reader: Reader, header: dict[str, Any], src: int, dst: int) -> int:
    key = src | dst << 32
    line = (key * PAIR_HASH % (1 << 64) >> 32) * header["pair_lines"] >> 32
    for hop in range(_NUMBERS["XG_MAX_HOPS"]):
        at = header["pairs"] + (line + hop) * LINE
        keys = reader.line(at, 8, 16)
        if key in keys:
            return reader.load(at + keys.index(key) * 16 + 8, 8)
        if not keys[-1]:
            break
    return NO_RULE


# ---- bit vectors ----------------------------------------------------------------------------------------
def bits(word: int) -> list[int]:
    """Numbers of the set bits, lowest first."""
    return [bit for bit in range(64) if word >> bit & 1]


def first_wide(reader: Reader, header: dict[str, Any], packet: Indices, classes: list[int]) -> int:
    """``classes``: offsets of the class records of both addresses."""

    def every(offsets: list[int], add: int, size: int) -> int:
        found = (1 << 64) - 1
        for offset in offsets:
            found &= reader.load(offset + add, size)
        return found

    values = (packet.sport, packet.dport, packet.l4, packet.vlan)
    for table, value in zip((header["small"][_NUMBERS[name]] for name in _SMALL), values, strict=True):
        page = reader.load(table["pages"] + (value >> 8) * 2, 2)
        number = reader.load(table["entries"] + (page * 256 + (value & 255)) * 2, 2)
        classes = [*classes, table["classes"] + number * 4 * _NUMBERS["XG_MAX_BLOCKS"]]
    if header["wide_blocks"] > _NUMBERS["XG_MAX_BLOCKS"]:
        raise IndexError(f"{header['wide_blocks']} blocks")
    for block in range(header["wide_blocks"]):
        vectors = [reader.load(offset + block * 4, 4) for offset in classes]
        for word in bits(every(vectors, 0, 8)):
            rules = bits(every(vectors, 8 + word * 8, 8))
            if rules:
                bit = block * _NUMBERS["XG_BLOCK_RULES"] + word * 64 + rules[0]
                return reader.load(header["wide_rules"] + bit * 4, 4)
    return NO_RULE


# ---- all of it ------------------------------------------------------------------------------------------
class Answers(NamedTuple):
    """The first rule that each group finds, or NO_RULE."""

    fallback: int
    pair: int
    src: int
    dst: int
    wide: int

    @property
    def first(self) -> int | None:
        return None if min(self) == NO_RULE else min(self)


def answers(reader: Reader, hook: str, packet: Indices) -> Answers:
    """All groups are asked, also those that the programs may leave out."""
    header = reader.header(hook)
    if not header["rules"]:
        return Answers(*[NO_RULE] * 5)
    if packet.family == 0:
        wide = first_wide(reader, header, packet, [header["arp_wide"]] * 2)
        _never_missed(wide, min(header["arp_first"], header["arp_fallback"]))
        return Answers(header["arp_fallback"], NO_RULE, NO_RULE, NO_RULE, wide)
    of_family = header[f"ipv{packet.family}"]
    src, dst = (
        find(reader, of_family[side], packet.family, address)
        for side, address in (("src", packet.src), ("dst", packet.dst))
    )
    lanes = {
        "sport": packet.sport,
        "dport": packet.dport,
        "l4": reader.load(header["l4_classes"] + packet.l4, 1),
        "vlan": reader.load(header["vlan_classes"] + packet.vlan, 1),
        "broad": 0,
    }
    records = [
        reader.load(of_family[f"{side}_wide"] + place.broad * 4, 4)
        for side, place in (("src", src), ("dst", dst))
    ]
    wide = first_wide(reader, header, packet, records)
    _never_missed(wide, min(of_family["wide"], of_family["fallback"]))
    pair = pair_word(reader, header, src.pair, dst.pair) if src.pair and dst.pair else NO_RULE
    return Answers(
        of_family["fallback"],
        first_of(reader, header, pair, lanes),
        first_of(reader, header, src.word, lanes | {"broad": dst.broad}),
        first_of(reader, header, dst.word, lanes | {"broad": src.broad}),
        wide,
    )


def _never_missed(wide: int, first: int) -> None:
    """The programs skip the bit vectors where the first wide rule comes too late."""
    if wide < first:
        raise IndexError(f"rule {wide} is found by bit vectors, whose first is said to be {first}")


@lru_cache(maxsize=2)
def _reader(blob: bytes) -> Reader:
    return Reader(blob)


def first_match(blob: bytes, hook: str, packet: Indices) -> int | None:
    """The index of the first rule of the hook that matches, or None."""
    return answers(_reader(blob), hook, packet).first


def action(blob: bytes, hook: str, rule: int) -> tuple[int, Target | None]:
    """What a rule does: its action, and its target if it redirects."""
    reader = Reader(blob)
    base = reader.header(hook)
    packed = reader.load(base["actions"] + rule * 2, 2)
    if packed & 0xFF != _NUMBERS["XG_REDIRECT"]:
        return packed & 0xFF, None
    found = reader.struct("xg_target", base["targets"] + (packed >> 8) * _ABI.structs["xg_target"].size)
    return packed & 0xFF, Target(
        found["ifindex"], found["rewrite"], bytes(found["src_mac"]), bytes(found["dst_mac"])
    )
