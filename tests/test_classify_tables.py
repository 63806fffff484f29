"""The tables of a blob against the linear oracle, at packets from the edges of the rules."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import permutations
from random import Random

import oracle
import pytest
import shapes
import tables
from hypothesis import given, settings
from hypothesis import strategies as st
from packets import arp, eth, ipv4, ipv6, tcp, udp, vlan
from strategies import Edges, edge_packets, random_hook, random_ruleset, seeds

from xdpguard.classify.compile import build
from xdpguard.rules.model import (
    VLAN_NONE,
    Action,
    Addresses,
    Hook,
    Intervals,
    Match,
    Protocols,
    Rule,
    RuleSet,
)

BLOCK = 4096
BASE4, BASE6 = 0xC6336407, 0x20010DB8 << 96 | 7
ALL4: Intervals = ((0, (1 << 32) - 1),)
ALL6: Intervals = ((0, (1 << 128) - 1),)
ANY = frozenset(range(256))
TCP_ONLY = Protocols(frozenset({6}), frozenset({6}))


def rule_set(*matches: Match) -> RuleSet:
    """The same rules on both hooks."""
    rules = tuple(
        Rule(f"r{n}", Action.DROP, match, None, f"{n:032x}", 1, 1) for n, match in enumerate(matches)
    )
    return RuleSet("test.yaml", Hook(Action.PASS, rules), Hook(Action.PASS, rules))


def linear(rules: Sequence[Rule], packet: oracle.Packet) -> int | None:
    return next((at for at, rule in enumerate(rules) if oracle.matches(rule.match, packet)), None)


def readable(ruleset: RuleSet, frames: list[bytes]) -> Iterator[tuple[oracle.Packet, tables.Indices]]:
    for frame in frames:
        try:
            packet = oracle.read(frame, ruleset.drop_fragments)
        except oracle.Decided:
            continue
        indices = tables.indices(packet)
        if indices is not None:
            yield packet, indices


def answers(ruleset: RuleSet, hook: str, frames: list[bytes]) -> set[int | None]:
    """Compares tables and oracle on every readable frame; what they answered."""
    chain = {"ingress": ruleset.ingress, "egress": ruleset.egress}[hook]
    blob = build(ruleset).blob.tobytes()
    found: set[int | None] = set()
    for packet, indices in readable(ruleset, frames):
        first = tables.first_match(blob, hook, indices)
        assert first == linear(chain.rules, packet), (packet, indices)
        found.add(first)
    return found


@settings(deadline=None, max_examples=40)
@given(seeds, st.integers(1, 200), st.sampled_from(("ingress", "egress")))
def test_the_tables_agree_with_the_linear_oracle(rng: Random, size: int, hook: str) -> None:
    ruleset = random_ruleset(rng, size)
    answers(ruleset, hook, edge_packets(ruleset, hook, rng, 60))


@settings(deadline=None, max_examples=60)
@given(seeds, st.integers(1, 300), st.sampled_from(shapes.SHAPES))
def test_rules_that_crowd_one_place_agree_with_the_linear_oracle(
    rng: Random, size: int, shape: shapes.Shape
) -> None:
    ruleset = shapes.shaped_ruleset(rng, size, shape)
    answers(ruleset, "ingress", edge_packets(ruleset, "ingress", rng, 60, mutations=0.05))


# By hook and family: the group whose rule is the first of all.
GROUPS = ("fallback", "pair", "src", "dst", "wide")


def test_the_shapes_are_decided_by_every_group_and_every_length_of_list() -> None:
    deciding: set[tuple[int, str]] = set()
    longest = 0
    for seed, shape in enumerate(shapes.SHAPES * 3):
        rng = Random(seed)
        ruleset = shapes.shaped_ruleset(rng, 400, shape)
        reader = tables.Reader(build(ruleset).blob.tobytes())
        header = reader.header("ingress")
        for _, indices in readable(ruleset, edge_packets(ruleset, "ingress", rng, 400, mutations=0.0)):
            found = tables.answers(reader, "ingress", indices)
            deciding |= {(indices.family, name) for name in GROUPS if getattr(found, name) == found.first}
            if indices.family:
                place = tables.find(
                    reader, header[f"ipv{indices.family}"]["src"], indices.family, indices.src
                )
                longest = max(longest, len(list(tables.entries(reader, header, place.word))))
    assert deciding >= {(family, name) for family in (4, 6) for name in GROUPS if name != "fallback"} | {
        (0, "wide")
    }
    assert longest > 30


def test_each_hook_reads_its_own_rules() -> None:
    rng = Random(7)
    ruleset = RuleSet("t", random_hook(rng, "ingress", 3), random_hook(rng, "egress", 90))
    for hook in ("ingress", "egress"):
        assert len(answers(ruleset, hook, edge_packets(ruleset, hook, rng, 100))) > 2


def narrow(rng: Random) -> Match:
    """A match so narrow that few packets meet an earlier rule first."""
    bits, spot = (32, BASE4) if rng.getrandbits(1) else (128, BASE6)
    size = 1 << rng.choice((0, 0, 4, 8))
    first = (spot ^ rng.getrandbits(22) << 6) & -size
    networks = ((first, first + size - 1),)
    port = rng.getrandbits(16)
    ports = ((port, min(port + rng.choice((0, 0, 1, 300)), 65535)),)
    return Match(
        protocols=TCP_ONLY if rng.getrandbits(1) else None,
        src=Addresses(v4=networks) if bits == 32 else Addresses(v6=networks),
        dport=ports,
        vlan=rng.choice((None, None, ((5, 5),), ((VLAN_NONE, VLAN_NONE),))),
    )


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8193, 20_000])
def test_the_first_match_is_found_in_any_block(size: int) -> None:
    rng = Random(size)
    matches = [narrow(rng) for _ in range(size)]
    # The same match again on the far side of a border: the earlier rule must win.
    for border in range(BLOCK, size - 1, BLOCK):
        matches[border] = matches[border - 1]
    wanted = {0, 63, 64, size - 1, *(rng.randrange(size) for _ in range(30))}
    wanted |= {at + near for at in range(BLOCK, size, BLOCK) for near in (-2, -1, 0, 1)} & set(range(size))
    frames = [Edges(rng).frame(matches[at]) for at in sorted(wanted) for _ in range(3)]
    found = answers(rule_set(*matches), "egress", frames)
    hit = {at // BLOCK for at in found if at is not None}
    assert hit == set(range(-(-size // BLOCK)))


@pytest.mark.parametrize("size", [4095, 4096, 4097, 8193, 16_384])
def test_the_first_wide_rule_is_found_in_any_block(size: int) -> None:
    """Rules without addresses, which the bit vectors find."""
    rng = Random(size)
    ports = rng.sample(range(65536), size)
    for border in range(BLOCK, size - 1, BLOCK):
        ports[border] = ports[border - 1]
    wanted = {0, 63, 64, size - 1, *(rng.randrange(size) for _ in range(30))}
    wanted |= {at + near for at in range(BLOCK, size, BLOCK) for near in (-2, -1, 0, 1)} & set(range(size))
    frames = [from4(at, ports[at]) for at in sorted(wanted)] + [from6(at, ports[at]) for at in sorted(wanted)]
    found = answers(rule_set(*(Match(dport=((port, port),)) for port in ports)), "egress", frames)
    assert {at // BLOCK for at in found if at is not None} == set(range(-(-size // BLOCK)))


# ---- rule sets of one kind ------------------------------------------------------------------------------
def from4(address: int, dport: int = 80) -> bytes:
    return bytes(eth() / ipv4(address) / tcp(dport=dport))


def from6(address: int, dport: int = 80) -> bytes:
    return bytes(eth() / ipv6(address) / tcp(dport=dport))


def network(value: int, length: int, bits: int) -> Intervals:
    size = 1 << bits - length
    return ((value & -size, value | size - 1),)


def source(**families: Intervals) -> Match:
    return Match(src=Addresses(**families))


def test_of_identical_rules_the_first_one_decides() -> None:
    ruleset = rule_set(*[source(v4=network(BASE4, 24, 32))] * (BLOCK + 100))
    assert answers(ruleset, "ingress", [from4(BASE4), from4(BASE4 ^ 1 << 8), from6(BASE6)]) == {0, None}


@pytest.mark.parametrize(("bits", "base"), [(32, BASE4), (128, BASE6)])
def test_nested_prefixes_decide_in_the_order_of_the_rules(bits: int, base: int) -> None:
    name, frame = ("v4", from4) if bits == 32 else ("v6", from6)
    matches = [source(**{name: network(base, length, bits)}) for length in range(bits, -1, -1)]
    # Differs from the base first in bit n from the right: the prefix of n + 1 fewer bits is the first one.
    frames = [frame(base), *(frame(base ^ 1 << bit) for bit in range(bits))]
    assert answers(rule_set(*matches), "ingress", frames) == set(range(bits + 1))
    assert answers(rule_set(*reversed(matches)), "ingress", frames) == {0}


@pytest.mark.parametrize(("bits", "base"), [(32, BASE4), (128, BASE6)])
def test_single_addresses_match_themselves_alone(bits: int, base: int) -> None:
    name, frame = ("v4", from4) if bits == 32 else ("v6", from6)
    top = (1 << bits) - 1
    spots = [0, top, *(base + 2 * step for step in range(300))]
    ruleset = rule_set(*(source(**{name: ((spot, spot),)}) for spot in spots))
    frames = [frame(spot) for spot in spots]
    assert answers(ruleset, "ingress", frames) == set(range(302))
    others = [frame(spot) for spot in (1, top - 1, base - 1, base + 1, base + 599)]
    assert answers(ruleset, "ingress", others) == {None}


def test_addresses_whose_halves_order_differently_are_kept_apart() -> None:
    high, low = 1 << 64, (1 << 64) - 1
    spots = [high, high | low, low, 2 * high, 2 * high | 1]
    ruleset = rule_set(*(source(v6=((spot, spot),)) for spot in spots))
    assert [answers(ruleset, "ingress", [from6(spot)]) for spot in spots] == [{n} for n in range(5)]


CASES = {
    "every IPv4 address": (source(v4=ALL4), [from4(0), from4(ALL4[0][1])], [from6(0), from6(ALL6[0][1])]),
    "every IPv6 address": (source(v6=ALL6), [from6(0), from6(ALL6[0][1])], [from4(0), from4(ALL4[0][1])]),
    "either family": (source(v4=ALL4, v6=ALL6), [from4(1), from6(1)], []),
    "no address at all": (source(), [], [from4(0), from6(0), from4(ALL4[0][1])]),
    "IPv4 only": (Match(ipv6=False), [from4(1)], [from6(1)]),
    "IPv6 only": (Match(ipv4=False), [from6(1)], [from4(1)]),
    "port 0": (Match(dport=((0, 0),)), [from4(1, 0)], [from4(1, 1), from4(1, 65535), from4(1, 256)]),
    "port 65535": (Match(dport=((65535, 65535),)), [from6(1, 65535)], [from4(1, 65534), from4(1, 0)]),
    "every port": (
        Match(dport=((0, 65535),)),
        [from4(1, 0), from4(1, 65535), bytes(eth() / ipv4() / udp())],
        [bytes(eth() / ipv4(proto=1) / bytes(8)), bytes(eth() / ipv4(proto=253) / bytes(8))],
    ),
    "a port that a later fragment seems to have": (
        Match(dport=((80, 80),)),
        [bytes(eth() / ipv4(mf=True) / tcp(dport=80))],
        [bytes(eth() / ipv4(offset=8, proto=6) / bytes(tcp(dport=80)))],
    ),
    "no port": (Match(dport=()), [], [from4(1, 0), from4(1, 65535), bytes(eth() / ipv4() / bytes(8))]),
    "no VLAN": (Match(vlan=()), [], [from4(1), bytes(eth() / vlan(0) / ipv4() / tcp())]),
    "every VLAN": (Match(vlan=((0, 4095),)), [bytes(eth() / vlan(4095) / ipv4() / tcp())], [from4(1)]),
    "untagged": (
        Match(vlan=((VLAN_NONE, VLAN_NONE),)),
        [from4(1)],
        [bytes(eth() / vlan(0) / ipv4() / tcp()), bytes(eth() / vlan(4095) / ipv6() / tcp())],
    ),
    "every flag byte": (
        Match(protocols=TCP_ONLY, tcp_flags=ANY),
        [from4(1), from6(1)],
        [bytes(eth() / ipv4(offset=8, proto=6) / bytes(24)), bytes(eth() / ipv4() / udp())],
    ),
    "no flag byte": (Match(protocols=TCP_ONLY, tcp_flags=frozenset()), [], [from4(1), from6(1)]),
}


@pytest.mark.parametrize("case", CASES)
def test_a_lone_rule_matches_what_it_says(case: str) -> None:
    match, hits, misses = CASES[case]
    for expected, frames in ((0, hits), (None, misses)):
        for frame in frames:
            assert answers(rule_set(match), "ingress", [frame]) == {expected}


# ---- how a search ends ----------------------------------------------------------------------------------
@pytest.mark.parametrize("first", [1, 70])
def test_rules_behind_one_for_everything_never_decide(first: int) -> None:
    """Whatever comes before it, in a list or among the bit vectors."""
    before = [source(v4=((at, at),)) if at % 2 else Match(dport=((at, at),)) for at in range(first)]
    behind = [
        source(v4=ALL4),
        source(v6=ALL6),
        Match(arp=True, ipv4=False, ipv6=False),
        Match(dport=((80, 80),)),
    ]
    frames = [from4(1, 9), from4(0, 80), from6(7, 80), from6(7, 0), from4(9, 68), bytes(eth() / arp())]
    found = answers(rule_set(*before, Match(), *behind), "ingress", frames)
    assert found <= {*range(first), first, first + 3}
    assert found >= {first, first + 3}


def test_the_earliest_of_all_groups_decides_whichever_it_is() -> None:
    """Two rules of different groups for one packet, either one first."""
    here, there = ((BASE4, BASE4),), ((BASE4 + 9, BASE4 + 9),)
    kinds = (
        Match(src=Addresses(v4=here), dst=Addresses(v4=there)),
        Match(src=Addresses(v4=here)),
        Match(dst=Addresses(v4=there)),
        Match(dport=((80, 80),)),
        Match(),
    )
    frame = bytes(eth() / ipv4(BASE4, BASE4 + 9) / tcp(dport=80))
    for order in permutations(kinds, 2):
        assert answers(rule_set(*order), "ingress", [frame]) == {0}


def test_a_long_list_and_its_tail_among_the_bit_vectors_are_one_chain() -> None:
    rules = [source(v4=((BASE4, BASE4),)) for _ in range(200)]
    rules = [replace(match, dport=((at // 2, at // 2),)) for at, match in enumerate(rules)]
    found = answers(rule_set(*rules), "ingress", [from4(BASE4, port) for port in range(110)])
    assert found == {None, *range(0, 200, 2)}


def test_no_rules_match_nothing() -> None:
    assert answers(rule_set(), "ingress", [from4(0), from6(ALL6[0][1])]) == {None}
