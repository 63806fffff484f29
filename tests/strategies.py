"""Random rule sets, rule files, and packets drawn from the edges of the rules under test.

Uniform random packets almost never test a rule; so every field of a packet is the first or last value that
some rule allows, or the one before or after it, and most packets miss a rule in one field at most.
The same ``random.Random`` seed gives the same data. It must never ask the oracle what a rule means.
"""

from __future__ import annotations  # noqa: I001 - one import a line would be half a page

import re
from collections.abc import Sequence
from hashlib import blake2s
from random import Random
from typing import Any

from hypothesis import strategies as st

from packets import (
    BROADCAST, MAC_DST, MAC_SRC, Layer, Packet, ah, arp, destination, eth, fragment, hop_by_hop, icmp,
    icmpv6, ipv4, ipv6, raw, routing, sctp, tcp, udp, vlan,
)  # fmt: skip

from xdpguard.rules.model import (
    VLAN_NONE, Action, Addresses, Hook, Intervals, Match, Protocols, Redirect, Rule, RuleSet,
)  # fmt: skip

# Small pools, so that rules overlap and packets meet more than one of them.
PORTS = (0, 1, 22, 53, 67, 68, 80, 443, 546, 547, 1023, 1024, 32768, 40000, 65534, 65535)
NUMBERS = (1, 2, 4, 6, 17, 33, 41, 47, 50, 58, 59, 132, 136, 253, 255)
ICMP_VALUES = (0, 1, 2, 3, 4, 8, 128, 132, 133, 135, 137, 138, 254, 255)
VLANS, TAG_TYPES = (0, 1, 5, 6, 100, 4094, 4095, VLAN_NONE), (0x8100, 0x88A8, 0x9100)
V4 = (0, 0x7F000001, 0xC0000200, 0xC0000201, 0xC00002FF, 0xC6336407, 0xCB007100, 0xE0000001, 0xFFFFFFFF)
DOC = 0x20010DB8 << 96  # 2001:db8::/32
V6 = (0, 1, DOC, DOC | 1, DOC | 1 << 64, DOC | (1 << 64) - 1, 0xFE80 << 112 | 1, (1 << 128) - 1)
PORT_TOP, BYTE_TOP, V4_TOP, V6_TOP = 65535, 255, (1 << 32) - 1, (1 << 128) - 1
TARGETS = (Redirect("ids0"), Redirect("ids0", b"\2\0\0\0\0\2"), Redirect("ids1"))
ACTIONS = (Action.DROP,) * 3 + (Action.PASS,) * 3 + (Action.TX, Action.REDIRECT)
FIELDS = ("src", "dst", "sport", "dport", "tcp_flags", "icmp_type", "icmp_code", "vlan", "protocols", "ip")
ALL_NUMBERS = frozenset(range(256))


# ---- rule sets ------------------------------------------------------------------------------------------
def normal(spans: Sequence[tuple[int, int]]) -> Intervals:
    """The same values, sorted, disjoint and not adjacent."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(spans):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return tuple(merged)


def complement(intervals: Intervals, top: int) -> Intervals:
    firsts = [0, *(last + 1 for _, last in intervals)]
    lasts = [*(first - 1 for first, _ in intervals), top]
    return tuple((first, last) for first, last in zip(firsts, lasts, strict=True) if first <= last)


def _maybe_negated(rng: Random, spans: Sequence[tuple[int, int]], top: int) -> Intervals:
    found = normal(spans)
    return (complement(found, top) or found) if rng.random() < 0.2 else found


def random_intervals(rng: Random, pool: Sequence[int], top: int) -> Intervals:
    firsts = [rng.choice(pool) for _ in range(rng.choice((1, 1, 1, 2, 3)))]
    widths = (0, 0, 1, rng.randint(0, top >> 4), rng.randint(0, top))
    return _maybe_negated(rng, [(first, min(first + rng.choice(widths), top)) for first in firsts], top)


def random_networks(rng: Random, pool: Sequence[int], bits: int) -> Intervals:
    spans = []
    for _ in range(rng.choice((1, 1, 2, 5))):
        base = rng.choice(pool) if rng.random() < 0.7 else rng.getrandbits(bits)
        size = 1 << rng.choice((0, 0, 1, bits // 8, bits // 4, bits // 2, bits - 1, bits))
        spans.append((base & -size, base | size - 1))
    return _maybe_negated(rng, spans, (1 << bits) - 1)


def random_addresses(rng: Random) -> Addresses | None:
    kind = rng.choice((None, None, None, 4, 6, 46))
    v4 = random_networks(rng, V4, 32) if kind in (4, 46) else ()
    return Addresses(v4, random_networks(rng, V6, 128) if kind in (6, 46) else ()) if kind else None


def _protocols(*numbers: int) -> Protocols:
    return Protocols(frozenset(numbers) - {58}, frozenset(numbers) - {1})


def _random_flags(rng: Random) -> frozenset[int]:
    wanted, unwanted = rng.getrandbits(8) & rng.getrandbits(8), rng.getrandbits(8) & rng.getrandbits(8)
    flags = {bits for bits in range(256) if bits & wanted == wanted and not bits & unwanted & ~wanted}
    return ALL_NUMBERS - flags if rng.random() < 0.2 else frozenset(flags)


def random_match(rng: Random) -> Match:
    """Only combinations that a rule file can say: ports with port protocols, flags with TCP, and so on."""
    kind = rng.choice(("any", "tcp", "tcp", "ports", "ports", "icmp", "number", "not", "arp"))
    ip4, ip6 = rng.choice(((True, True), (True, True), (True, False), (False, True)))
    protocols: Protocols | None = None
    flags: frozenset[int] | None = None
    pair = {"tcp": ("sport", "dport"), "ports": ("sport", "dport"), "icmp": ("icmp_type", "icmp_code")}
    if kind in ("number", "not"):
        protocols = _protocols(*rng.sample(NUMBERS, rng.choice((1, 1, 3))))
        if kind == "not":
            protocols = Protocols(ALL_NUMBERS - protocols.v4, ALL_NUMBERS - protocols.v6)
    elif kind == "tcp":
        protocols, flags = _protocols(6), _random_flags(rng) if rng.getrandbits(1) else None
    elif kind == "ports":
        protocols = _protocols(*rng.choice(((6,), (17,), (132,), (6, 17), (6, 17, 132))))
    elif kind == "icmp":
        protocols = _protocols(*rng.choice(((1,), (58,), (1, 58))))
    pool, top = (ICMP_VALUES, BYTE_TOP) if kind == "icmp" else (PORTS, PORT_TOP)
    names = [name for name in pair.get(kind, ()) if rng.getrandbits(1)]
    fields: dict[str, Any] = {name: random_intervals(rng, pool, top) for name in names}
    fields["vlan"] = random_intervals(rng, VLANS, VLAN_NONE) if rng.random() < 0.2 else None
    if kind == "arp":
        too = rng.random() < 0.5  # ARP and some IP protocol, or ARP alone
        return Match(True, too, too, _protocols(rng.choice(NUMBERS)) if too else None, **fields)
    src, dst = random_addresses(rng), random_addresses(rng)
    return Match(False, ip4, ip6, protocols, src, dst, tcp_flags=flags, **fields)


def random_hook(rng: Random, hook: str, rules: int) -> Hook:
    made = []
    for index in range(rules):
        name, action, match = f"{hook}-{index}", rng.choice(ACTIONS), random_match(rng)
        target = rng.choice(TARGETS) if action == Action.REDIRECT else None
        key = blake2s(repr((hook, name, match, action, target)).encode(), digest_size=16).hexdigest()
        made.append(Rule(name, action, match, target, key, index + 3, 5))
    return Hook(rng.choice((Action.PASS, Action.DROP)), tuple(made))


def random_ruleset(rng: Random, rules: int = 6) -> RuleSet:
    """``rules`` rules on each hook."""
    ingress, egress = random_hook(rng, "ingress", rules), random_hook(rng, "egress", rules)
    malformed, drop_fragments = rng.choice((Action.DROP, Action.PASS)), rng.random() < 0.2
    return RuleSet("random.yaml", ingress, egress, malformed, drop_fragments, f"{rng.getrandbits(128):032x}")


# ---- rule files -----------------------------------------------------------------------------------------
FILE_HEAD = """version: 1
default: {ingress: <verdict>, egress: <verdict>}
malformed: <verdict>
fragments: <fragments>
sets:
  mixed: [198.51.100.0/24, "2001:db8:1::/48", 203.0.113.7-203.0.113.19]
"""
FILE_RULES = (
    "family: <ip>", "family: ipv4, src: <v4>, vlan: <vlan>", "src: <v4>, dst: <v4>", "src: <v6>, dst: <v6>",
    'src: "@mixed"', "dst: <v6>, not: {src: <v6>}", "not: {src: <v4>}", "not: {dst: <v6>, vlan: <vlan>}",
    "proto: tcp, sport: <port>, dport: <port>", "proto: [tcp, udp, 132], dport: <port>, not: {sport: <port>}",
    "sport: <port>", "not: {dport: <port>}", "proto: udp, src: <v6>, dport: <port>", "proto: sctp, dst: <v4>",
    "proto: tcp, tcp_flags: {set: [syn, <flag>], clear: [fin]}", "proto: tcp, tcp_flags: {clear: [<flag>]}",
    "proto: tcp, not: {tcp_flags: {set: [<flag>]}}",
    "proto: icmp, icmp_type: <icmp>, icmp_code: <icmp>", "proto: icmpv6, not: {icmp_type: <icmp>}",
    "proto: icmp, icmp_type: echo-request, src: <v4>", "proto: icmpv6, icmp_code: <icmp>, dst: <v6>",
    "proto: [gre, esp, 253]", "proto: <number>", "not: {proto: <number>}", "proto: arp", "vlan: <vlan>",
    'comment: "a comment"', "not: {vlan: none}", "proto: icmp", "not: {proto: tcp}",
)  # fmt: skip
FILE_VALUES = {
    "verdict": ("pass", "drop"), "fragments": ("l3-only", "drop"), "ip": ("ipv4", "ipv6"),
    "action": ("pass", "drop", "tx", '{redirect: {interface: ids0, dst_mac: "02:00:00:00:00:02"}}'),
    "v4": ("192.0.2.1", "192.0.2.0/24", "[0.0.0.0, 203.0.113.7-203.0.113.19]", "[0.0.0.0/1, 192.0.2.255]"),
    "v6": ('"2001:db8::1"', '"2001:db8::/32"', '["::", "2001:db8::5-2001:db8:0:1::"]', '["8000::/1", "::1"]'),
    "port": ("0", "22", "[22]", "1024-65535", "[0, 53, 2000-2005]", "[65535, 1-1023, 67, 68, 547]"),
    "icmp": ("0", "3", "[3, 4]", "[128, 133, 135]", "255"),
    "number": ("0", "2", "41", "[33, 255]"), "vlan": ("0", "5", "[1, 4094]", "none", "4095"),
    "flag": ("ack", "rst", "psh", "urg", "ece", "cwr"),
}  # fmt: skip


def random_rule_file(rng: Random, rules: int = 6) -> str:
    """A rule file that must be accepted; ``rules`` rules on each hook, every key that a rule may have."""
    text = FILE_HEAD
    for hook in ("ingress", "egress"):
        text += f"{hook}:\n" if rules else f"{hook}: []\n"
        for index in range(rules):
            text += f"  - {{name: {hook}-{index}, {rng.choice(FILE_RULES)}, action: <action>}}\n"
    return re.sub("<([a-z0-9]+)>", lambda found: rng.choice(FILE_VALUES[found[1]]), text)


# ---- packets --------------------------------------------------------------------------------------------
class Edges:
    """Picks the fields of one packet from the edges of one match; at most one field misses on purpose."""

    def __init__(self, rng: Random) -> None:
        self.rng, self.wrong = rng, rng.choice(FIELDS) if rng.random() < 0.4 else ""

    def pick(self, name: str, allowed: Intervals | None, pool: Sequence[int], top: int) -> int:
        if not allowed:
            return self.rng.choice(pool)
        first, last = self.rng.choice(allowed)
        if name == self.wrong:
            return min(max(self.rng.choice((first - 1, last + 1)), 0), top)
        return self.rng.choice((first, last, min(first + 1, last), max(last - 1, first)))

    def family(self, match: Match) -> int:
        conditions = [each for each in (match.src, match.dst, match.protocols) if each]
        four = match.ipv4 and all(each.v4 for each in conditions)
        six = match.ipv6 and all(each.v6 for each in conditions)
        if four == six:
            return self.rng.choice((4, 6))
        return 4 if four != (self.wrong == "ip") else 6

    def number(self, match: Match, family: int) -> int:
        if match.protocols is None:
            return self.rng.choice((6, 17, 132) if match.sport or match.dport else NUMBERS)
        allowed = match.protocols.v4 if family == 4 else match.protocols.v6
        found = self.rng.choice(tuple(allowed) or NUMBERS)
        return (found + self.rng.choice((1, -1))) & 255 if self.wrong == "protocols" else found

    def transport(self, match: Match, number: int) -> Packet:
        """The L4 header and enough payload to be a multiple of 8 bytes; a few headers lie."""
        rng, lie = self.rng, self.rng.choice((0, 4, 6, 15, 17)) if self.rng.random() < 0.03 else None
        sport = self.pick("sport", match.sport, PORTS, PORT_TOP)
        dport = self.pick("dport", match.dport, PORTS, PORT_TOP)
        if number == 17:
            return udp(sport, dport, lie) / bytes(8)
        if number == 132:
            return sctp(sport, dport) / bytes(4)
        if number == 6:
            flags = rng.choice(tuple(match.tcp_flags)) if match.tcp_flags else rng.getrandbits(8)
            flags ^= (self.wrong == "tcp_flags") << rng.randrange(8)
            return tcp(sport, dport, flags, doff=None if lie is None else lie & 15) / bytes(4)
        if number in (1, 58):
            kind = self.pick("icmp_type", match.icmp_type, ICMP_VALUES, BYTE_TOP)
            code = self.pick("icmp_code", match.icmp_code, ICMP_VALUES, BYTE_TOP)
            return (icmp if number == 1 else icmpv6)(kind, code) / bytes(8)
        return Packet((raw(bytes(16), number),))

    def network(self, match: Match) -> Packet:
        rng, family = self.rng, self.family(match)
        upper = self.transport(match, number := self.number(match, family))
        if rng.random() < 0.04:
            upper = Packet((raw(bytes(upper)[: rng.randrange(20)], number),))
        src, dst = match.src or Addresses(), match.dst or Addresses()
        fragmented, more = rng.random() < 0.1, rng.random() < 0.5
        offset = rng.choice((0, 0, 1, 2, 3, 8000, 8191)) if fragmented else 0
        if family == 4:
            source, target = self.pick("src", src.v4, V4, V4_TOP), self.pick("dst", dst.v4, V4, V4_TOP)
            options = bytes(rng.choice((4, 40))) if rng.random() < 0.05 else b""
            return ipv4(source, target, options=options, mf=more and fragmented, offset=offset) / upper
        source, target = self.pick("src", src.v6, V6, V6_TOP), self.pick("dst", dst.v6, V6, V6_TOP)
        depth = rng.choice((1, 1, 2, 3, 8, 9)) if rng.random() < 0.1 else 0
        chain = [rng.choice(EXTENSIONS) for _ in range(depth)]
        if fragmented:
            chain.insert(rng.randint(0, depth), fragment(offset, more, reserved=rng.getrandbits(8)))
        return Packet((ipv6(source, target, hop_limit=rng.choice((64, 255))), *chain)) / upper

    def frame(self, match: Match) -> bytes:
        rng, chance = self.rng, self.rng.random()
        layers = [eth(BROADCAST if chance < 0.03 else MAC_DST, BROADCAST if chance > 0.97 else MAC_SRC)]
        vid = self.pick("vlan", match.vlan, VLANS if rng.random() < 0.1 else VLANS[-1:], VLAN_NONE)
        if vid != VLAN_NONE:
            vids = (vid, 7, 8)[: rng.choice((1, 1, 1, 1, 2, 2, 3))]
            layers += [vlan(each, tpid=rng.choice(TAG_TYPES), dei=rng.random() < 0.2) for each in vids]
        if (match.arp and rng.getrandbits(1)) or rng.random() < 0.02:
            return bytes(Packet((*layers, arp())))
        return bytes(Packet(tuple(layers)) / self.network(match))


EXTENSIONS: tuple[Layer, ...] = (
    hop_by_hop(), destination(), routing(0, 1, bytes(16)), ah(), fragment(), ah(length=0),
)  # fmt: skip


def mutated(frame: bytes, rng: Random) -> bytes:
    """The frame, cut or padded, or with a header byte or bit changed."""
    way, at = rng.randrange(5), rng.randrange(min(len(frame), 90))
    if way == 0:
        return frame[: rng.randint(0, len(frame))]
    if way == 1:
        return frame + bytes(rng.choice((1, 6, 46)))
    byte = frame[at] ^ 1 << rng.randrange(8) if way < 4 else rng.choice((0, 1, 4, 5, 6, 41, 44, 60, 255))
    return frame[:at] + bytes([byte]) + frame[at + 1 :]


def edge_packets(
    ruleset: RuleSet, hook: str, rng: Random, n: int, *, mutations: float = 0.2, shortest: int = 0
) -> list[bytes]:
    """``n`` Ethernet frames at the edges of the hook's rules; ``mutations`` (0.0 to 1.0) of them are damaged.
    Those under ``shortest`` bytes are padded with zeros: the kernel's test run refuses short frames.
    """
    chain = {"ingress": ruleset.ingress, "egress": ruleset.egress}[hook]
    matches = [rule.match for rule in chain.rules] or [Match()]
    frames = [Edges(rng).frame(rng.choice(matches)) for _ in range(n)]
    frames = [mutated(frame, rng) if rng.random() < mutations else frame for frame in frames]
    return [frame.ljust(shortest, b"\0") for frame in frames]


seeds, sizes = st.integers(0, 2**32 - 1).map(Random), st.integers(0, 8)
rulesets, rule_files = st.builds(random_ruleset, seeds, sizes), st.builds(random_rule_file, seeds, sizes)


@st.composite
def cases(draw: st.DrawFn, frames: int = 10) -> tuple[RuleSet, str, list[bytes]]:
    """(rule set, hook, frames at the edges of its rules)."""
    ruleset, hook = draw(rulesets), draw(st.sampled_from(("ingress", "egress")))
    return ruleset, hook, edge_packets(ruleset, hook, draw(seeds), frames)
