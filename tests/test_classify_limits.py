"""What a blob says beside its tables: header, actions, targets; and what does not fit and is refused."""

from __future__ import annotations

from dataclasses import replace

import pytest
import tables

from xdpguard.abi import abi
from xdpguard.classify.compile import build
from xdpguard.classify.tables import Target
from xdpguard.errors import RulesError
from xdpguard.rules.model import Action, Addresses, Hook, Intervals, Match, Redirect, Rule, RuleSet

MAC, OTHER_MAC, OWN_MAC = b"\2\0\0\0\0\7", b"\2\0\0\0\0\x08", b"\2\0\0\0\0\x09"
EMPTY = Hook(Action.PASS)
RULE = Rule("r", Action.DROP, Match(), None, "0" * 32, 1, 1)
UDP4 = abi().numbers["XG_L4_HEADER"] + 17
ARP = tables.Indices(0, 0, 0, 0, 0, 512, 4096)


def redirect(interface: str, mac: bytes | None = None) -> Rule:
    return replace(RULE, action=Action.REDIRECT, redirect=Redirect(interface, mac))


def one_hook(rules: tuple[Rule, ...], direction: str = "ingress") -> RuleSet:
    hook = Hook(Action.PASS, rules)
    return RuleSet("big.yaml", *((hook, EMPTY) if direction == "ingress" else (EMPTY, hook)))


def refusal(ruleset: RuleSet) -> str:
    with pytest.raises(RulesError) as caught:
        build(ruleset)
    return str(caught.value)


# ---- written right --------------------------------------------------------------------------------------
def test_actions_and_targets_are_written_per_rule() -> None:
    rules = (
        RULE,
        redirect("ids0"),
        replace(RULE, action=Action.PASS),
        redirect("ids1", MAC),
        replace(RULE, action=Action.TX),
        redirect("ids1", OTHER_MAC),
        redirect("ids1", MAC),
    )
    known = {"ids0": Target(3, b""), "ids1": Target(1 << 20, OWN_MAC)}
    blob = build(one_hook(rules, "egress"), targets=known).blob.tobytes()
    none = bytes(6)
    assert [tables.action(blob, "egress", number) for number in range(len(rules))] == [
        (1, None),
        (4, tables.Target(3, 0, none, none)),
        (2, None),
        (4, tables.Target(1 << 20, 1, OWN_MAC, MAC)),
        (3, None),
        (4, tables.Target(1 << 20, 1, OWN_MAC, OTHER_MAC)),
        (4, tables.Target(1 << 20, 1, OWN_MAC, MAC)),
    ]


def test_check_needs_no_target_to_exist() -> None:
    blob = build(one_hook((redirect("not-there", MAC),))).blob.tobytes()
    assert tables.action(blob, "ingress", 0) == (4, tables.Target(0, 1, bytes(6), MAC))


def test_the_header_says_what_the_rule_set_says() -> None:
    ruleset = RuleSet(
        "t", Hook(Action.DROP, (RULE,) * 3), Hook(Action.PASS, (RULE,)), Action.PASS, drop_fragments=True
    )
    built = build(ruleset, serial=1 << 40, manifest=b"the names")
    blob, layout, numbers = built.blob.tobytes(), abi(), abi().numbers
    header = {
        name: layout.get(blob, f"xg_blob.{name}") for name in ("magic", "abi_version", "serial", "bytes")
    }
    assert header == {
        "magic": numbers["XG_MAGIC"],
        "abi_version": numbers["XG_ABI_VERSION"],
        "serial": 1 << 40,
        "bytes": len(blob),
    }
    start, length = layout.get(blob, "xg_blob.manifest"), layout.get(blob, "xg_blob.manifest_bytes")
    assert blob[start : start + length] == b"the names"
    for name, rules, default in (("ingress", 3, Action.DROP), ("egress", 1, Action.PASS)):
        base = tables.Reader(blob).hook(name)
        fields = ("rules", "default_action", "malformed_action", "drop_fragments", "zero")
        found = [layout.get(blob, f"xg_hook.{field}", base) for field in fields]
        assert found == [rules, default, Action.PASS, 1, 0]


@pytest.mark.parametrize(("ingress", "egress"), [(0, 0), (3, 1), (1, 3)])
def test_the_counters_of_egress_follow_those_of_ingress(ingress: int, egress: int) -> None:
    ruleset = RuleSet("t", Hook(Action.PASS, (RULE,) * ingress), Hook(Action.PASS, (RULE,) * egress))
    made, base = build(ruleset), abi().numbers["XG_COUNT_RULES"]
    assert made.counters == 2 * base + ingress + egress
    blob = made.blob.tobytes()
    hooks = [tables.Reader(blob).hook(name) for name in ("ingress", "egress")]
    firsts = [abi().get(blob, "xg_hook.first_counter", hook) for hook in hooks]
    assert firsts == [0, base + ingress]


def test_the_blob_is_a_whole_number_of_words() -> None:
    assert {len(build(one_hook((RULE,)), manifest=bytes(size)).blob) % 8 for size in range(8)} == {0}


# ---- refused --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("direction", ["ingress", "egress"])
def test_more_rules_than_there_are_counters_for_are_refused(direction: str) -> None:
    message = refusal(one_hook((RULE,) * 131_009, direction))
    assert message == f"big.yaml: error: 131009 {direction} rules; at most 131008 a direction are allowed"


def test_the_last_of_the_most_rules_is_found() -> None:
    other = replace(RULE, match=Match(arp=True, ipv4=False, ipv6=False))
    blob = build(one_hook((RULE,) * 131_007 + (other,))).blob.tobytes()
    assert tables.first_match(blob, "ingress", ARP) == 131_007


def wide(port: int) -> Rule:
    """Found by bit vectors alone: it names no address."""
    return replace(RULE, name=f"p{port}", match=Match(dport=((port, port),)), line=port + 10)


def test_more_wide_rules_than_there_are_bits_for_are_refused_by_name() -> None:
    message = refusal(one_hook(tuple(wide(port) for port in range(16_385))))
    assert message == (
        "big.yaml: error: 16385 rules are too broad, or too many at one address, to be found fast, "
        "p0 (line 10), p1 (line 11), p2 (line 12) ...; at most 16384 such rules are allowed "
        "(name addresses, or gather ports in lists)"
    )


def test_the_last_of_the_most_wide_rules_is_found() -> None:
    blob = build(one_hook(tuple(wide(port) for port in range(16_384)))).blob.tobytes()
    for port, rule in ((0, 0), (4095, 4095), (4096, 4096), (16_383, 16_383), (16_384, None)):
        packet = tables.Indices(4, 0, 0, 1, port, UDP4, 4096)
        assert tables.first_match(blob, "ingress", packet) == rule


def crossing(count: int) -> tuple[Rule, ...]:
    """Ranges of sources, each crossing the others, that all ports of a list are for: broad on both sides."""
    return tuple(
        replace(RULE, name=f"c{at}", match=Match(src=Addresses(((at * 8, (1 << 31) + at * 8),))), line=at + 1)
        for at in range(count)
    )


def test_addresses_that_overlap_in_too_many_ways_are_refused_by_name() -> None:
    message = refusal(one_hook(crossing(9000)))
    assert message == (
        "big.yaml: error: 9000 rules have broad addresses that divide those of one side into 18000 parts, "
        "c0 (line 1), c1 (line 2), c2 (line 3) ...; at most 16383 are allowed "
        "(use fewer ranges, or ones that nest)"
    )


def test_addresses_that_overlap_in_nearly_too_many_ways_are_told_apart() -> None:
    blob = build(one_hook(crossing(4000))).blob.tobytes()
    for address, rule in (
        (0, 0),
        (7, 0),
        ((1 << 31) + 1, 1),
        ((1 << 31) + 31_992, 3999),
        ((1 << 31) + 31_993, None),
    ):
        assert tables.first_match(blob, "ingress", tables.Indices(4, address, 9, 1, 1, UDP4, 4096)) == rule


def test_more_redirect_targets_than_an_index_can_name_are_refused() -> None:
    message = refusal(one_hook(tuple(redirect(f"ids{number}") for number in range(300))))
    assert message == "big.yaml: error: 300 distinct redirect targets; at most 256 are allowed"


def test_the_last_of_the_most_redirect_targets_is_found() -> None:
    rules = tuple(redirect(f"ids{number}") for number in range(256))
    known = {f"ids{number}": Target(number + 1, b"") for number in range(256)}
    blob = build(one_hook(rules), targets=known).blob.tobytes()
    assert tables.action(blob, "ingress", 255) == (4, tables.Target(256, 0, bytes(6), bytes(6)))


def with_bit(bit: int, top: int) -> Intervals:
    """The values from 0 to ``top`` - 1 that have this bit set."""
    size = 1 << bit
    return tuple((first, first + size - 1) for first in range(size, top, 2 * size))


def ports_apart(count: int, *names: str) -> tuple[Rule, ...]:
    """Rules that put every port of 0 to 2^count - 1 into a class of its own."""
    sets = [with_bit(bit, 1 << count) for bit in range(count)]
    return tuple(replace(RULE, match=Match(**{name: ports for name in names})) for ports in sets)  # type: ignore[arg-type]


def test_every_port_may_have_a_class_of_its_own() -> None:
    blob = build(one_hook(ports_apart(16, "dport"))).blob.tobytes()
    for port, rule in ((0, None), (1, 0), (2, 1), (0x8000, 15), (0xC000, 14), (65535, 0)):
        packet = tables.Indices(4, 0, 0, 1, port, UDP4, 4096)
        assert tables.first_match(blob, "ingress", packet) == rule


def test_tables_over_64_mib_are_refused() -> None:
    message = refusal(one_hook(ports_apart(16, "sport", "dport")))
    assert message == "big.yaml: error: the tables need more than 64 MiB; use fewer or broader rules"
