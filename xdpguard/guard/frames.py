"""The frames that a host must not lose: ARP and neighbour discovery of its gateway, and one SSH segment.

Pure: addresses in, bytes out. Checksums are left zero: no program looks at them.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address
_BROADCAST = b"\xff" * 6
_IPV4, _ARP, _IPV6 = 0x0800, 0x0806, 0x86DD
_TCP, _ICMPV6 = 6, 58
_PSH_ACK = 0x18
_SOLICIT, _ADVERTISE = 135, 136


@dataclass(frozen=True, slots=True)
class End:
    """One side of a conversation. ``mac`` is empty on a device without Ethernet header."""

    mac: bytes
    address: Address
    port: int = 0


def _ethernet(source: End, destination: bytes, ethertype: int, payload: bytes) -> bytes:
    if not source.mac:
        return payload
    return destination + source.mac + struct.pack("!H", ethertype) + payload


def arp(source: End, target: End, *, reply: bool) -> bytes:
    """RFC 826: who has the target's address (broadcast), or the answer (unicast)."""
    body = struct.pack("!HHBBH", 1, _IPV4, 6, 4, 2 if reply else 1)
    body += source.mac + source.address.packed
    body += (target.mac if reply else bytes(6)) + target.address.packed
    return _ethernet(source, target.mac if reply else _BROADCAST, _ARP, body + bytes(18))


def neighbour(source: End, target: End, *, advertise: bool) -> bytes:
    """RFC 4861 4.3 and 4.4, hop limit 255; a solicitation goes to the solicited-node group (RFC 4291)."""
    last = target.address.packed[-3:]
    group = b"\xff\x02" + bytes(9) + b"\x01\xff" + last
    destination = target.address.packed if advertise else group
    mac = target.mac if advertise else b"\x33\x33\xff" + last
    subject = source.address if advertise else target.address
    kind, option = (_ADVERTISE, 2) if advertise else (_SOLICIT, 1)
    icmp = struct.pack("!BBHI", kind, 0, 0, 0x60000000 if advertise else 0) + subject.packed
    icmp += struct.pack("!BB", option, 1) + source.mac
    return _ethernet(source, mac, _IPV6, _ipv6(source.address.packed, destination, _ICMPV6, icmp))


def segment(source: End, target: End) -> bytes:
    """A TCP segment of an established connection, with one byte of data."""
    tcp = struct.pack("!HHIIBBHHH", source.port, target.port, 1, 1, 5 << 4, _PSH_ACK, 1024, 0, 0) + b"x"
    if isinstance(source.address, IPv6Address):
        packet = _ipv6(source.address.packed, target.address.packed, _TCP, tcp)
        return _ethernet(source, target.mac, _IPV6, packet)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(tcp), 0, 0x4000, 64, _TCP, 0)
    packet = head + source.address.packed + target.address.packed + tcp
    return _ethernet(source, target.mac, _IPV4, packet)


def _ipv6(source: bytes, destination: bytes, protocol: int, payload: bytes) -> bytes:
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 255) + source + destination + payload
