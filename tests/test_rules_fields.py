"""Each key of a rule alone: what it takes and what it becomes."""

from __future__ import annotations

from ipaddress import ip_address, ip_network

import pytest
from test_rules_support import match, refusal

from xdpguard.rules.iana import CODES, TYPES
from xdpguard.rules.model import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    PROTOCOLS,
    TCP,
    TCP_FLAGS,
    UDP,
    VLAN_NONE,
    Addresses,
    Match,
    Protocols,
)
from xdpguard.rules.rule import RULE_KEYS

PORTS = Protocols(PORT_PROTOCOLS, PORT_PROTOCOLS)
ONLY_TCP = Protocols(frozenset({TCP}), frozenset({TCP}))
ONLY_UDP = Protocols(frozenset({UDP}), frozenset({UDP}))
ICMP4 = Protocols(frozenset({ICMP}), frozenset())
ICMP6 = Protocols(frozenset(), frozenset({ICMPV6}))
ALL = frozenset(range(256))


def number(address: str) -> int:
    return int(ip_address(address))


def block(text: str) -> tuple[int, int]:
    network = ip_network(text)
    return int(network[0]), int(network[-1])


def v4(*parts: tuple[int, int]) -> Addresses:
    return Addresses(parts, ())


def v6(*parts: tuple[int, int]) -> Addresses:
    return Addresses((), parts)


# Key of a rule -> conditions and the Match they must give. The completeness test below reads the keys.
CASES: dict[str, list[tuple[str, Match]]] = {
    "family": [
        ("family: ipv4", Match(ipv6=False)),
        ("family: ipv6", Match(ipv4=False)),
    ],
    "proto": [
        ("proto: tcp", Match(protocols=ONLY_TCP)),
        ("proto: 6", Match(protocols=ONLY_TCP)),
        ("proto: 0", Match(protocols=Protocols(frozenset({0}), frozenset({0})))),
        ("proto: 255", Match(protocols=Protocols(frozenset({255}), frozenset({255})))),
        ("proto: [tcp, 17, sctp]", Match(protocols=PORTS)),
        ("proto: icmp", Match(ipv6=False, protocols=ICMP4)),
        ("proto: 1", Match(ipv6=False, protocols=ICMP4)),
        ("proto: icmpv6", Match(ipv4=False, protocols=ICMP6)),
        ("proto: 58", Match(ipv4=False, protocols=ICMP6)),
        ("proto: [icmp, icmpv6]", Match(protocols=Protocols(frozenset({ICMP}), frozenset({ICMPV6})))),
        ("proto: [icmp, tcp]", Match(protocols=Protocols(frozenset({ICMP, TCP}), frozenset({TCP})))),
        ("proto: 0-255", Match(protocols=Protocols(ALL - {ICMPV6}, ALL - {ICMP}))),
        ("proto: arp", Match(arp=True, ipv4=False, ipv6=False)),
        ("proto: [arp, tcp]", Match(arp=True, protocols=ONLY_TCP)),
        ("proto: [arp, icmp]", Match(arp=True, ipv6=False, protocols=ICMP4)),
    ],
    "src": [
        ("src: 192.0.2.1", Match(ipv6=False, src=v4((number("192.0.2.1"),) * 2))),
        ("src: 192.0.2.0/24", Match(ipv6=False, src=v4(block("192.0.2.0/24")))),
        ("src: 0.0.0.0/0", Match(ipv6=False)),
        ('src: "::/0"', Match(ipv4=False)),
        ('src: [0.0.0.0/0, "::/0"]', Match()),
        ("src: 192.0.2.7-192.0.2.9", Match(ipv6=False, src=v4((number("192.0.2.7"), number("192.0.2.9"))))),
        ("src: 2001:db8::1", Match(ipv4=False, src=v6((number("2001:db8::1"),) * 2))),
        ('src: "2001:DB8::/32"', Match(ipv4=False, src=v6(block("2001:db8::/32")))),
        ('src: "::1-::3"', Match(ipv4=False, src=v6((1, 3)))),
        ('src: "::ffff:192.0.2.1"', Match(ipv4=False, src=v6((number("::ffff:192.0.2.1"),) * 2))),
        ("src: [192.0.2.0/25, 192.0.2.128/25]", Match(ipv6=False, src=v4(block("192.0.2.0/24")))),
        ("src: [192.0.2.0/24, 2001:db8::/32]", Match(
            src=Addresses((block("192.0.2.0/24"),), (block("2001:db8::/32"),)))),
    ],
    "dst": [
        ("dst: 255.255.255.255", Match(ipv6=False, dst=v4((2**32 - 1, 2**32 - 1)))),
        ("dst: 0.0.0.0", Match(ipv6=False, dst=v4((0, 0)))),
        ("dst: [ff00::/8, fe80::/10]", Match(ipv4=False, dst=v6(block("fe80::/10"), block("ff00::/8")))),
    ],
    "sport": [
        ("sport: 0", Match(protocols=PORTS, sport=((0, 0),))),
        ("sport: 65535", Match(protocols=PORTS, sport=((65535, 65535),))),
        ("sport: 0-65535", Match(protocols=PORTS, sport=((0, 65535),))),
    ],
    "dport": [
        ("dport: 22", Match(protocols=PORTS, dport=((22, 22),))),
        ('dport: "22"', Match(protocols=PORTS, dport=((22, 22),))),
        ("dport: [23, 2000-2005]", Match(protocols=PORTS, dport=((23, 23), (2000, 2005)))),
        ("dport: [5, 4, 6, 4-5]", Match(protocols=PORTS, dport=((4, 6),))),
        ("dport: 53, proto: udp", Match(protocols=ONLY_UDP, dport=((53, 53),))),
        ("dport: 1, sport: 2", Match(protocols=PORTS, sport=((2, 2),), dport=((1, 1),))),
    ],
    "tcp_flags": [
        ("tcp_flags: {set: [syn], clear: [ack]}", Match(
            protocols=ONLY_TCP, tcp_flags=frozenset(b for b in range(256) if b & 2 and not b & 16))),
        ("tcp_flags: {clear: [fin, syn, rst, psh, ack, urg, ece, cwr]}", Match(
            protocols=ONLY_TCP, tcp_flags=frozenset({0}))),
        ("tcp_flags: {set: urg}", Match(
            protocols=ONLY_TCP, tcp_flags=frozenset(b for b in range(256) if b & 32))),
        ("tcp_flags: {set: [fin], clear: []}", Match(
            protocols=ONLY_TCP, tcp_flags=frozenset(b for b in range(256) if b & 1))),
        ("tcp_flags: {set: fin}, dport: 1", Match(
            protocols=ONLY_TCP, dport=((1, 1),), tcp_flags=frozenset(b for b in range(256) if b & 1))),
    ],
    "icmp_type": [
        ("proto: icmp, icmp_type: echo-request", Match(ipv6=False, protocols=ICMP4, icmp_type=((8, 8),))),
        ("proto: icmpv6, icmp_type: echo-request", Match(
            ipv4=False, protocols=ICMP6, icmp_type=((128, 128),))),
        ("proto: icmpv6, icmp_type: neighbour-solicitation", Match(
            ipv4=False, protocols=ICMP6, icmp_type=((135, 135),))),
        ("proto: icmpv6, icmp_type: neighbor-solicitation", Match(
            ipv4=False, protocols=ICMP6, icmp_type=((135, 135),))),
        ("icmp_type: 0, family: ipv4", Match(ipv6=False, protocols=ICMP4, icmp_type=((0, 0),))),
        ("icmp_type: [133-137, 2], family: ipv6", Match(
            ipv4=False, protocols=ICMP6, icmp_type=((2, 2), (133, 137)))),
        ("icmp_type: echo-reply, dst: 0.0.0.0/0", Match(ipv6=False, protocols=ICMP4, icmp_type=((0, 0),))),
    ],
    "icmp_code": [
        ("proto: icmp, icmp_code: 255", Match(ipv6=False, protocols=ICMP4, icmp_code=((255, 255),))),
        ("proto: icmp, icmp_type: 3, icmp_code: fragmentation-needed", Match(
            ipv6=False, protocols=ICMP4, icmp_type=((3, 3),), icmp_code=((4, 4),))),
        ("proto: icmpv6, icmp_type: destination-unreachable, icmp_code: [port-unreachable, 0-1]", Match(
            ipv4=False, protocols=ICMP6, icmp_type=((1, 1),), icmp_code=((0, 1), (4, 4)))),
    ],
    "vlan": [
        ("vlan: 0", Match(vlan=((0, 0),))),
        ("vlan: 4095", Match(vlan=((4095, 4095),))),
        ("vlan: none", Match(vlan=((VLAN_NONE, VLAN_NONE),))),
        ("vlan: [5, none, 10-12]", Match(vlan=((5, 5), (10, 12), (VLAN_NONE, VLAN_NONE)))),
        ("vlan: [0-4095, none]", Match()),
        ("vlan: 7, proto: arp", Match(arp=True, ipv4=False, ipv6=False, vlan=((7, 7),))),
    ],
    "not": [
        ("not: {dport: 80}", Match(protocols=PORTS, dport=((0, 79), (81, 65535)))),
        ("not: {dst: 192.0.2.0/24}", Match(ipv6=False, dst=v4(
            (0, number("192.0.1.255")), (number("192.0.3.0"), 2**32 - 1)))),
        ("not: {family: ipv4}", Match(ipv4=False)),
        ("not: {proto: icmp}", Match(protocols=Protocols(ALL - {ICMP}, ALL))),
        ("not: {proto: tcp}", Match(protocols=Protocols(ALL - {TCP}, ALL - {TCP}))),
        ("not: {proto: tcp}, dport: 53", Match(
            protocols=Protocols(PORT_PROTOCOLS - {TCP}, PORT_PROTOCOLS - {TCP}), dport=((53, 53),))),
        ("not: {tcp_flags: {set: [syn]}}", Match(
            protocols=ONLY_TCP, tcp_flags=frozenset(b for b in range(256) if not b & 2))),
        ("not: {icmp_type: 0}, proto: icmp", Match(ipv6=False, protocols=ICMP4, icmp_type=((1, 255),))),
        ("not: {icmp_type: echo-request, src: 0.0.0.0/1}", Match(
            ipv6=False, protocols=ICMP4, src=v4((2**31, 2**32 - 1)), icmp_type=((0, 7), (9, 255)))),
        ("not: {vlan: [1, 2]}", Match(vlan=((0, 0), (3, 4095)))),
        ("not: {vlan: none}", Match(vlan=((0, 4095),))),
        ("not: {vlan: [none, 0]}", Match(vlan=((1, 4095),))),
        ("dport: 80-90, not: {dport: [82, 84-99]}", Match(protocols=PORTS, dport=((80, 81), (83, 83)))),
        ("src: 192.0.2.0/24, not: {src: 192.0.2.0/25}", Match(ipv6=False, src=v4(block("192.0.2.128/25")))),
        ("not: {src: [0.0.0.0/0, 2001:db8::/32]}", Match(ipv4=False, src=v6(
            (0, number("2001:db8::") - 1), (number("2001:db9::"), 2**128 - 1)))),
        ("not: {sport: 0-65535}", Match(protocols=PORTS, sport=())),
    ],
}  # fmt: skip

OTHER_KEYS = {"name", "comment", "action"}  # no conditions: tests/test_rules_actions.py


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [case for cases in CASES.values() for case in cases],
    ids=lambda value: str(value)[:60],
)
def test_conditions_become_a_match(conditions: str, expected: Match) -> None:
    assert match(conditions) == expected


def test_every_key_of_a_rule_is_tested_here() -> None:
    assert set(CASES) | OTHER_KEYS == set(RULE_KEYS)
    assert all(key in conditions for key, cases in CASES.items() for conditions, _ in cases)


def test_a_rule_without_conditions_matches_both_families_and_no_arp() -> None:
    assert match("") == Match(arp=False, ipv4=True, ipv6=True)


@pytest.mark.parametrize(("name", "value"), PROTOCOLS.items())
def test_a_protocol_name_and_its_number_mean_the_same(name: str, value: int) -> None:
    assert match(f"proto: {name}") == match(f"proto: {value}")


@pytest.mark.parametrize(("flag", "bit"), TCP_FLAGS.items())
def test_every_tcp_flag_can_be_wanted_and_banned(flag: str, bit: int) -> None:
    assert match(f"tcp_flags: {{set: [{flag}]}}").tcp_flags == frozenset(b for b in range(256) if b & bit)
    assert match(f"tcp_flags: {{clear: [{flag}]}}").tcp_flags == frozenset(
        b for b in range(256) if not b & bit
    )


@pytest.mark.parametrize(
    ("protocol", "name", "value"), [(p, *item) for p, names in TYPES.items() for item in names.items()]
)
def test_every_icmp_type_has_its_name(protocol: int, name: str, value: int) -> None:
    assert match(f"proto: {protocol}, icmp_type: {name}").icmp_type == ((value, value),)


@pytest.mark.parametrize(
    ("protocol", "kind", "name", "value"),
    [(*key, *item) for key, names in CODES.items() for item in names.items()],
)
def test_every_icmp_code_has_its_name_beside_its_type(
    protocol: int, kind: int, name: str, value: int
) -> None:
    found = match(f"proto: {protocol}, icmp_type: {kind}, icmp_code: {name}")
    assert found.icmp_code == ((value, value),)


@pytest.mark.parametrize(
    "conditions", ["proto: icmp", "proto: icmp, icmp_type: [3, 5]", "proto: icmp, icmp_type: 8"]
)
def test_a_code_name_without_its_type_is_refused(conditions: str) -> None:
    assert "a code's name needs one icmp_type" in refusal(f"{conditions}, icmp_code: port-unreachable")


def test_sets_mean_their_entries() -> None:
    head = 'sets: {net: [192.0.2.0/24, "2001:db8::/32"], web: [80, 443]}'
    plain = match("src: [192.0.2.0/24, 2001:db8::/32, 198.51.100.1], dport: [80, 443, 8080]")
    assert match('src: ["@net", 198.51.100.1], dport: ["@web", 8080]', head) == plain


def test_a_mixed_set_is_cut_to_the_family_of_the_rule() -> None:
    head = 'sets: {net: [192.0.2.0/24, "2001:db8::/32"]}'
    assert match('src: "@net", dst: "::1"', head) == match('src: "2001:db8::/32", dst: "::1"')
    assert match('family: ipv4, not: {src: "@net"}', head) == match("not: {src: 192.0.2.0/24}")
