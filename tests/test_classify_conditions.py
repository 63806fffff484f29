"""One rule's Match -> the indices that it allows in each dimension."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.abi import abi
from xdpguard.classify.conditions import PAGES, Conditions, conditions
from xdpguard.rules.intervals import from_values
from xdpguard.rules.model import (
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    VLAN_NONE,
    Addresses,
    Intervals,
    Match,
    Protocols,
)

NUMBERS = abi().numbers
IPV4, IPV6, ARP, TCP4, TCP6 = (NUMBERS[f"XG_L4_{name}"] for name in ("IPV4", "IPV6", "ARP", "TCP4", "TCP6"))
# Packets whose L4 header could be read, other than TCP.
READ4, READ6 = (NUMBERS["XG_L4_HEADER"] + base for base in (IPV4, IPV6))


def both(*numbers: int) -> Protocols:
    return Protocols(frozenset(numbers), frozenset(numbers))


def l4(match: Match) -> Intervals:
    found = conditions(match).l4
    assert found is not None
    return found


ALL = 255


def test_a_rule_that_asks_nothing_looks_only_at_what_is_ip() -> None:
    ip = ((IPV4, IPV6 + ALL), (TCP4, READ6 + ALL))
    assert conditions(Match()) == Conditions(None, None, None, None, None, None, ip, None)


def at(*values: int) -> Intervals:
    return tuple((value, value) for value in values)


V4: Intervals = ((IPV4, IPV4 + ALL), (TCP4, TCP4 + ALL), (READ4, READ4 + ALL))
L4_CASES: dict[str, tuple[Match, Intervals]] = {
    "IPv4": (Match(ipv6=False), V4),
    "IPv6": (Match(ipv4=False), ((IPV6, IPV6 + ALL), (TCP6, TCP6 + ALL), (READ6, READ6 + ALL))),
    "neither": (Match(ipv4=False, ipv6=False), ()),
    "ARP alone": (Match(arp=True, ipv4=False, ipv6=False), at(ARP)),
    "ARP and IPv4": (Match(arp=True, ipv6=False), (V4[0], (ARP, ARP), *V4[1:])),
    # A later fragment has the protocol number but no header: it is another index.
    "UDP": (Match(protocols=both(UDP)), at(IPV4 + UDP, IPV6 + UDP, READ4 + UDP, READ6 + UDP)),
    "TCP": (
        Match(protocols=both(TCP), ipv6=False),
        ((IPV4 + TCP, IPV4 + TCP), (TCP4, TCP4 + ALL), (READ4 + TCP, READ4 + TCP)),
    ),
    "TCP flags": (
        Match(protocols=both(TCP), tcp_flags=frozenset({0, 2, 3, 255})),
        (
            (TCP4, TCP4),
            (TCP4 + 2, TCP4 + 3),
            (TCP4 + 255, TCP6),
            (TCP6 + 2, TCP6 + 3),
            (TCP6 + 255, TCP6 + 255),
        ),
    ),
    "no TCP flags": (Match(protocols=both(TCP), tcp_flags=frozenset()), ()),
    "TCP flags of UDP": (Match(protocols=both(UDP), tcp_flags=frozenset({2})), ()),
    "a number per family": (
        Match(protocols=Protocols(frozenset({ICMP}), frozenset({ICMPV6}))),
        at(IPV4 + ICMP, IPV6 + ICMPV6, READ4 + ICMP, READ6 + ICMPV6),
    ),
    "a number of one family only": (
        Match(protocols=Protocols(frozenset(), frozenset({ICMPV6}))),
        at(IPV6 + ICMPV6, READ6 + ICMPV6),
    ),
    "numbers of a family that cannot match": (
        Match(ipv6=False, protocols=both(SCTP)),
        at(IPV4 + SCTP, READ4 + SCTP),
    ),
    "ports without a protocol": (
        Match(ipv6=False, dport=((1, 1),)),
        ((TCP4, TCP4 + ALL), *at(READ4 + TCP, READ4 + UDP, READ4 + SCTP)),
    ),
    "ports of UDP": (Match(protocols=both(UDP), sport=((1, 1),)), at(READ4 + UDP, READ6 + UDP)),
    "ports of a protocol that has none": (Match(protocols=both(ICMP, 47), sport=((1, 1),)), ()),
    "an ICMP field": (
        Match(protocols=Protocols(frozenset({ICMP}), frozenset({ICMPV6})), icmp_type=((3, 3),)),
        at(READ4 + ICMP, READ6 + ICMPV6),
    ),
}


@pytest.mark.parametrize("case", L4_CASES)
def test_families_protocols_and_flags_become_one_dimension(case: str) -> None:
    match, expected = L4_CASES[case]
    assert l4(match) == expected


def test_addresses_stay_apart_by_family() -> None:
    found = conditions(Match(src=Addresses(v4=((1, 2),)), dst=Addresses(v6=((3, 4),))))
    assert (found.src4, found.src6, found.dst4, found.dst6) == (((1, 2),), (), (), ((3, 4),))


def test_ports_are_their_own_indices() -> None:
    found = conditions(Match(sport=((0, 0),), dport=((65535, 65535),)))
    assert (found.sport, found.dport) == (((0, 0),), ((65535, 65535),))


def test_icmp_type_and_code_stand_in_the_place_of_the_ports() -> None:
    found = conditions(Match(icmp_type=((0, 0), (8, 255)), icmp_code=((1, 1),)))
    assert (found.sport, found.dport) == (((0, 0), (8, 255)), ((1, 1),))


def test_no_packet_that_has_a_port_is_one_that_has_an_icmp_type() -> None:
    """They stand in the same place, and are told apart by the L4 index alone."""
    ports, types = (
        {index for first, last in l4(match) for index in range(first, last + 1)}
        for match in (Match(sport=((3, 3),)), Match(icmp_type=((3, 3),)))
    )
    assert ports
    assert types
    assert not ports & types


def test_a_port_and_an_icmp_field_together_match_nothing() -> None:
    assert l4(Match(sport=((1, 1),), icmp_type=((1, 1),), dport=((1, 1),), icmp_code=((1, 1),))) == ()


def test_an_untagged_packet_has_an_index_of_its_own() -> None:
    assert conditions(Match(vlan=((4095, 4095), (VLAN_NONE, VLAN_NONE)))).vlan == ((4095, 4095), (4096, 4096))


def test_every_index_lies_in_the_pages_of_its_dimension() -> None:
    highest = {"sport": 65535, "dport": 65535, "l4": READ6 + 255, "vlan": VLAN_NONE}
    assert {name: -(-(top + 1) // 256) for name, top in highest.items()} == PAGES


@given(st.frozensets(st.integers(0, 300)))
def test_intervals_hold_exactly_the_values_sorted_and_apart(values: frozenset[int]) -> None:
    found = from_values(values)
    assert {value for first, last in found for value in range(first, last + 1)} == values
    assert all(first <= last for first, last in found)
    assert all(one[1] + 1 < two[0] for one, two in pairwise(found))
