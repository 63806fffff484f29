"""Named packets and what must happen to each, written by hand from the rule language and the RFCs.

Owns the table CORPUS and the two rule sets that it speaks of; the rule file of each is beside it as text.
It must never ask the oracle or the program what they think: both are tested against this table.

``decider`` says all that is needed, because each hook has one rule (TCP, destination port 22), named ``ssh``
on ingress and ``ssh-out`` on egress:

    decider        under PASS_DEFAULT   under DENY_DEFAULT
    ssh, ssh-out   drop                 pass
    default        pass                 drop
    essential      pass                 pass
    any other      drop                 drop                 a reason: malformed_* is dropped by both
"""

from __future__ import annotations  # noqa: I001 - one import a line would be half a page

from dataclasses import dataclass

from packets import (
    BROADCAST, MAC_DST, V4_DST, Layer, Packet, ah, arp, destination, esp, eth, extension, fragment,
    gre, hop_by_hop, icmp, icmpv6, ipv4, ipv6, nd, raw, routing, sctp, tcp, udp, vlan,
)  # fmt: skip

from xdpguard.rules.model import TCP, Action, Hook, Match, Protocols, Rule, RuleSet

_FILE = """version: 1
default: {{ingress: {default}, egress: {default}}}
ingress: [{{name: ssh, proto: tcp, dport: 22, action: {rule}}}]
egress: [{{name: ssh-out, proto: tcp, dport: 22, action: {rule}}}]
"""
PASS_DEFAULT_FILE = _FILE.format(default="pass", rule="drop")
DENY_DEFAULT_FILE = _FILE.format(default="drop", rule="pass")


def _rule_set(name: str, default: Action, action: Action) -> RuleSet:
    match = Match(protocols=Protocols(frozenset({TCP}), frozenset({TCP})), dport=((22, 22),))
    ssh, out = (Rule(rule, action, match, None, rule.ljust(32, "0"), 3, 11) for rule in ("ssh", "ssh-out"))
    return RuleSet(name, Hook(default, (ssh,)), Hook(default, (out,)))


PASS_DEFAULT = _rule_set("pass", Action.PASS, Action.DROP)
DENY_DEFAULT = _rule_set("deny", Action.DROP, Action.PASS)


@dataclass(frozen=True, slots=True)
class Case:
    name: str
    frame: bytes
    decider: str
    protocol: str
    hook: str = "ingress"

    @property
    def pass_default(self) -> Action:
        """What happens under PASS_DEFAULT."""
        return Action.PASS if self.decider in ("default", "essential") else Action.DROP

    @property
    def deny_default(self) -> Action:
        """What happens under DENY_DEFAULT."""
        return Action.PASS if self.decider in ("ssh", "ssh-out", "essential") else Action.DROP


Row = tuple[str, Packet | bytes, str, str]  # name, frame, decider, protocol as counted
Rows = tuple[Row, ...]

SSH = tcp(dport=22)
SSH_STREAM = SSH / bytes(12)  # 32 bytes: a multiple of 8, as fragments want it
SSH_SEGMENT = bytes(SSH_STREAM)
TCP_HEADER = bytes(SSH)
PLAIN = eth() / ipv4()
PLAIN6 = eth() / ipv6()


def cut(packet: Packet, size: int) -> bytes:
    return bytes(packet)[:size]


def part4(data: bytes | Layer | Packet, offset: int = 0, mf: bool = True, proto: int = 6) -> Packet:
    return eth() / ipv4(offset=offset, mf=mf, proto=proto) / data


def part6(data: bytes | Layer | Packet, offset: int = 0, mf: bool = True, then: int = 6) -> Packet:
    return PLAIN6 / fragment(offset, mf, then=then) / data


TAGS = (0x8100, 0x88A8, 0x9100)
LAYER_2: Rows = (
    ("empty frame", b"", "malformed_ethernet", "non_ip"),
    ("runt of 13 bytes", cut(PLAIN / SSH, 13), "malformed_ethernet", "non_ip"),
    ("ethernet header alone", eth() / b"", "default", "non_ip"),
    ("802.3 length", eth(ethertype=46) / bytes(46), "default", "non_ip"),
    ("MPLS is not looked into", eth(ethertype=0x8847) / bytes(ipv4() / SSH), "default", "non_ip"),
    ("broadcast destination", eth(dst=BROADCAST) / ipv4() / SSH, "ssh", "tcp"),
    ("own source MAC", eth(src=MAC_DST) / ipv4() / SSH, "ssh", "tcp"),
    *((f"tag {tpid:#x}", eth() / vlan(5, tpid=tpid) / ipv4() / SSH, "ssh", "tcp") for tpid in TAGS),
    ("priority tag", eth() / vlan(0, pcp=7) / ipv4() / SSH, "ssh", "tcp"),
    ("QinQ", eth() / vlan(5, tpid=0x88A8) / vlan(6) / ipv4() / SSH, "ssh", "tcp"),
    ("two 802.1Q tags", eth() / vlan(5) / vlan(6) / ipv6() / SSH, "ssh", "tcp"),
    *(
        (f"{n} tags", Packet((eth(), *[vlan(5)] * n)) / ipv4() / SSH, "malformed_vlan", "non_ip")
        for n in (3, 4, 5)
    ),
    ("tag type and no tag", eth(ethertype=0x8100) / b"", "malformed_vlan", "non_ip"),
    ("tag of 3 bytes", eth(ethertype=0x8100) / b"\0\5\x08", "malformed_vlan", "non_ip"),
    ("second tag of 3 bytes", eth() / vlan(5) / raw(b"\0\5\x08", None, 0x8100), "malformed_vlan", "non_ip"),
    ("tag and nothing", eth() / vlan(5) / raw(b"", None, 0x0800), "malformed_ipv4_header", "other_ip"),
    ("ARP request", eth(dst=BROADCAST) / arp(), "essential", "arp"),
    ("ARP reply, tagged and padded", eth() / vlan(5) / arp(2) / bytes(18), "essential", "arp"),
    ("ARP for no protocol address", cut(eth() / arp(plen=0), 14 + 20), "essential", "arp"),
    ("ARP with long addresses", eth() / arp(hlen=255, plen=255) / bytes(18), "malformed_arp", "arp"),
    ("ARP with one byte more than there is", eth() / arp(plen=5), "malformed_arp", "arp"),
    ("ARP of 27 bytes", cut(eth() / arp(), 14 + 27), "malformed_arp", "arp"),
    ("ARP of 7 bytes", cut(eth() / arp(hlen=0, plen=0), 14 + 7), "malformed_arp", "arp"),
)

BAD4, SHORT4 = "malformed_ipv4_header", "malformed_ipv4_length"
BAD6, FRAG = "malformed_ipv6_extension", "malformed_fragment"
HEADER6, LENGTH6 = "malformed_ipv6_header", "malformed_ipv6_length"
IPV4: Rows = (
    ("TCP to port 22", PLAIN / SSH, "ssh", "tcp"),
    ("TCP to port 23", PLAIN / tcp(dport=23), "default", "tcp"),
    ("UDP to port 22", PLAIN / udp(dport=22), "default", "udp"),
    *((f"IHL {ihl}", eth() / ipv4(ihl=ihl) / SSH, BAD4, "other_ip") for ihl in range(5)),
    ("IHL past the end", eth() / ipv4(ihl=15) / SSH, BAD4, "other_ip"),
    ("IHL at the end", eth() / ipv4(ihl=15, proto=6) / bytes(40), "malformed_tcp", "tcp"),
    ("header of 19 bytes", cut(PLAIN / SSH, 14 + 19), BAD4, "other_ip"),
    *((f"total length {n}", eth() / ipv4(total_length=n) / SSH, SHORT4, "other_ip") for n in (0, 19)),
    ("version 6 as IPv4", eth() / ipv4(version=6) / SSH, BAD4, "other_ip"),
    ("version 4 as IPv6", eth(ethertype=0x86DD) / ipv4() / SSH, HEADER6, "other_ip"),
    ("total length in options", eth() / ipv4(options=bytes(8), total_length=27) / SSH, SHORT4, "other_ip"),
    ("total length past the frame", eth() / ipv4(total_length=41) / SSH, SHORT4, "other_ip"),
    ("padding", eth() / ipv4(total_length=40) / SSH / bytes(6), "ssh", "tcp"),
    ("TCP header in the padding", eth() / ipv4(total_length=39) / SSH, "malformed_tcp", "tcp"),
    ("nothing but a header", eth() / ipv4(proto=253, total_length=20) / bytes(26), "default", "other_ip"),
    ("loose source route", eth() / ipv4(options=b"\x83\7\4\xc0\0\2\1") / SSH, "ssh", "tcp"),
    ("options that look like port 22", eth() / ipv4(options=TCP_HEADER) / tcp(), "default", "tcp"),
    ("wrong checksums", eth() / ipv4(chksum=0xDEAD) / tcp(dport=22, chksum=0xBEEF), "ssh", "tcp"),
    ("TTL 0", eth() / ipv4(ttl=0) / SSH, "ssh", "tcp"),
    ("reserved flag", eth() / ipv4(reserved=True, df=True) / SSH, "ssh", "tcp"),
    ("land", eth() / ipv4(src=V4_DST) / tcp(22, 22), "ssh", "tcp"),
    *(
        (f"source {ip}", eth() / ipv4(ip) / SSH, "ssh", "tcp")
        for ip in ("127.0.0.1", "0.0.0.0", "255.255.255.255")
    ),
    ("ICMPv6 number in IPv4", eth() / ipv4(ttl=255, proto=58) / bytes(nd()), "default", "other_ip"),
    ("IPv6 extension number in IPv4", PLAIN / destination() / SSH, "default", "other_ip"),
    ("AH ends the chain in IPv4", PLAIN / ah() / SSH, "default", "other_ip"),
)

CUT4 = (("udp", 17, 7), ("icmp", 1, 7), ("sctp", 132, 11), ("tcp", 6, 19))
CUT6 = (("tcp", 6, 19), ("udp", 17, 7), ("icmpv6", 58, 3), ("sctp", 132, 11))
FRAGMENTS4: Rows = (
    ("first, whole TCP header", part4(SSH_SEGMENT), "ssh", "tcp"),
    ("first, DF too", eth() / ipv4(df=True, mf=True) / SSH, "ssh", "tcp"),
    *((f"first with {n} bytes of TCP", part4(TCP_HEADER[:n]), FRAG, "tcp") for n in (0, 1, 8, 13, 19)),
    ("first cut in TCP options", part4(bytes(tcp(dport=22, options=bytes(8)))[:24]), FRAG, "tcp"),
    ("first with data offset 4", part4(tcp(dport=22, doff=4)), "malformed_tcp", "tcp"),
    ("first of UDP longer than it", part4(udp(length=4000) / bytes(8), proto=17), "default", "udp"),
    ("first of UDP, length 7", part4(udp(length=7) / bytes(8), proto=17), "malformed_udp", "udp"),
    ("first of an unknown protocol", part4(b"", proto=253), "default", "other_ip"),
    ("TCP at offset 3", part4(SSH_SEGMENT, 3, False), "default", "tcp"),
    *((f"{k} cut in a first fragment", part4(bytes(n), proto=number), FRAG, k) for k, number, n in CUT4),
    ("UDP at offset 1", part4(bytes(8), 1, False, 17), "default", "udp"),
    ("middle", part4(SSH_SEGMENT, 100), "default", "tcp"),
    *((f"TCP at offset {at} (RFC 3128)", part4(SSH_SEGMENT, at, False), FRAG, "tcp") for at in (1, 2)),
    ("teardrop, the inner part", part4(bytes(4), 3, False, 17), "default", "udp"),
    ("ends at 65535", part4(bytes(7), 8191, False), "default", "tcp"),
    ("ends past 65535", part4(bytes(8), 8191, False), FRAG, "tcp"),
    ("ping of death", part4(bytes(400), 8189, False, 1), FRAG, "icmp"),
    ("later ICMP that looks essential", part4(icmp(3, 4), 4, False, 1), "default", "icmp"),
    ("neither MF nor offset", part4(SSH_SEGMENT, 0, False), "ssh", "tcp"),
)

WALKED = (
    ("hop-by-hop", hop_by_hop()),
    ("destination", destination()),
    *((f"routing type {kind}", routing(kind, 1, bytes(20))) for kind in (0, 2, 4)),
    ("AH", ah()),
)
ENDS = (("mobility", 135), ("HIP", 139), ("shim6", 140), ("253", 253), ("254", 254))
CHAIN = destination()
IPV6: Rows = (
    ("TCP to port 22, IPv6", PLAIN6 / SSH, "ssh", "tcp"),
    ("payload length past the frame", eth() / ipv6(payload_length=21) / SSH, LENGTH6, "other_ip"),
    ("IPv6 header of 39 bytes", cut(PLAIN6 / SSH, 14 + 39), HEADER6, "other_ip"),
    ("payload length 0", eth() / ipv6(payload_length=0) / SSH, "malformed_tcp", "tcp"),
    ("jumbo option and length 0", eth() / ipv6(payload_length=0) / hop_by_hop() / SSH, BAD6, "other_ip"),
    ("padding, IPv6", eth() / ipv6(payload_length=20) / SSH / bytes(6), "ssh", "tcp"),
    ("class and flow label", eth() / ipv6(traffic_class=255, flow=0xFFFFF) / SSH, "ssh", "tcp"),
    ("class before an option", eth() / ipv6(traffic_class=255) / destination() / SSH, "ssh", "tcp"),
    *((name, PLAIN6 / layer / SSH, "ssh", "tcp") for name, layer in WALKED),
    *((f"{name} twice", PLAIN6 / layer / layer / SSH, "ssh", "tcp") for name, layer in WALKED[1:]),
    *((f"{name} ends it", PLAIN6 / extension(n) / SSH, "default", "other_ip") for name, n in ENDS),
    ("AH with 256 bits of ICV", PLAIN6 / ah(bytes(32)) / SSH, "ssh", "tcp"),
    ("ESP", PLAIN6 / esp() / SSH, "default", "other_ip"),
    ("no next header", eth() / ipv6(next_header=59) / SSH, "default", "other_ip"),
    ("no next header after options", PLAIN6 / destination(then=59), "default", "other_ip"),
    ("all in order", PLAIN6 / hop_by_hop() / CHAIN / routing() / ah() / CHAIN / SSH, "ssh", "tcp"),
    ("wrong order", PLAIN6 / CHAIN / ah() / routing() / SSH, "ssh", "tcp"),
    ("hop-by-hop twice", PLAIN6 / hop_by_hop() / hop_by_hop() / SSH, BAD6, "other_ip"),
    ("hop-by-hop not first", PLAIN6 / CHAIN / hop_by_hop() / SSH, BAD6, "other_ip"),
    *((f"chain of {n}", PLAIN6 / Packet((CHAIN,) * n) / SSH, "ssh", "tcp") for n in range(1, 9)),
    *((f"chain of {n}", PLAIN6 / Packet((CHAIN,) * n) / SSH, BAD6, "other_ip") for n in (9, 10, 12)),
    ("options of 2048 bytes", PLAIN6 / destination(bytes(2046)) / SSH, "ssh", "tcp"),
    ("length past the end", PLAIN6 / destination(length=3) / SSH, BAD6, "other_ip"),
    ("length of 2048 past the end", PLAIN6 / hop_by_hop(length=255) / SSH, BAD6, "other_ip"),
    ("header of 7 bytes", PLAIN6 / raw(b"\6\0\0\0\0\0\0", 60), BAD6, "other_ip"),
    ("fragment header of 7 bytes", PLAIN6 / raw(b"\6\0\0\1\0\0\0", 44), BAD6, "other_ip"),
    ("chain ends with the packet", PLAIN6 / destination(then=6), "malformed_tcp", "tcp"),
    ("length takes TCP", PLAIN6 / destination(length=2, then=6) / SSH_SEGMENT[:16], "malformed_tcp", "tcp"),
    ("ICMP number in IPv6", eth() / ipv6(next_header=1) / bytes(icmp(3, 4)), "default", "other_ip"),
)  # fmt: skip

FRAGMENTS6: Rows = (
    ("atomic (RFC 6946)", part6(SSH_SEGMENT, 0, False), "ssh", "tcp"),
    ("atomic, odd length", part6(SSH_SEGMENT + b"\0", 0, False), "ssh", "tcp"),
    ("first, whole header", part6(SSH_SEGMENT), "ssh", "tcp"),
    ("reserved byte set", PLAIN6 / fragment(0, True, reserved=1) / SSH_STREAM, "ssh", "tcp"),
    ("first with data offset 0", part6(tcp(doff=0) / bytes(4)), "malformed_tcp", "tcp"),
    ("first ends in the chain", part6(destination(length=1, then=6), then=60), FRAG, "other_ip"),
    ("first ends before options", part6(b"", then=60), FRAG, "other_ip"),
    ("first with its chain whole", part6(bytes(destination(then=6)) + SSH_SEGMENT, then=60), "ssh", "tcp"),
    ("first of no next header", part6(b"", then=59), "default", "other_ip"),
    ("M on 33 bytes", part6(SSH_SEGMENT + b"\0"), FRAG, "tcp"),
    ("later, looks like port 22", part6(SSH_SEGMENT, 10, False), "default", "tcp"),
    *((f"TCP at offset {at}, IPv6", part6(SSH_SEGMENT, at), FRAG, "tcp") for at in (1, 2)),
    *((f"first with {n} bytes of TCP, IPv6", part6(SSH_SEGMENT[:n]), FRAG, "tcp") for n in (0, 8, 16)),
    ("last, odd length", part6(b"\0", 10, False, 17), "default", "udp"),
    ("later of destination options", part6(destination(then=6), 10, then=60), "default", "other_ip"),
    ("UDP at offset 1, IPv6", part6(SSH_SEGMENT, 1, then=17), "default", "udp"),
    ("ends past 65535, IPv6", part6(bytes(8), 8191, False, 58), FRAG, "icmpv6"),
    ("ends at 65535, IPv6", part6(bytes(7), 8191, False, 132), "default", "sctp"),
    ("two fragment headers", PLAIN6 / fragment() / fragment() / SSH, FRAG, "other_ip"),
    ("two, the first open", PLAIN6 / fragment(0, True) / fragment() / SSH_STREAM, FRAG, "other_ip"),
    ("two, the second after options", PLAIN6 / fragment() / CHAIN / fragment(5) / SSH, FRAG, "other_ip"),
    ("after AH", PLAIN6 / ah() / fragment(0, True) / SSH_STREAM, "ssh", "tcp"),
    ("later ND with hop limit 255", eth() / ipv6(hop_limit=255) / fragment(5) / nd(), "default", "icmpv6"),
)

OUTER = (("IPv4", PLAIN), ("IPv6", PLAIN6), ("GRE", PLAIN / gre()), ("ESP", PLAIN6 / esp()))
TUNNELS: Rows = (
    *((f"IPv4 in {name}", outer / ipv4() / SSH, "default", "other_ip") for name, outer in OUTER),
    *((f"IPv6 in {name}", outer / ipv6() / SSH, "default", "other_ip") for name, outer in OUTER),
    ("truncated inner header", PLAIN / raw(bytes(ipv4())[:7], 4), "default", "other_ip"),
    ("essential inside is not essential", PLAIN / ipv4() / icmp(3, 4), "default", "other_ip"),
)

LAYER_4: Rows = (
    *((f"data offset {size}", PLAIN / tcp(dport=22, doff=size), "malformed_tcp", "tcp") for size in range(5)),
    ("data offset past the end", PLAIN / tcp(dport=22, doff=6), "malformed_tcp", "tcp"),
    *((f"{k} of {n} bytes", PLAIN / raw(bytes(n), number), f"malformed_{k}", k) for k, number, n in CUT4),
    *((f"{k} of {n} bytes, IPv6", PLAIN6 / raw(bytes(n), p), f"malformed_{k}", k) for k, p, n in CUT6),
    ("data offset 15 at the end", PLAIN / tcp(dport=22, options=bytes(40)), "ssh", "tcp"),
    *((f"flags {f or 'null'}", PLAIN / tcp(dport=22, flags=f), "ssh", "tcp") for f in ("", "SF", "FPU")),
    ("source port 22 only", PLAIN / tcp(22, 40000), "default", "tcp"),
    *((f"TCP port {port}", PLAIN / tcp(port, port), "default", "tcp") for port in (0, 21, 23, 65535)),
    ("port 22 with its bytes swapped", PLAIN / tcp(dport=22 << 8), "default", "tcp"),
    ("UDP length past the end", PLAIN6 / udp(length=13) / bytes(4), "malformed_udp", "udp"),
    ("UDP length below the payload", PLAIN / udp(length=8) / bytes(4), "default", "udp"),
    *((f"UDP length {length}", PLAIN / udp(length=length), "malformed_udp", "udp") for length in (0, 7)),
    ("echo request", PLAIN / icmp(), "default", "icmp"),
    ("ICMP error about port 22", PLAIN / icmp(3, 1) / bytes(ipv4() / SSH), "default", "icmp"),
    ("ICMPv6 of 4 bytes", PLAIN6 / raw(b"\x80\0\0\0", 58), "default", "icmpv6"),
    ("SCTP to port 22", PLAIN / sctp(dport=22), "default", "sctp"),
    ("UDP-Lite", PLAIN / raw(b"\0\x16" * 4, 136), "default", "other_ip"),
    ("DCCP of 1 byte", PLAIN / raw(b"\0", 33), "default", "other_ip"),
)

DHCP4, DHCP6 = "255.255.255.255", "ff02::1:2"
ESSENTIAL: Rows = (
    *((f"ND {k}", eth() / ipv6(hop_limit=255) / nd(k), "essential", "icmpv6") for k in range(133, 138)),
    *((f"ICMPv6 {kind}", eth() / ipv6(hop_limit=255) / nd(kind), "default", "icmpv6") for kind in (132, 138)),
    ("ND from another link", eth() / ipv6(hop_limit=254) / nd(), "default", "icmpv6"),
    ("ND of 4 bytes", eth() / ipv6(hop_limit=255) / raw(b"\x87\0\0\0", 58), "essential", "icmpv6"),
    ("fragmentation needed", PLAIN / icmp(3, 4) / bytes(ipv4() / SSH), "essential", "icmp"),
    ("ICMP 4 code 3", PLAIN / icmp(4, 3), "default", "icmp"),
    ("packet too big", PLAIN6 / icmpv6(2) / bytes(ipv6() / SSH), "essential", "icmpv6"),
    ("DHCP offer", PLAIN / udp(67, 68), "essential", "udp"),
    ("DHCP discover of another host", eth() / ipv4("0.0.0.0", DHCP4) / udp(68, 67), "default", "udp"),
    ("DHCPv6 advertise", PLAIN6 / udp(547, 546), "essential", "udp"),
    ("DHCP ports in TCP", PLAIN / tcp(67, 68), "default", "tcp"),
    ("DHCP ports of the other family", PLAIN6 / udp(67, 68), "default", "udp"),
    ("DHCPv6 ports of the other family", PLAIN / udp(547, 546), "default", "udp"),
)

EGRESS: Rows = (
    ("DHCP discover", eth() / ipv4("0.0.0.0", DHCP4) / udp(68, 67), "essential", "udp"),
    ("DHCP offer to another host", PLAIN / udp(67, 68), "default", "udp"),
    ("DHCPv6 solicit", eth() / ipv6(dst=DHCP6) / udp(546, 547), "essential", "udp"),
    ("SSH reply", PLAIN / tcp(22, 40000), "default", "tcp"),
    ("SSH from here", PLAIN / SSH, "ssh-out", "tcp"),
)

INGRESS = (*LAYER_2, *IPV4, *FRAGMENTS4, *IPV6, *FRAGMENTS6, *TUNNELS, *LAYER_4, *ESSENTIAL)
CORPUS = tuple(
    Case(name, bytes(frame), decider, protocol, hook)
    for hook, rows in (("ingress", INGRESS), ("egress", EGRESS))
    for name, frame, decider, protocol in rows
)
