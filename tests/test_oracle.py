"""The reference itself: the oracle against the hand-written corpus, the builder against known bytes."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest
import yaml
from corpus import CORPUS, DENY_DEFAULT, PASS_DEFAULT, Case
from hypothesis import given
from oracle import Verdict, decide, read
from packets import (
    BROADCAST,
    Layer,
    Packet,
    arp,
    crc32c,
    eth,
    fragment,
    icmp,
    icmpv6,
    ipv4,
    ipv6,
    nd,
    tcp,
    udp,
    vlan,
)
from strategies import cases, edge_packets, random_rule_file, random_ruleset, rule_files

from xdpguard.rules.model import VLAN_NONE, Action, Addresses, Hook, Match, Protocols, Rule, RuleSet
from xdpguard.stats.model import PROTOCOLS

DROP, PASS, TX = Action.DROP, Action.PASS, Action.TX
REASONS = {
    "malformed_ethernet", "malformed_vlan", "malformed_arp", "malformed_ipv4_header", "malformed_ipv4_length",
    "malformed_ipv6_header", "malformed_ipv6_length", "malformed_ipv6_extension", "malformed_fragment",
    "malformed_tcp", "malformed_udp", "malformed_icmp", "malformed_icmpv6", "malformed_sctp", "fragment",
    "essential", "tx_refused",
}  # fmt: skip
ALL = frozenset(range(256))
SSH = bytes(eth() / ipv4() / tcp(dport=22))


def rules(*matches: Match, action: Action = DROP, default: Action = PASS) -> RuleSet:
    """One rule per match, called r0, r1, ..., on both hooks."""
    made = tuple(
        Rule(f"r{index}", action, match, None, f"{index:032x}", 1, 1) for index, match in enumerate(matches)
    )
    return RuleSet("test.yaml", Hook(default, made), Hook(default, made))


def protocols(*numbers: int) -> Protocols:
    return Protocols(frozenset(numbers), frozenset(numbers))


# ---- the corpus -----------------------------------------------------------------------------------------
@pytest.mark.parametrize("case", CORPUS, ids=lambda case: case.name)
def test_the_oracle_agrees_with_the_corpus(case: Case) -> None:
    passing, denying = (decide(ruleset, case.hook, case.frame) for ruleset in (PASS_DEFAULT, DENY_DEFAULT))
    assert passing == Verdict(case.pass_default, case.decider, case.protocol)
    assert denying == Verdict(case.deny_default, case.decider, case.protocol)


def test_every_corpus_name_is_used_once() -> None:
    assert len({case.name for case in CORPUS}) == len(CORPUS)


def test_the_corpus_has_every_malformed_reason_and_every_protocol() -> None:
    assert {case.decider for case in CORPUS} >= REASONS - {"fragment", "tx_refused"}
    assert {case.protocol for case in CORPUS} == set(PROTOCOLS)


# ---- rules ----------------------------------------------------------------------------------------------
def test_the_first_matching_rule_decides() -> None:
    ruleset = rules(Match(protocols=protocols(17)), Match(protocols=protocols(6)), Match())
    assert decide(ruleset, "ingress", SSH).decider == "r1"


@pytest.mark.parametrize(
    ("match", "holds"),
    [
        (Match(), True),
        (Match(ipv4=False), False),
        (Match(protocols=Protocols(frozenset(), ALL)), False),
        (Match(src=Addresses(v4=((0xC6336407, 0xC6336407),))), True),
        (Match(src=Addresses(v4=((0xC6336408, 0xFFFFFFFF),))), False),
        (Match(dst=Addresses(v4=((0, 0xC0000201),))), True),
        (Match(dst=Addresses(v6=((0, 2**128 - 1),))), False),
        (Match(sport=((0, 39999), (40001, 65535))), False),
        (Match(dport=((0, 21), (22, 22))), True),
        (Match(dport=()), False),
        (Match(tcp_flags=frozenset({2})), True),
        (Match(tcp_flags=ALL - {2}), False),
        (Match(icmp_type=((0, 255),)), False),
        (Match(icmp_code=((0, 255),)), False),
        (Match(vlan=((VLAN_NONE, VLAN_NONE),)), True),
        (Match(vlan=((0, 4095),)), False),
    ],
)
def test_each_field_of_a_rule_is_compared(match: Match, holds: bool) -> None:
    assert decide(rules(match), "ingress", SSH).decider == ("r0" if holds else "default")


@pytest.mark.parametrize("match", [Match(sport=((0, 65535),)), Match(dport=((0, 65535),))])
def test_a_port_condition_needs_a_packet_with_ports(match: Match) -> None:
    every_port = rules(match)
    later = bytes(eth() / ipv4(offset=100) / udp())
    assert decide(every_port, "ingress", bytes(eth() / ipv4() / icmp())).decider == "default"
    assert decide(every_port, "ingress", later).decider == "default"


def test_icmp_conditions_match_type_and_code() -> None:
    ruleset = rules(Match(icmp_type=((3, 3),), icmp_code=((4, 4),)), Match(icmp_type=((8, 8),)))
    assert decide(ruleset, "ingress", bytes(eth() / ipv4() / icmp(3, 4))).decider == "r0"
    assert decide(ruleset, "ingress", bytes(eth() / ipv6() / icmpv6(8, 0))).decider == "r1"


def test_a_rule_matches_arp_only_if_it_says_so() -> None:
    frame = bytes(eth() / vlan(5) / arp())
    assert decide(rules(Match()), "ingress", frame).decider == "essential"
    assert decide(rules(Match(arp=True)), "ingress", frame) == Verdict(DROP, "r0", "arp")
    assert decide(rules(Match(arp=True, vlan=((6, 6),))), "ingress", frame).decider == "essential"


def test_a_catch_all_decides_essential_traffic_before_its_exception() -> None:
    frame = bytes(eth() / ipv6(hop_limit=255) / nd())
    assert decide(rules(Match(), default=DROP), "ingress", frame) == Verdict(DROP, "r0", "icmpv6")
    assert decide(rules(default=DROP), "ingress", frame) == Verdict(PASS, "essential", "icmpv6")


def test_a_catch_all_does_not_match_other_frames_than_ip() -> None:
    assert decide(rules(Match()), "ingress", bytes(eth(ethertype=0x88CC) / b"lldp")).decider == "default"


# ---- tx, settings, devices ------------------------------------------------------------------------------
@pytest.mark.parametrize("header", [eth(BROADCAST), eth(src=BROADCAST), eth("01:00:5e:90:10:01")])
def test_tx_of_a_group_address_is_refused(header: Layer) -> None:
    verdict = decide(rules(Match(), action=TX), "ingress", bytes(header / ipv4() / tcp()))
    assert verdict == Verdict(DROP, "tx_refused", "tcp")


def test_tx_needs_an_ethernet_header() -> None:
    ruleset = rules(Match(), action=TX)
    assert decide(ruleset, "ingress", SSH) == Verdict(TX, "r0", "tcp")
    assert decide(ruleset, "ingress", SSH[14:], ethernet=False) == Verdict(DROP, "tx_refused", "tcp")


def test_malformed_packets_pass_when_the_rules_say_so() -> None:
    ruleset = replace(rules(Match()), malformed=PASS)
    assert decide(ruleset, "ingress", SSH[:20]) == Verdict(PASS, "malformed_ipv4_header", "other_ip")


@pytest.mark.parametrize(
    ("frame", "protocol"),
    [
        (eth() / ipv4(mf=True) / tcp(), "tcp"),
        (eth() / ipv4(offset=1) / tcp(), "tcp"),  # dropped before it can be malformed
        (eth() / ipv4(offset=8191, proto=1) / bytes(400), "icmp"),
        (eth() / ipv4(mf=True, proto=17) / b"", "udp"),
        (eth() / ipv6() / fragment(0, True) / udp() / b"odd", "udp"),
        (eth() / ipv6() / fragment(8191, then=58) / bytes(400), "icmpv6"),
        (eth() / ipv6() / fragment(5, then=60) / b"", "other_ip"),
    ],
)
def test_every_fragment_is_dropped_when_the_rules_say_so(frame: Packet, protocol: str) -> None:
    ruleset = replace(rules(Match(), action=PASS), drop_fragments=True, malformed=PASS)
    assert decide(ruleset, "ingress", bytes(frame)) == Verdict(DROP, "fragment", protocol)


def test_an_atomic_fragment_is_a_whole_packet_when_fragments_are_dropped() -> None:
    ruleset = replace(PASS_DEFAULT, drop_fragments=True)
    assert decide(ruleset, "ingress", bytes(eth() / ipv6() / fragment() / tcp(dport=22))).decider == "ssh"


@pytest.mark.parametrize(
    ("frame", "protocol"),
    [(SSH[14:], "tcp"), (bytes(ipv6() / udp()), "udp"), (b"\x50" + bytes(40), "non_ip"), (b"", "non_ip")],
)
def test_a_device_without_ethernet_header_is_read_by_the_version(frame: bytes, protocol: str) -> None:
    assert decide(rules(), "egress", frame, ethernet=False) == Verdict(PASS, "default", protocol)


# ---- tags -----------------------------------------------------------------------------------------------
def test_the_vlan_is_the_outermost_tag_and_without_priority() -> None:
    frame = bytes(eth() / vlan(5, pcp=7, dei=True) / vlan(6) / ipv4() / tcp())
    assert read(frame).vlan == 5
    assert read(SSH).vlan == VLAN_NONE


def test_a_tag_in_metadata_is_the_outermost_and_counts() -> None:
    one = bytes(eth() / vlan(6) / ipv4() / tcp())
    assert read(one, tag=0xE005).vlan == 5
    three = bytes(eth() / vlan(6) / vlan(7) / ipv4() / tcp())
    assert decide(rules(), "ingress", three, tag=5).decider == "malformed_vlan"


# ---- packets over 64 KiB --------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("size", "decider"),
    [(65536 - 40, "r0"), (65535 - 40, "malformed_ipv4_length")],
    ids=["65536 bytes", "65535 bytes"],
)
def test_total_length_0_means_all_only_over_65535_bytes(size: int, decider: str) -> None:
    frame = bytes(eth() / ipv4(total_length=0) / tcp(dport=22) / bytes(size))
    assert decide(rules(Match(dport=((22, 22),))), "egress", frame).decider == decider


@pytest.mark.parametrize(("size", "decider"), [(65536 - 20, "r0"), (65535 - 20, "malformed_tcp")])
def test_payload_length_0_means_all_only_over_65535_bytes(size: int, decider: str) -> None:
    frame = bytes(eth() / ipv6(payload_length=0) / tcp(dport=22) / bytes(size))
    assert decide(rules(Match(dport=((22, 22),))), "egress", frame).decider == decider


@pytest.mark.parametrize(("size", "decider"), [(65536 - 8, "r0"), (65535 - 8, "malformed_udp")])
def test_udp_length_0_means_all_only_over_65535_bytes(size: int, decider: str) -> None:
    frame = bytes(eth() / ipv4(total_length=0) / udp(dport=22, length=0) / bytes(size))
    assert decide(rules(Match(dport=((22, 22),))), "egress", frame).decider == decider


# ---- the builder ----------------------------------------------------------------------------------------
def test_headers_are_built_as_the_rfcs_say() -> None:
    # The IPv4 header is the worked example of many text books; the rest was summed by hand.
    header = bytes(ipv4("192.168.0.1", "192.168.0.199", proto=17, df=True, ident=0, total_length=115))
    assert header.hex() == "45000073000040004011b861c0a80001c0a800c7"
    assert bytes(eth() / vlan(5, pcp=1))[12:].hex() == "8100200588b5"
    assert bytes(ipv6(hop_limit=1) / udp(1, 2, chksum=0))[:8].hex() == "6000000000081101"


@pytest.mark.parametrize("network", [ipv4(), ipv6()], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("transport", [tcp(), udp(), icmpv6(), tcp() / b"odd", udp() / b"odd"])
def test_a_checksum_makes_the_sum_of_pseudo_header_and_data_all_ones(
    network: Layer, transport: Layer | Packet
) -> None:
    data = bytes(network / transport)
    version = data[0] >> 4
    start, addresses = (20, data[12:20]) if version == 4 else (40, data[8:40])
    number = data[9] if version == 4 else data[6]
    words = addresses + (len(data) - start).to_bytes(4, "big") + bytes([0, number]) + data[start:] + bytes(1)
    words = words[: len(words) // 2 * 2]
    total = sum(int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2))
    assert total % 0xFFFF == 0


def test_crc32c_gives_the_check_value_of_its_definition() -> None:
    assert crc32c(b"123456789") == 0xE3069283


# ---- the generators -------------------------------------------------------------------------------------
@given(cases())
def test_every_frame_gets_one_known_verdict(case: tuple[RuleSet, str, list[bytes]]) -> None:
    ruleset, hook, frames = case
    names = {rule.name for rule in (ruleset.ingress if hook == "ingress" else ruleset.egress).rules}
    for frame in frames:
        verdict = decide(ruleset, hook, frame)
        assert verdict.protocol in PROTOCOLS
        assert verdict.decider in names | REASONS | {"default"}


def test_edge_packets_meet_every_reason_and_most_rules() -> None:
    rng, met, rules_met = Random(1), set(), 0
    for _ in range(200):
        ruleset = random_ruleset(rng, 4)
        deciders = {
            decide(ruleset, "ingress", frame).decider for frame in edge_packets(ruleset, "ingress", rng, 80)
        }
        rules_met += len(deciders & {rule.name for rule in ruleset.ingress.rules})
        met |= deciders
    assert met >= REASONS
    assert rules_met > 0.7 * 4 * 200


def test_the_same_seed_gives_the_same_data() -> None:
    first, second = ((random_ruleset(rng), random_rule_file(rng)) for rng in (Random(7), Random(7)))
    assert first == second
    assert edge_packets(first[0], "egress", Random(1), 50) == edge_packets(second[0], "egress", Random(1), 50)


def test_short_frames_are_padded_on_request() -> None:
    frames = edge_packets(random_ruleset(Random(1)), "ingress", Random(1), 500, mutations=1.0, shortest=14)
    assert min(len(frame) for frame in frames) == 14


@given(rule_files)
def test_a_generated_rule_file_is_yaml_with_unique_names(text: str) -> None:
    document = yaml.safe_load(text)
    names = [rule["name"] for hook in ("ingress", "egress") for rule in document[hook]]
    assert len(names) == len(set(names))
