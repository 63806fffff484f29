"""What the shipped programs remember of flows: a right answer, and only for the flow that it is of."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

import pytest
import tables
from deciders import HOOKS, NUMBERS, Deciders, chain, expected
from oracle import read
from packets import eth, ipv4, ipv6, sctp, tcp, udp, vlan
from test_verdicts_support import one_cpu

from xdpguard.rules.model import VLAN_NONE, Addresses, Match

__all__ = ["one_cpu"]  # a fixture
LINES = NUMBERS["XG_FLOW_LINES"]
FLOW_HASH = 0x9E3779B97F4A7C15  # XG_GOLDEN of hash.h
BASE4, BASE6 = 0x0A000000, 0x20010DB8 << 96
EVEN4 = tuple((BASE4 + at, BASE4 + at) for at in range(0, 64, 2))
EVEN6 = tuple((BASE6 + at, BASE6 + at) for at in range(0, 64, 2))
# What spoilt tables say of every packet; no frame of these tests matches it.
NEVER = Match(arp=True, ipv4=False, ipv6=False, vlan=((9, 9),))
RULES = chain(
    NEVER,
    Match(dst=Addresses(EVEN4, EVEN6)),
    Match(dport=((80, 80),)),
    Match(sport=((0, 32767),)),
    Match(tcp_flags=frozenset(range(0, 256, 2))),
    Match(vlan=((5, 5),)),
)


@pytest.fixture
def deciders() -> Iterator[Deciders]:
    made = Deciders(RULES)
    yield made
    made.close()


def flow(family: int, number: int) -> bytes:
    """A flow of its own for every number; neighbours differ in one field alone."""
    port, kind, host = 30000 + number % 7 * 1000, (number // 7) % 3, number // 21
    upper = (tcp(port, 80 + number % 2, number % 4), udp(port, 81), sctp(port, 82))[kind]
    ip = ipv4(BASE4 + 99, BASE4 + host) if family == 4 else ipv6(BASE6 + 99, BASE6 + host)
    head = eth() / vlan(5) if number % 11 == 0 else eth()
    return bytes(head / ip / upper).ljust(64, b"\0")


def rest_of(frame: bytes) -> int:
    """What a flow is beside its addresses, as flows.h packs it."""
    found = tables.indices(read(frame))
    assert found is not None
    return found.sport | found.dport << 16 | found.l4 << 32 | found.vlan << 48 | 1 << 63


def lines_of(frame: bytes) -> tuple[int, int]:
    """The line that a packet's flow falls on, as flow_hash() says; and the second one, of IPv6."""
    packet, rest, whole = read(frame), rest_of(frame), (1 << 64) - 1
    if packet.version == 4:
        mixed = packet.src | packet.dst << 32
    else:
        (src_high, src_low), (dst_high, dst_low) = (
            divmod(each, 1 << 64) for each in (packet.src, packet.dst)
        )
        turned = (dst_high << 32 | dst_high >> 32) & whole
        mixed = ((src_high ^ dst_low) * FLOW_HASH + (src_low ^ turned)) & whole
    mixed ^= (rest << 13 | rest >> 51) & whole
    mixed, shift = mixed * FLOW_HASH & whole, NUMBERS["XG_FLOW_SHIFT"]
    return mixed >> shift, mixed >> 2 * shift - 64 & LINES - 1


def line_of(frame: bytes) -> int:
    return lines_of(frame)[0]


def on_one_line(family: int, line: int, count: int) -> list[bytes]:
    """Flows that share a line."""
    found = [frame for number in range(60 * LINES) if line_of(frame := port_flow(family, number)) == line]
    assert len(found) >= count
    return found[:count]


def port_flow(family: int, number: int) -> bytes:
    ip = ipv4(BASE4 + 99, BASE4 + 1) if family == 4 else ipv6(BASE6 + 99, BASE6 + 1)
    return bytes(eth() / ip / udp(1 + number % 60000, 80 + number % 2)).ljust(64, b"\0")


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("family", [4, 6])
def test_a_flow_is_answered_from_memory_until_the_slot_gets_other_rules(
    deciders: Deciders, hook: str, family: int
) -> None:
    frames = [flow(family, number) for number in range(0, 2000, 97)]
    rules = expected(RULES, frames)
    assert len(set(rules)) >= 4
    assert deciders.rules(hook, frames, rules) == []
    deciders.poison(hook, 0)
    again, fresh = [], flow(family, 5000)
    for frame, decided in zip(frames, rules, strict=True):
        again.append(deciders.rules(hook, [frame], [decided]) == [])
    assert sum(again) >= len(frames) - 4  # of IPv6 two flows may share a line
    assert deciders.rules(hook, [fresh], [0]) == []
    deciders.use(RULES)
    assert deciders.rules(hook, frames, rules) == []
    other = chain(NEVER, Match(dport=((0, 65535),)))
    deciders.use(other)
    assert deciders.rules(hook, frames, expected(other, frames)) == []


def test_each_hook_has_flows_of_its_own(deciders: Deciders) -> None:
    frame = flow(4, 1)
    decided = expected(RULES, [frame])
    assert deciders.rules("ingress", [frame], decided) == []
    deciders.poison("egress", 0)
    assert deciders.rules("egress", [frame], [0]) == []
    assert deciders.rules("ingress", [frame], decided) == []


@pytest.mark.parametrize("hook", HOOKS)
def test_more_flows_than_there_is_room_for_are_all_decided_right(deciders: Deciders, hook: str) -> None:
    frames = [flow(family, number) for number in range(4 * LINES) for family in (4, 6)]
    rules = expected(RULES, frames)
    assert len(set(rules)) >= 5
    for order in (frames, frames[::-1]):
        wanted = rules if order is frames else rules[::-1]
        assert deciders.rules(hook, order, wanted) == []


def test_three_flows_of_ipv4_share_a_line_and_the_oldest_makes_room(deciders: Deciders) -> None:
    frames = on_one_line(4, 77, 4)
    rules = expected(RULES, frames)
    assert deciders.rules("ingress", frames, rules) == []
    deciders.poison("ingress", 0)
    assert deciders.rules("ingress", frames[1:], rules[1:]) == []
    assert deciders.rules("ingress", frames[:1], [0]) == []


def test_flows_of_ipv6_with_one_line_find_places_in_their_other_lines(deciders: Deciders) -> None:
    frames = on_one_line(6, 99, 5)
    assert len({lines_of(frame)[1] for frame in frames} | {99}) == len(frames) + 1
    rules = expected(RULES, frames)
    for _ in range(12):
        assert deciders.rules("ingress", frames, rules) == []
    deciders.poison("ingress", 0)
    assert deciders.rules("ingress", frames, rules) == []


@pytest.mark.parametrize("family", [4, 6])
def test_a_few_hundred_flows_in_turn_are_all_remembered_soon(deciders: Deciders, family: int) -> None:
    """Nearly all: addresses are drawn, and so are their lines."""
    ip, bits, rng = (ipv4, 32, Random(2)) if family == 4 else (ipv6, 128, Random(2))
    ends = [(rng.getrandbits(bits), rng.getrandbits(bits)) for _ in range(256)]
    frames = [bytes(eth() / ip(*each) / udp(7, 7)).ljust(64, bytes(1)) for each in ends]
    rules = expected(RULES, frames)
    for _ in range(20):
        assert deciders.rules("ingress", frames, rules) == []
    deciders.poison("ingress", 0)
    assert len(deciders.rules("ingress", frames, rules)) <= 2


def test_flows_of_both_families_may_take_a_line_from_each_other(deciders: Deciders) -> None:
    four, six = on_one_line(4, 300, 4), on_one_line(6, 300, 2)
    order = [
        four[0],
        six[0],
        four[0],
        four[1],
        four[2],
        six[1],
        six[0],
        four[3],
        four[0],
        six[0],
        *four,
        *six,
    ]
    frames = order * 3
    assert deciders.rules("ingress", frames, expected(RULES, frames)) == []
    # An IPv4 flow behind one of IPv6 remembers itself alone.
    deciders.use(RULES)
    first = [six[0], four[0]]
    assert deciders.rules("ingress", first, expected(RULES, first)) == []
    deciders.poison("ingress", 0)
    assert deciders.rules("ingress", [four[0], four[1], six[0]], [*expected(RULES, [four[0]]), 0, 0]) == []


def test_a_flow_of_ipv6_cannot_pose_as_one_of_ipv4(deciders: Deciders) -> None:
    """Not even if its addresses are what the line of an IPv4 flow would hold."""
    posed, other = on_one_line(4, 123, 2)
    packet = read(posed)
    ends = packet.src | packet.dst << 32
    rest = rest_of(posed)
    for low in range(60 * LINES):
        forged = bytes(eth() / ipv6(ends << 64 | low, BASE6 >> 64 << 64 | rest) / udp(7, 7)).ljust(64, b"\0")
        if line_of(forged) == 123:
            break
    frames = [forged, other, posed, forged, posed]
    assert deciders.rules("ingress", frames, expected(RULES, frames)) == []


@pytest.mark.parametrize("family", [4, 6])
def test_flows_that_differ_in_one_field_are_different_flows(deciders: Deciders, family: int) -> None:
    """Each is remembered, then the tables are spoilt: any field more that is looked at would show."""
    ip = ipv4 if family == 4 else ipv6
    base = BASE4 if family == 4 else BASE6
    bits = 32 if family == 4 else 128
    first = (base + 3, base + 5, 40000, 81, 1, VLAN_NONE)

    def frame(src: int, dst: int, sport: int, dport: int, flags: int, vid: int) -> bytes:
        head = eth() if vid == VLAN_NONE else eth() / vlan(vid)
        return bytes(head / ip(src, dst) / tcp(sport, dport, flags)).ljust(64, b"\0")

    others = [frame(base + 3 ^ 1 << bit, *first[1:]) for bit in range(0, bits, 5)]
    others += [frame(first[0], base + 5 ^ 1 << bit, *first[2:]) for bit in range(0, bits, 5)]
    others += [frame(*first[:2], 40000 ^ 1 << bit, *first[3:]) for bit in range(16)]
    others += [frame(*first[:3], 81 ^ 1 << bit, *first[4:]) for bit in range(16)]
    others += [frame(*first[:4], 1 ^ 1 << bit, first[5]) for bit in range(8)]
    others += [frame(*first[:5], vid) for vid in (0, 1, 4095)]
    known = frame(*first)
    for other in others:  # each anew: some fall on the line of the known one, and would push it out
        deciders.use(RULES)
        assert deciders.rules("ingress", [known], expected(RULES, [known])) == []
        deciders.poison("ingress", 0)
        assert deciders.rules("ingress", [other, known], [0, *expected(RULES, [known])]) == []


@pytest.mark.parametrize(
    ("family", "end", "first_bit"),
    [(4, 0, 0), (4, 1, 0), *((6, end, bit) for end in (0, 1) for bit in (0, 64))],
)
def test_flows_of_one_line_that_differ_in_one_address_are_different_flows(
    deciders: Deciders, family: int, end: int, first_bit: int
) -> None:
    """Of an IPv6 address in one half of it. The known one is remembered, then the tables are spoilt."""
    ip, base = (ipv4, BASE4) if family == 4 else (ipv6, BASE6)

    def frame(number: int) -> bytes:
        ends = [base + 3, base + 5]
        ends[end] ^= number << first_bit
        return bytes(eth() / ip(*ends) / tcp(40000, 81)).ljust(64, b"\0")

    known = frame(0)
    other = next(each for number in range(1, 60 * LINES) if line_of(each := frame(number)) == line_of(known))
    deciders.use(RULES)
    assert deciders.rules("ingress", [known], expected(RULES, [known])) == []
    deciders.poison("ingress", 0)
    assert deciders.rules("ingress", [known, other], [*expected(RULES, [known]), 0]) == []


def test_flows_to_hosts_of_many_networks_are_spread_over_the_lines() -> None:
    """Whichever bits of an address differ."""
    for bit in range(0, 24, 4):
        frames = [bytes(eth() / ipv4(BASE4, number << bit & 0xFFFFFFFF) / udp(7, 7)) for number in range(256)]
        assert len({line_of(one.ljust(64, b"\0")) for one in frames}) > 128


def test_every_field_of_a_flow_counts_where_lines_are_shared(deciders: Deciders) -> None:
    """Flows of one line that differ in ports, protocol and address: in turn, each has its own answer."""
    numbers = [number for number in range(40 * LINES) if line_of(flow(4, number)) == 5][:12]
    frames = [flow(4, number) for number in numbers] * 3
    rules = expected(RULES, frames)
    assert len(set(rules)) >= 3
    assert deciders.rules("egress", frames, rules) == []
