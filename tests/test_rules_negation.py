"""Negation and implied restrictions, as packets see them: a rule and its meaning word by word must agree."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st
from oracle import Packet, matches
from test_rules_support import match

from xdpguard.rules.model import PORT_PROTOCOLS, VLAN_NONE

TCP, UDP, ICMP, ICMPV6, SCTP = 6, 17, 1, 58, 132
ADDRESSES = {4: range(4), 6: range(4)}  # 0.0.0.0-0.0.0.3 and ::-::3 are enough to meet every edge


def text_of(version: int, value: int) -> str:
    return f"0.0.0.{value}" if version == 4 else f'"::{value}"'


PACKETS = st.builds(
    lambda version, number, src, dst, sport, dport, flags, kind, code, vlan, cut: Packet(
        protocol="",
        vlan=vlan,
        version=version,
        number=number,
        src=src,
        dst=dst,
        sport=sport if number in PORT_PROTOCOLS and not cut else None,
        dport=dport if number in PORT_PROTOCOLS and not cut else None,
        tcp_flags=flags if number == TCP and not cut else None,
        icmp_type=kind if is_icmp(version, number) and not cut else None,
        icmp_code=code if is_icmp(version, number) and not cut else None,
    ),
    st.sampled_from([4, 6]),
    st.sampled_from([0, ICMP, TCP, UDP, ICMPV6, SCTP, 255]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0, 2, 16, 18, 255]),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from([0, 1, 2, 4095, VLAN_NONE]),
    st.booleans(),
)


def is_icmp(version: int, number: int) -> bool:
    return (version, number) in ((4, ICMP), (6, ICMPV6))


def written(values: list[object]) -> str:
    return "[" + ", ".join(str(value) for value in values) + "]"


@given(PACKETS, st.lists(st.integers(0, 3), min_size=1), st.lists(st.integers(0, 3), min_size=1))
def test_ports_and_not_ports_hold_where_ports_exist(
    packet: Packet, wanted: list[int], banned: list[int]
) -> None:
    plain = match(f"dport: {written([*wanted])}")
    negated = match(f"not: {{dport: {written([*wanted])}}}")
    both = match(f"dport: {written([*wanted])}, not: {{dport: {written([*banned])}}}")
    has = packet.dport is not None
    assert matches(plain, packet) == (has and packet.dport in wanted)
    assert matches(negated, packet) == (has and packet.dport not in wanted)
    assert matches(both, packet) == (has and packet.dport in wanted and packet.dport not in banned)


@given(PACKETS, st.lists(st.tuples(st.sampled_from([4, 6]), st.integers(0, 3)), min_size=1))
def test_a_negated_address_holds_in_the_families_that_are_listed(
    packet: Packet, listed: list[tuple[int, int]]
) -> None:
    entries = written([text_of(*entry) for entry in listed])
    here = (packet.version, packet.src)
    families = {version for version, _ in listed}
    assert matches(match(f"src: {entries}"), packet) == (here in listed)
    assert matches(match(f"not: {{src: {entries}}}"), packet) == (
        packet.version in families and here not in listed
    )


@given(PACKETS, st.lists(st.sampled_from([0, ICMP, TCP, UDP, ICMPV6, 255]), min_size=1))
def test_negated_protocols_are_the_other_ones(packet: Packet, listed: list[int]) -> None:
    foreign = (packet.version, packet.number) in ((4, ICMPV6), (6, ICMP))
    is_listed = packet.number in listed and not foreign
    assert matches(match(f"proto: {written([*listed])}"), packet) == is_listed
    assert matches(match(f"not: {{proto: {written([*listed])}}}"), packet) == (not is_listed)


@given(PACKETS, st.sets(st.sampled_from(["syn", "ack"]), min_size=1), st.booleans())
def test_negated_flags_hold_for_other_tcp_packets(packet: Packet, flags: set[str], wanted: bool) -> None:
    condition = f"tcp_flags: {{{'set' if wanted else 'clear'}: {written([*sorted(flags)])}}}"
    bits = {"syn": 2, "ack": 16}
    value = packet.tcp_flags
    fits = value is not None and all(bool(value & bits[flag]) == wanted for flag in flags)
    assert matches(match(condition), packet) == fits
    assert matches(match(f"not: {{{condition}}}"), packet) == (value is not None and not fits)


@given(PACKETS, st.lists(st.integers(0, 3), min_size=1), st.sampled_from(["icmp", "icmpv6"]))
def test_negated_icmp_types_hold_for_other_icmp_packets(packet: Packet, listed: list[int], name: str) -> None:
    condition = f"icmp_type: {written([*listed])}"
    has = packet.icmp_type is not None and (packet.number == ICMP) == (name == "icmp")
    assert matches(match(f"proto: {name}, {condition}"), packet) == (has and packet.icmp_type in listed)
    negated = match(f"proto: {name}, not: {{{condition}}}")
    assert matches(negated, packet) == (has and packet.icmp_type not in listed)


@given(PACKETS, st.lists(st.sampled_from([0, 1, 4095, "none"]), min_size=1))
def test_negated_vlans_are_other_tagged_packets(packet: Packet, listed: list[object]) -> None:
    tag: object = "none" if packet.vlan == VLAN_NONE else packet.vlan
    assert matches(match(f"vlan: {written(listed)}"), packet) == (tag in listed)
    assert matches(match(f"not: {{vlan: {written(listed)}}}"), packet) == (
        tag != "none" and tag not in listed
    )


@given(PACKETS, st.integers(0, 3), st.integers(0, 3))
def test_each_key_under_not_is_negated_on_its_own(packet: Packet, port: int, address: int) -> None:
    found = match(f"not: {{sport: {port}, dst: 0.0.0.{address}}}")
    expected = packet.version == 4 and packet.sport not in (None, port) and packet.dst != address
    assert matches(found, packet) == expected


@given(PACKETS)
def test_arp_is_matched_only_by_name(packet: Packet) -> None:
    packet.protocol, packet.version = "arp", 0
    assert matches(match("proto: arp"), packet)
    assert matches(match("proto: [arp, tcp]"), packet)
    for conditions in ("", "not: {proto: tcp}", "vlan: [0-4095, none]", "not: {family: ipv4}"):
        assert not matches(match(conditions), packet)


@given(PACKETS)
def test_arp_in_a_list_leaves_the_other_protocols_alone(packet: Packet) -> None:
    assume(packet.protocol != "arp")
    assert matches(match("proto: [arp, tcp]"), packet) == matches(match("proto: tcp"), packet)
    assert not matches(match("proto: arp"), packet)
