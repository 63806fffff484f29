"""The classifier's lookups, read from the bytes of a blob: ``bpf/include/classify.h`` in plain Python.

Owns a second reader of the tables that ``xdpguard/classify`` writes, so that they can be tested without a
kernel. It must never import ``xdpguard.classify`` or NumPy: it would share their view of the bytes. It is
stricter than the programs, which mask every offset: a misaligned or outside one raises here.
"""

from __future__ import annotations

from typing import NamedTuple

from oracle import Packet

from xdpguard.abi import abi

_ABI = abi()
_NUMBERS = _ABI.numbers
_SMALL = ("XG_SPORT", "XG_DPORT", "XG_L4", "XG_VLAN")
MAX_SEARCH = 22  # XG_MAX_SEARCH of classify.h
HOOKS = {"ingress": _NUMBERS["XG_INGRESS"], "egress": _NUMBERS["XG_EGRESS"]}


class Indices(NamedTuple):
    """What ``struct pkt`` holds for the classifier. ``family``: 4, 6, or 0 for ARP."""

    family: int
    src: int
    dst: int
    sport: int
    dport: int
    l4: int
    vlan: int


class Target(NamedTuple):
    ifindex: int
    rewrite: int
    src_mac: bytes
    dst_mac: bytes


def indices(packet: Packet) -> Indices | None:
    """The indices of a readable packet; None for one that no rule can match, being neither IP nor ARP."""
    if packet.protocol == "non_ip":
        return None
    source, target = packet.sport, packet.dport
    if packet.icmp_type is not None and packet.icmp_code is not None:
        source = _NUMBERS["XG_PORT_ICMP"] + packet.icmp_type
        target = _NUMBERS["XG_PORT_ICMP"] + packet.icmp_code
    none = _NUMBERS["XG_PORT_NONE"]
    return Indices(
        packet.version,
        packet.src,
        packet.dst,
        none if source is None else source,
        none if target is None else target,
        _l4(packet),
        packet.vlan,
    )


def _l4(packet: Packet) -> int:
    if packet.protocol == "arp":
        return _NUMBERS["XG_L4_ARP"]
    if packet.tcp_flags is not None:
        return _NUMBERS[f"XG_L4_TCP{packet.version}"] + packet.tcp_flags
    return _NUMBERS[f"XG_L4_IPV{packet.version}"] + packet.number


class Reader:
    """One blob. Every read is aligned and inside, or IndexError."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob

    def load(self, offset: int, size: int) -> int:
        if offset % size or not 0 <= offset <= len(self.blob) - size:
            raise IndexError(f"{size} bytes at {offset} of {len(self.blob)}")
        return int.from_bytes(self.blob[offset : offset + size], "little")

    def field(self, path: str, base: int) -> int:
        return _ABI.get(self.blob, path, base)

    def hook(self, hook: str) -> int:
        """Offset of the hook's header."""
        return _ABI.offset("xg_blob.hook") + HOOKS[hook] * _ABI.structs["xg_hook"].size

    def small_class(self, base: int, number: int, index: int, stride: int) -> int:
        """Offset of the class record of a value of a paged dimension."""
        at = base + _ABI.offset("xg_hook.small") + number * _ABI.structs["xg_paged"].size
        page = self.load(self.field("xg_paged.pages", at) + (index >> 8) * 2, 2)
        entry = self.load(self.field("xg_paged.entries", at) + (page * 256 + (index & 255)) * 2, 2)
        return self.field("xg_paged.classes", at) + entry * stride

    def address_class(self, base: int, name: str, value: int, stride: int) -> int:
        """Offset of the class record of an address, found in at most MAX_SEARCH halvings."""
        at = base + _ABI.offset(f"xg_hook.{name}")
        starts, steps = self.field("xg_address.starts", at), self.field("xg_address.steps", at)
        if steps > MAX_SEARCH:
            raise IndexError(f"{name}: {steps} steps; the program takes {MAX_SEARCH}")
        found = 0
        for step in reversed(range(steps)):
            if self._start(starts, found + (1 << step), name) <= value:
                found += 1 << step
        number = self.load(self.field("xg_address.numbers", at) + found * 4, 4)
        return self.field("xg_address.classes", at) + number * stride

    def _start(self, starts: int, index: int, name: str) -> int:
        if name.endswith("4"):
            return self.load(starts + index * 4, 4)
        return self.load(starts + index * 16, 8) << 64 | self.load(starts + index * 16 + 8, 8)

    def both(self, offsets: list[int], add: int, size: int) -> int:
        """The AND of one word of every dimension."""
        found = (1 << 64) - 1
        for offset in offsets:
            found &= self.load(offset + add, size)
        return found


def bits(word: int) -> list[int]:
    """Numbers of the set bits, lowest first."""
    return [bit for bit in range(64) if word >> bit & 1]


def first_match(blob: bytes, hook: str, packet: Indices) -> int | None:
    """The index of the first rule of the hook that matches, or None."""
    reader = Reader(blob)
    base = reader.hook(hook)
    stride = reader.field("xg_hook.class_stride", base)
    version = 6 if packet.family == 6 else 4
    classes = [
        reader.address_class(base, f"src{version}", packet.src, stride),
        reader.address_class(base, f"dst{version}", packet.dst, stride),
    ]
    for name, index in zip(_SMALL, (packet.sport, packet.dport, packet.l4, packet.vlan), strict=True):
        classes.append(reader.small_class(base, _NUMBERS[name], index, stride))
    for block in bits(reader.both(classes, 0, 8)):
        vectors = [reader.load(offset + 8 + block * 4, 4) for offset in classes]
        for word in bits(reader.both(vectors, 0, 8)):
            rules = bits(reader.both(vectors, 8 + word * 8, 8))
            if rules:
                return block * _NUMBERS["XG_BLOCK_RULES"] + word * 64 + rules[0]
    return None


def action(blob: bytes, hook: str, rule: int) -> tuple[int, Target | None]:
    """What a rule does: its action, and its target if it redirects."""
    reader = Reader(blob)
    base = reader.hook(hook)
    packed = reader.load(reader.field("xg_hook.actions", base) + rule * 2, 2)
    if packed & 0xFF != _NUMBERS["XG_REDIRECT"]:
        return packed & 0xFF, None
    layout = _ABI.structs["xg_target"]
    at = reader.field("xg_hook.targets", base) + (packed >> 8) * layout.size
    source, target = (at + layout.fields[name].offset for name in ("src_mac", "dst_mac"))
    return packed & 0xFF, Target(
        reader.field("xg_target.ifindex", at),
        reader.field("xg_target.rewrite", at),
        blob[source : source + 6],
        blob[target : target + 6],
    )
