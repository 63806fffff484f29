"""Packets for tests, written as they read: ``bytes(eth() / vlan(5) / ipv4() / tcp(dport=80) / b"payload")``.

Owns the wire format of the headers that tests send. Lengths, next-header fields and checksums are computed;
every one of them can be overridden, so that a header may lie. It must never judge a packet and never import
xdpguard: the oracle and the kernel programs are checked against these bytes.

Addresses default to the documentation ranges (RFC 5737, RFC 3849, RFC 7042).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from ipaddress import IPv4Address, IPv6Address
from struct import pack

V4_SRC, V4_DST = "198.51.100.7", "192.0.2.1"
V6_SRC, V6_DST = "2001:db8:51::7", "2001:db8::1"
MAC_SRC, MAC_DST = "00:00:5e:00:53:01", "00:00:5e:00:53:02"
BROADCAST = "ff:ff:ff:ff:ff:ff"
EXPERIMENTAL_PROTOCOL = 253  # RFC 3692
EXPERIMENTAL_ETHERTYPE = 0x88B5  # IEEE 802
FLAG_LETTERS = "FSRPAUEC"  # bit 0 first (RFC 9293 3.1)


Wire = Callable[[bytes, "Layer | None", bytes], bytes]


class Layer:
    """One header. ``wire(payload, upper, addresses)`` gives the header and its payload: ``upper`` is the next
    layer, ``addresses`` the source and destination of the nearest IP header outside this one (b"" if none).
    ``ethertype`` and ``protocol`` are what the header before this one calls it.
    """

    __slots__ = ("addresses", "ethertype", "protocol", "wire")

    def __init__(
        self, wire: Wire, ethertype: int | None = None, protocol: int | None = None, addresses: bytes = b""
    ) -> None:
        self.wire, self.ethertype, self.protocol, self.addresses = wire, ethertype, protocol, addresses

    def __truediv__(self, other: Layer | Packet | bytes) -> Packet:
        return Packet((self,)) / other

    def __bytes__(self) -> bytes:
        return Packet((self,)).build()


class Packet:
    """Layers, outermost first."""

    __slots__ = ("layers",)

    def __init__(self, layers: tuple[Layer, ...]) -> None:
        self.layers = layers

    def __truediv__(self, other: Layer | Packet | bytes) -> Packet:
        if isinstance(other, Packet):
            return Packet(self.layers + other.layers)
        return Packet((*self.layers, other if isinstance(other, Layer) else raw(other)))

    def build(self) -> bytes:
        outside, addresses = [], b""
        for layer in self.layers:
            outside.append(addresses)
            addresses = layer.addresses or addresses
        data, upper = b"", None
        for layer in reversed(self.layers):
            data = layer.wire(data, upper, outside.pop())
            upper = layer
        return data

    __bytes__ = build


# ---- pieces ---------------------------------------------------------------------------------------------
@lru_cache(maxsize=4096)
def address4(address: str | int) -> bytes:
    return IPv4Address(address).packed


@lru_cache(maxsize=4096)
def address6(address: str | int) -> bytes:
    return IPv6Address(address).packed


@lru_cache(maxsize=4096)
def mac(text: str) -> bytes:
    return bytes.fromhex(text.replace(":", ""))


def checksum(data: bytes) -> int:
    """Internet checksum (RFC 1071). Sums of 16-bit words are residues modulo 65,535."""
    total = int.from_bytes(data + b"\0" if len(data) & 1 else data, "big")
    return 0xFFFF - (total % 0xFFFF or (0xFFFF if total else 0))


def _crc_step(value: int) -> int:
    for _ in range(8):
        value = value >> 1 ^ (0x82F63B78 if value & 1 else 0)
    return value


_CRC = tuple(_crc_step(byte) for byte in range(256))


def crc32c(data: bytes) -> int:
    """CRC-32C (RFC 9260, appendix A). SCTP sends it in little-endian order."""
    value = 0xFFFFFFFF
    for byte in data:
        value = value >> 8 ^ _CRC[(value ^ byte) & 255]
    return value ^ 0xFFFFFFFF


def _pad(data: bytes, multiple: int) -> bytes:
    return data + bytes(-len(data) % multiple)


def _ethertype(given: int | None, upper: Layer | None) -> int:
    own = upper.ethertype if upper and given is None else given
    return EXPERIMENTAL_ETHERTYPE if own is None else own


def _protocol(given: int | None, upper: Layer | None) -> int:
    if given is None:
        given = 59 if upper is None else upper.protocol
    return EXPERIMENTAL_PROTOCOL if given is None else given


def _sum(addresses: bytes, protocol: int, data: bytes) -> int:
    """The checksum with the pseudo-header (RFC 9293 3.1, RFC 8200 8.1); ICMP has none (RFC 792)."""
    if protocol == 1 or not addresses:
        return checksum(data)
    if len(addresses) == 32:
        return checksum(addresses + pack("!II", len(data), protocol) + data)
    return checksum(addresses + pack("!HH", protocol, len(data) & 0xFFFF) + data)


def _put(data: bytes, offset: int, value: int) -> bytes:
    return data[:offset] + pack("!H", value) + data[offset + 2 :]


# ---- layer 2 --------------------------------------------------------------------------------------------
def raw(data: bytes = b"", protocol: int | None = None, ethertype: int | None = None) -> Layer:
    """Bytes as they are."""
    return Layer(lambda payload, upper, addresses: data + payload, ethertype, protocol)


def eth(dst: str = MAC_DST, src: str = MAC_SRC, ethertype: int | None = None) -> Layer:
    start = mac(dst) + mac(src)
    return Layer(lambda payload, upper, _: start + pack("!H", _ethertype(ethertype, upper)) + payload)


def vlan(vid: int = 1, *, pcp: int = 0, dei: bool = False, tpid: int = 0x8100) -> Layer:
    """An 802.1Q tag; ``tpid=0x88a8`` makes it an 802.1ad one."""
    tci = pcp << 13 | dei << 12 | vid
    return Layer(lambda data, upper, _: pack("!HH", tci, _ethertype(None, upper)) + data, tpid)


def arp(
    op: int = 1, *, sha: str = MAC_SRC, spa: str = V4_SRC, tha: str = "00:00:00:00:00:00",
    tpa: str = V4_DST, hlen: int = 6, plen: int = 4,
) -> Layer:  # fmt: skip
    """RFC 826. ``hlen`` and ``plen`` may lie about the addresses that follow."""
    head = pack("!HHBBH", 1, 0x0800, hlen, plen, op)
    return raw(head + mac(sha) + address4(spa) + mac(tha) + address4(tpa), ethertype=0x0806)


# ---- layer 3 --------------------------------------------------------------------------------------------
def ipv4(
    src: str | int = V4_SRC, dst: str | int = V4_DST, *, proto: int | None = None, ttl: int = 64,
    options: bytes = b"", mf: bool = False, df: bool = False, reserved: bool = False, offset: int = 0,
    ident: int = 1, tos: int = 0, version: int = 4, ihl: int | None = None,
    total_length: int | None = None, chksum: int | None = None,
) -> Layer:  # fmt: skip
    """RFC 791. ``offset`` counts units of 8 bytes; options are padded to a multiple of 4."""
    addresses = address4(src) + address4(dst)
    options = _pad(options, 4)
    first = version << 4 | (5 + len(options) // 4 if ihl is None else ihl)
    flags = reserved << 15 | df << 14 | mf << 13 | offset

    def wire(payload: bytes, upper: Layer | None, _: bytes) -> bytes:
        total = 20 + len(options) + len(payload) if total_length is None else total_length
        number = _protocol(proto, upper)
        start = pack("!BBHHHBB", first, tos, total & 0xFFFF, ident, flags, ttl, number)
        value = checksum(start + addresses + options) if chksum is None else chksum
        return start + pack("!H", value) + addresses + options + payload

    return Layer(wire, 0x0800, 4, addresses)


def ipv6(
    src: str | int = V6_SRC, dst: str | int = V6_DST, *, next_header: int | None = None,
    hop_limit: int = 64, payload_length: int | None = None, traffic_class: int = 0, flow: int = 0,
    version: int = 6,
) -> Layer:  # fmt: skip
    addresses = address6(src) + address6(dst)
    word = version << 28 | traffic_class << 20 | flow

    def wire(payload: bytes, upper: Layer | None, _: bytes) -> bytes:
        length = len(payload) if payload_length is None else payload_length
        start = pack("!IHBB", word, length & 0xFFFF, _protocol(next_header, upper), hop_limit)
        return start + addresses + payload

    return Layer(wire, 0x86DD, 41, addresses)


def extension(number: int, body: bytes = b"", *, length: int | None = None, then: int | None = None) -> Layer:
    """The common form (RFC 6564); ``body`` follows two bytes, ``then`` overrides the next header."""
    padded = _pad(b"\0\0" + body, 8)
    size = len(padded) // 8 - 1 if length is None else length
    tail = bytes([size]) + padded[2:]
    return Layer(lambda data, up, _: bytes([_protocol(then, up)]) + tail + data, protocol=number)


hop_by_hop = partial(extension, 0)
destination = partial(extension, 60)


def routing(kind: int = 0, left: int = 0, data: bytes = b"", *, length: int | None = None) -> Layer:
    return extension(43, bytes([kind, left]) + data, length=length)


def fragment(offset: int = 0, more: bool = False, *, reserved: int = 0, then: int | None = None) -> Layer:
    """RFC 8200 4.5. ``offset`` counts units of 8 bytes."""
    tail = pack("!BHI", reserved, offset << 3 | more, 1)
    return Layer(lambda data, upper, _: bytes([_protocol(then, upper)]) + tail + data, protocol=44)


def ah(icv: bytes = bytes(12), *, length: int | None = None, then: int | None = None) -> Layer:
    """RFC 4302: the length counts 4-byte words, less two."""
    size = (12 + len(icv)) // 4 - 2 if length is None else length
    tail = pack("!BHII", size, 0, 1, 1) + icv
    return Layer(lambda data, upper, _: bytes([_protocol(then, upper)]) + tail + data, protocol=51)


def esp(spi: int = 1, sequence: int = 1) -> Layer:
    return raw(pack("!II", spi, sequence), protocol=50)


def gre(ethertype: int | None = None) -> Layer:
    return Layer(lambda data, upper, _: pack("!HH", 0, _ethertype(ethertype, upper)) + data, protocol=47)


# ---- layer 4 --------------------------------------------------------------------------------------------
def _summed(head: bytes, protocol: int, at: int, given: int | None) -> Layer:
    """A header with its checksum at offset ``at``."""

    def wire(payload: bytes, _: Layer | None, addresses: bytes) -> bytes:
        data = head + payload
        return _put(data, at, _sum(addresses, protocol, data) if given is None else given)

    return Layer(wire, protocol=protocol)


def tcp(
    sport: int = 40000, dport: int = 80, flags: str | int = "S", *, seq: int = 1, ack: int = 0,
    options: bytes = b"", doff: int | None = None, window: int = 65535, chksum: int | None = None,
) -> Layer:  # fmt: skip
    """RFC 9293. ``flags``: letters of FSRPAUEC, or the byte. Options are padded to a multiple of 4."""
    bits = flags if isinstance(flags, int) else sum(1 << FLAG_LETTERS.index(letter) for letter in flags)
    options = _pad(options, 4)
    size = 5 + len(options) // 4 if doff is None else doff
    head = pack("!HHIIBBHHH", sport, dport, seq, ack, size << 4, bits, window, 0, 0)
    return _summed(head + options, 6, 16, chksum)


def udp(sport: int = 40000, dport: int = 53, length: int | None = None, chksum: int | None = None) -> Layer:

    def wire(payload: bytes, _: Layer | None, addresses: bytes) -> bytes:
        size = (8 + len(payload) if length is None else length) & 0xFFFF
        data = pack("!HHHH", sport, dport, size, 0) + payload
        return _put(data, 6, (_sum(addresses, 17, data) or 0xFFFF) if chksum is None else chksum)

    return Layer(wire, protocol=17)


def icmp(type: int = 8, code: int = 0, rest: bytes = b"\0\1\0\1", *, chksum: int | None = None) -> Layer:
    """RFC 792. ``rest`` is the second half of the header."""
    return _summed(bytes([type, code, 0, 0]) + rest, 1, 2, chksum)


def icmpv6(type: int = 128, code: int = 0, rest: bytes = b"\0\1\0\1", *, chksum: int | None = None) -> Layer:
    """RFC 4443. ``rest`` is what follows the 4 bytes that every message has."""
    return _summed(bytes([type, code, 0, 0]) + rest, 58, 2, chksum)


def nd(type: int = 135, target: str = V6_DST) -> Layer:
    """Neighbour discovery (RFC 4861): types 135 and 136 as they are, the others with the same bytes."""
    return icmpv6(type, rest=bytes(4) + address6(target))


def sctp(sport: int = 40000, dport: int = 80, tag: int = 0, *, chksum: int | None = None) -> Layer:
    head = pack("!HHI", sport, dport, tag)

    def wire(payload: bytes, _: Layer | None, addresses: bytes) -> bytes:
        value = crc32c(head + bytes(4) + payload) if chksum is None else chksum
        return head + pack("<I", value) + payload

    return Layer(wire, protocol=132)
