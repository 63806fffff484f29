"""Bytes of a blob, read strictly: every number aligned and inside, or IndexError.

Owns the half of ``tests/tables.py`` that knows no algorithm: what ``struct pkt`` holds of a packet, and how
the structs of abi.h lie in a blob. It must never import ``xdpguard.classify`` or NumPy.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from oracle import Packet

from xdpguard.abi import abi

_ABI = abi()
_NUMBERS = _ABI.numbers
_SIZES = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8}
HOOKS = {"ingress": _NUMBERS["XG_INGRESS"], "egress": _NUMBERS["XG_EGRESS"]}
LINE = _NUMBERS["XG_LINE"]


class Indices(NamedTuple):
    """What ``struct pkt`` holds for the classifier. ``family``: 4, 6, or 0 for ARP."""

    family: int
    src: int
    dst: int
    sport: int
    dport: int
    l4: int
    vlan: int


def indices(packet: Packet) -> Indices | None:
    """The indices of a readable packet; None for one that no rule can match, being neither IP nor ARP."""
    if packet.protocol == "non_ip":
        return None
    source, target = packet.sport, packet.dport
    if packet.icmp_type is not None and packet.icmp_code is not None:
        source, target = packet.icmp_type, packet.icmp_code
    return Indices(packet.version, packet.src, packet.dst, source or 0, target or 0, _l4(packet), packet.vlan)


def _l4(packet: Packet) -> int:
    if packet.protocol == "arp":
        return _NUMBERS["XG_L4_ARP"]
    if packet.tcp_flags is not None:
        return _NUMBERS[f"XG_L4_TCP{packet.version}"] + packet.tcp_flags
    was_read = packet.sport is not None or packet.icmp_type is not None
    base = _NUMBERS["XG_L4_HEADER"] if was_read else 0
    return base + _NUMBERS[f"XG_L4_IPV{packet.version}"] + packet.number


class Reader:
    """One blob. Every read is aligned and inside, or IndexError."""

    def __init__(self, blob: bytes) -> None:
        self.blob = blob
        self._headers: dict[str, dict[str, Any]] = {}

    def load(self, offset: int, size: int) -> int:
        if offset % size or not 0 <= offset <= len(self.blob) - size:
            raise IndexError(f"{size} bytes at {offset} of {len(self.blob)}")
        return int.from_bytes(self.blob[offset : offset + size], "little")

    def line(self, offset: int, key: int, step: int) -> list[int]:
        """The numbers of ``key`` bytes that begin every ``step`` bytes of a cache line."""
        if offset % LINE or not 0 <= offset <= len(self.blob) - LINE:
            raise IndexError(f"a line at {offset} of {len(self.blob)}")
        return [self.load(at, key) for at in range(offset, offset + LINE, step)]

    def struct(self, name: str, base: int) -> dict[str, Any]:
        """All fields of a struct, those of the structs in it too."""
        return {each: self._field(name, each, base) for each in _ABI.structs[name].fields}

    def _field(self, struct: str, name: str, base: int) -> Any:
        field = _ABI.structs[struct].fields[name]
        size = _SIZES.get(field.type) or _ABI.structs[field.type].size
        found = [
            self.load(at, size) if field.type in _SIZES else self.struct(field.type, at)
            for at in range(base + field.offset, base + field.offset + size * max(field.count, 1), size)
        ]
        return found if field.count else found[0]

    def hook(self, hook: str) -> int:
        """Offset of the hook's header."""
        return _ABI.offset("xg_blob.hook") + HOOKS[hook] * _ABI.structs["xg_hook"].size

    def header(self, hook: str) -> dict[str, Any]:
        if hook not in self._headers:
            self._headers[hook] = self.struct("xg_hook", self.hook(hook))
        return self._headers[hook]
