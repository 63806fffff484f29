"""The reference: what happens to one frame under one RuleSet, read slowly and plainly from the RFCs.

Written from RFC 791, 792, 768, 826, 1858, 3128, 4443, 4861, 6946, 7112, 8200, 9260, 9293 and IEEE 802.1Q, and
from the rule language, not from the programs that it judges. It must never import the classifier or anything
of bpf/, and never be made fast at the price of clarity: two look-alike parsers agree on the same bug.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from xdpguard.rules.model import VLAN_NONE, Action, Addresses, Intervals, Match, RuleSet

TAG_ETHERTYPES = (0x8100, 0x88A8, 0x9100)
MAX_TAGS, MAX_EXTENSION_HEADERS, LARGEST_PACKET = 2, 8, 65535
HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION = 0, 43, 44, 51, 60
EXTENSION_HEADERS = (HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION)
KINDS4 = {1: "icmp", 6: "tcp", 17: "udp", 132: "sctp"}
KINDS6 = {6: "tcp", 17: "udp", 58: "icmpv6", 132: "sctp"}
HEADER_BYTES = {"tcp": 20, "udp": 8, "icmp": 8, "icmpv6": 4, "sctp": 12}


class Verdict(NamedTuple):
    """``decider``: a rule's name, "default" or a reason's name. ``protocol``: as counted."""

    action: Action
    decider: str
    protocol: str


@dataclass(slots=True)
class Packet:
    """What can be read in a packet that is not malformed. ``None``: the packet has no such field."""

    protocol: str = "non_ip"  # as counted
    vlan: int = VLAN_NONE
    version: int = 0  # of IP; 0: not IP
    number: int = -1  # IP protocol
    src: int = 0
    dst: int = 0
    hop_limit: int = 0
    sport: int | None = None
    dport: int | None = None
    tcp_flags: int | None = None
    icmp_type: int | None = None
    icmp_code: int | None = None


class Decided(Exception):
    """Reading ended early: the reason decides."""

    def __init__(self, reason: str, protocol: str) -> None:
        super().__init__(reason)
        self.reason, self.protocol = reason, protocol


def decide(
    rules: RuleSet, hook: str, frame: bytes, *, ethernet: bool = True, tag: int | None = None
) -> Verdict:
    """The verdict at ``hook``, "ingress" or "egress". ``ethernet=False``: the device has no Ethernet header,
    the frame starts at IP. ``tag``: the TCI of a tag kept beside the frame; it is the outermost one.
    """
    chain = {"ingress": rules.ingress, "egress": rules.egress}[hook]
    try:
        packet = read(frame, rules.drop_fragments, ethernet=ethernet, tag=tag)
    except Decided as end:
        action = Action.DROP if end.reason == "fragment" else rules.malformed
        return Verdict(action, end.reason, end.protocol)
    for rule in chain.rules:
        if matches(rule.match, packet):
            if rule.action == Action.TX and (not ethernet or (frame[0] | frame[6]) & 1):
                return Verdict(Action.DROP, "tx_refused", packet.protocol)
            return Verdict(rule.action, rule.name, packet.protocol)
    if essential(packet, hook):
        return Verdict(Action.PASS, "essential", packet.protocol)
    return Verdict(chain.default, "default", packet.protocol)


# ---- rules ----------------------------------------------------------------------------------------------
def holds(intervals: Intervals | None, value: int | None) -> bool:
    """Whether a condition holds; a field that is not there is never equal to anything."""
    return intervals is None or (value is not None and any(a <= value <= b for a, b in intervals))


def allows(addresses: Addresses | None, version: int, value: int) -> bool:
    return addresses is None or holds(addresses.v4 if version == 4 else addresses.v6, value)


def matches(match: Match, packet: Packet) -> bool:
    if not holds(match.vlan, packet.vlan):
        return False
    if packet.protocol == "arp":
        return match.arp
    if packet.version == 0 or not (match.ipv4 if packet.version == 4 else match.ipv6):
        return False
    either = match.protocols
    return (
        (either is None or packet.number in (either.v4 if packet.version == 4 else either.v6))
        and (match.tcp_flags is None or packet.tcp_flags in match.tcp_flags)
        and allows(match.src, packet.version, packet.src)
        and allows(match.dst, packet.version, packet.dst)
        and holds(match.sport, packet.sport)
        and holds(match.dport, packet.dport)
        and holds(match.icmp_type, packet.icmp_type)
        and holds(match.icmp_code, packet.icmp_code)
    )


def essential(packet: Packet, hook: str) -> bool:
    """Traffic without which a host loses its network (RFC 826, 4861, 1191, 8201, 2131, 8415)."""
    kind = packet.icmp_type
    if packet.protocol == "icmp":
        return (kind, packet.icmp_code) == (3, 4)
    if packet.protocol == "icmpv6":
        return kind == 2 or (kind is not None and 133 <= kind <= 137 and packet.hop_limit == 255)
    if packet.protocol == "udp":
        client, server = (68, 67) if packet.version == 4 else (546, 547)
        ports = (server, client) if hook == "ingress" else (client, server)
        return (packet.sport, packet.dport) == ports
    return packet.protocol == "arp"


# ---- headers --------------------------------------------------------------------------------------------
def number(data: bytes, offset: int, size: int = 2) -> int:
    return int.from_bytes(data[offset : offset + size], "big")


def read(frame: bytes, drop: bool = False, *, ethernet: bool = True, tag: int | None = None) -> Packet:
    """All fields of a frame. Raises Decided for a malformed one, and for a fragment if those are dropped."""
    packet = Packet() if tag is None else Packet(vlan=tag & 0xFFF)
    if not ethernet:
        reader = {4: read_ipv4, 6: read_ipv6}.get(frame[0] >> 4 if frame else 0)
        if reader:
            reader(packet, frame, drop)
        return packet
    if len(frame) < 14:
        raise Decided("malformed_ethernet", "non_ip")
    tags = 0 if tag is None else 1
    ethertype, data = number(frame, 12), frame[14:]
    while ethertype in TAG_ETHERTYPES:
        if tags == MAX_TAGS or len(data) < 4:
            raise Decided("malformed_vlan", "non_ip")
        packet.vlan = packet.vlan if tags else number(data, 0) & 0xFFF
        tags += 1
        ethertype, data = number(data, 2), data[4:]
    if ethertype == 0x0800:
        read_ipv4(packet, data, drop)
    elif ethertype == 0x86DD:
        read_ipv6(packet, data, drop)
    elif ethertype == 0x0806:
        packet.protocol = "arp"
        if len(data) < 8 or len(data) < 8 + 2 * (data[4] + data[5]):
            raise Decided("malformed_arp", "arp")
    return packet


def read_ipv4(packet: Packet, data: bytes, drop: bool) -> None:
    header = (data[0] & 15) * 4 if data else 0
    if len(data) < 20 or data[0] >> 4 != 4 or header < 20 or header > len(data):
        raise Decided("malformed_ipv4_header", "other_ip")
    total = number(data, 2)
    if total == 0 and len(data) > LARGEST_PACKET:
        total = len(data)  # a GSO packet over 64 KiB
    if total < header or total > len(data):
        raise Decided("malformed_ipv4_length", "other_ip")
    packet.version, packet.hop_limit = 4, data[8]
    packet.src, packet.dst = number(data, 12, 4), number(data, 16, 4)
    packet.number, packet.protocol = data[9], KINDS4.get(data[9], "other_ip")
    payload = data[header:total]
    more, offset = bool(number(data, 6) & 0x2000), (number(data, 6) & 0x1FFF) * 8
    if more or offset:
        check_fragment(packet.protocol, offset, len(payload), drop)
    if offset == 0:
        read_transport(packet, payload, first_fragment=more)


def read_ipv6(packet: Packet, data: bytes, drop: bool) -> None:
    if len(data) < 40 or data[0] >> 4 != 6:
        raise Decided("malformed_ipv6_header", "other_ip")
    length, available = number(data, 4), len(data) - 40
    if length == 0 and available > LARGEST_PACKET:
        length = available
    if length > available:
        raise Decided("malformed_ipv6_length", "other_ip")
    packet.version, packet.hop_limit = 6, data[7]
    packet.src, packet.dst = number(data, 8, 16), number(data, 24, 16)
    rest, following = data[40 : 40 + length], data[6]
    seen: list[int] = []
    more, offset = False, 0
    while following in EXTENSION_HEADERS and offset == 0:
        if len(seen) == MAX_EXTENSION_HEADERS or (following == HOP_BY_HOP and seen):
            raise Decided("malformed_ipv6_extension", "other_ip")
        if following == FRAGMENT and FRAGMENT in seen:
            raise Decided("malformed_fragment", "other_ip")
        size = extension_bytes(following, rest)
        if size > len(rest):  # a first fragment holds the whole chain (RFC 7112)
            raise Decided("malformed_fragment" if more else "malformed_ipv6_extension", "other_ip")
        seen.append(following)
        header, rest, following = rest[:size], rest[size:], rest[0]
        if seen[-1] == FRAGMENT:
            more, offset = bool(header[3] & 1), number(header, 2) & 0xFFF8
            if more or offset:  # neither: an atomic fragment, a whole packet (RFC 6946)
                kind = KINDS6.get(following, "other_ip")
                check_fragment(kind, offset, len(rest), drop, unit=8 if more else 1)
    packet.number, packet.protocol = following, KINDS6.get(following, "other_ip")
    if offset == 0:
        read_transport(packet, rest, first_fragment=more)


def extension_bytes(kind: int, data: bytes) -> int:
    """The length a header says it has; 8 where not even its first 8 bytes are there."""
    if kind == FRAGMENT or len(data) < 8:
        return 8
    return (data[1] + 2) * 4 if kind == AUTHENTICATION else (data[1] + 1) * 8


def check_fragment(kind: str, offset: int, length: int, drop: bool, unit: int = 1) -> None:
    """Every fragment fits a packet, and none overwrites a TCP header that was let through (RFC 3128)."""
    if drop:
        raise Decided("fragment", kind)
    if length % unit or offset + length > LARGEST_PACKET or (kind == "tcp" and 0 < offset < 20):
        raise Decided("malformed_fragment", kind)


def read_transport(packet: Packet, data: bytes, first_fragment: bool) -> None:
    """Ports, flags, type and code. A first fragment holds its whole header or is malformed (RFC 1858)."""
    kind = packet.protocol
    if kind == "other_ip":
        return
    malformed = f"malformed_{kind}"
    cut = "malformed_fragment" if first_fragment else malformed
    if len(data) < HEADER_BYTES[kind]:
        raise Decided(cut, kind)
    if kind in ("icmp", "icmpv6"):
        packet.icmp_type, packet.icmp_code = data[0], data[1]
        return
    packet.sport, packet.dport = number(data, 0), number(data, 2)
    if kind == "tcp":
        packet.tcp_flags, header = data[13], (data[12] >> 4) * 4
        if header < 20:
            raise Decided(malformed, kind)
        if header > len(data):
            raise Decided(cut, kind)
    if kind == "udp":
        length = number(data, 4)
        if length == 0 and len(data) > LARGEST_PACKET and not first_fragment:
            length = len(data)
        if length < 8 or (length > len(data) and not first_fragment):
            raise Decided(malformed, kind)
