"""Warnings about rules that can never match: what is found, and that no alarm is false."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from oracle import Packet, matches
from test_rules_support import file_of, ruleset

from xdpguard.errors import RulesError
from xdpguard.rules import lint as lint_module
from xdpguard.rules.lint import lint
from xdpguard.rules.model import VLAN_NONE
from xdpguard.rules.parse import load_file


def warnings(*conditions: str, head: str = "") -> list[str]:
    rules = [
        f"{{name: r{i}, {text + ', ' if text else ''}action: drop}}" for i, text in enumerate(conditions)
    ]
    return [str(problem) for problem in lint(ruleset(file_of(*rules, head=head)))]


COVERED = [
    ("", "dport: 80"),
    ("", ""),
    ("family: ipv4", "src: 192.0.2.1"),
    ("proto: tcp", "tcp_flags: {set: [syn]}"),
    ("src: 192.0.2.0/24", "src: 192.0.2.7, dport: 80"),
    ("src: [192.0.2.0/24, 2001:db8::/32]", "src: 2001:db8::1"),
    ('src: [0.0.0.0/0, "::/1"]', "family: ipv4, dport: 1"),
    ("dst: 192.0.2.0-192.0.2.9", "dst: [192.0.2.1, 192.0.2.9]"),
    ("dport: 80", "dport: 80, proto: udp"),
    ("dport: 0-1023", "dport: [22, 80]"),
    ("not: {dport: 80}", "dport: 81"),
    ("sport: 1-9", "sport: 3, dport: 3"),
    ("tcp_flags: {set: [syn]}", "tcp_flags: {set: [syn], clear: [ack]}"),
    ("proto: icmp, icmp_type: 0-9", "proto: icmp, icmp_type: 8, icmp_code: 0"),
    ("proto: icmp, icmp_code: 0-9", "proto: icmp, icmp_code: 8"),
    ("vlan: 0-99", "vlan: 5, dport: 1"),
    ("proto: arp", "proto: arp"),
    ("proto: [arp, tcp]", "proto: arp"),
    ("not: {proto: icmp}", "proto: tcp"),
]


@pytest.mark.parametrize(("first", "second"), COVERED)
def test_a_covered_rule_is_found_with_both_lines(first: str, second: str) -> None:
    found = warnings(first, second)
    words = "warning: rule 'r1' can never match: rule 'r0' in line 4 takes all its packets"
    assert found == [f"f.yaml:5:3: {words}"]


def test_long_lists_are_compared_as_long_as_patience_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(first: int) -> str:
        return f"dport: [{', '.join(str(port) for port in range(first, 200, 2))}]"

    assert len(warnings(odd(1), odd(3), odd(5))) == 2
    monkeypatch.setattr(lint_module, "PATIENCE", 100)
    assert len(warnings(odd(1), odd(3), odd(5))) == 1


NOT_COVERED = [
    ("proto: tcp", ""),
    ("", "proto: arp"),
    ("dport: 0-65535", ""),
    ("dport: 0-65535", "proto: tcp"),
    ("not: {proto: icmp}", "proto: [icmp, tcp]"),
    ("src: 192.0.2.0/25", "src: 192.0.2.0/24"),
    ("src: 192.0.2.0/24", "src: [192.0.2.1, 2001:db8::1]"),
    ("vlan: 5", "dport: 1"),
    ("vlan: 5", "vlan: 5, proto: arp"),  # a rule without proto matches IP only
    ("proto: icmp, icmp_type: 8", "proto: icmpv6, icmp_type: 8"),
    ("family: ipv4", "dport: 80"),
    ("sport: 80", "dport: 80"),
    ("src: 192.0.2.1", "dst: 192.0.2.1"),
]


@pytest.mark.parametrize(("first", "second"), NOT_COVERED)
def test_a_rule_that_can_match_gets_no_warning(first: str, second: str) -> None:
    assert warnings(first, second) == []


NOTHING = [
    "dport: 80, not: {dport: 0-99}",
    "src: 192.0.2.1, not: {src: 192.0.2.0/24}",
    "not: {dst: 0.0.0.0/0}",
    "vlan: 5, not: {vlan: 5}",
    "vlan: none, not: {vlan: 5}",
    "proto: arp, vlan: 5, not: {vlan: 5}",
    "proto: icmp, icmp_type: 8, not: {icmp_type: echo-request}",
    "proto: icmp, not: {icmp_code: 0-255}",
    "tcp_flags: {set: [syn, ack]}, not: {tcp_flags: {set: [syn]}}",
]


@pytest.mark.parametrize("conditions", NOTHING)
def test_a_rule_that_matches_nothing_is_found(conditions: str) -> None:
    assert warnings(conditions) == [
        "f.yaml:4:3: warning: rule 'r0' can never match: no packet meets all its conditions"
    ]


def test_a_rule_that_matches_nothing_covers_nothing() -> None:
    assert len(warnings("dport: 80, not: {dport: 80}", "dport: 80, not: {dport: 80}, vlan: 5")) == 2


def test_two_rules_that_only_together_cover_a_third_are_not_named() -> None:
    assert warnings("dport: 0-9", "dport: 10-19", "dport: 5-15") == []


def test_the_hooks_do_not_cover_each_other() -> None:
    text = file_of("{name: a, action: drop}") + "egress: [{name: b, action: drop}]"
    assert lint(ruleset(text)) == []


def test_a_covering_rule_is_found_among_many_others() -> None:
    rules = [f"src: 10.{i // 256}.{i % 256}.0/24, dport: {i}" for i in range(2000)]
    found = warnings(*rules, "src: 10.3.7.9, dport: 775, proto: tcp")
    assert found == [
        "f.yaml:2004:3: warning: rule 'r2000' can never match: rule 'r775' in line 779 takes all its packets"
    ]


def test_equal_big_sets_are_compared_by_identity() -> None:
    entries = ", ".join(f"10.{i // 256}.{i % 256}.1" for i in range(3000))
    found = warnings('src: "@big"', 'src: "@big", dport: 80', head=f"sets: {{big: [{entries}]}}")
    assert len(found) == 1


def test_load_file_appends_the_findings_to_the_notes(tmp_path: Path) -> None:
    path = tmp_path / "r.yaml"
    path.write_text(
        "version: 1\nsets: {a: [80]}\ningress: [{name: a, action: drop}, {name: b, action: drop}]\n"
    )
    path.chmod(0o644)
    assert [note.split(": ", 1)[1].split(" ")[0] for note in load_file(path).notes] == [
        "warning:",
        "warning:",
    ]
    assert "set 'a' is never used" in load_file(path).notes[0]
    assert "rule 'b' can never match" in load_file(path).notes[1]


# ---- no false alarm: every packet of a small world is tried on the named rules

CONDITIONS = {
    "family": ["ipv4", "ipv6"],
    "proto": ["tcp", "[tcp, udp]", "icmp", "[arp, udp]", "0-255", "[icmp, icmpv6]"],
    "src": ["0.0.0.0", "0.0.0.0/0", '"::/0"', '[0.0.0.0/1, "::"]', '"::-::1"', '[0.0.0.0/0, "::"]'],
    "dport": ["0", "0-1", "0-65535", "[0, 2-65535]"],
    "tcp_flags": ["{set: [fin]}", "{clear: [fin]}", "{set: [fin, syn]}"],
    "vlan": ["0", "none", "0-4095", "[none, 0]"],
    "not": ["{src: 0.0.0.0}", "{dport: 1}", "{vlan: none}", "{proto: tcp}", "{tcp_flags: {set: [fin]}}",
            "{family: ipv4}"],
}  # fmt: skip
SMALL_RULE = st.fixed_dictionaries(
    {}, optional={key: st.sampled_from(texts) for key, texts in CONDITIONS.items()}
)


def world() -> list[Packet]:
    """Every packet the conditions above can tell apart."""
    packets = [Packet("arp", vlan=vlan) for vlan in (0, 1, VLAN_NONE)]
    sources = {4: (0, 1, 2**32 - 1), 6: (0, 1, 2**128 - 1)}
    for version, number, vlan in product((4, 6), (0, 1, 6, 17, 58), (0, 1, VLAN_NONE)):
        fields: list[tuple[int | None, int | None]] = [(None, None)]
        if number in (6, 17):
            fields += [
                (port, flags) for port in (0, 1, 2) for flags in ((0, 1, 3) if number == 6 else (None,))
            ]
        for src, (port, flags) in product(sources[version], fields):
            packets.append(Packet("", vlan, version, number, src, dport=port, tcp_flags=flags))
    return packets


WORLD = world()


@given(st.lists(SMALL_RULE, min_size=1, max_size=4))
def test_a_named_rule_really_never_matches_first(rules: list[dict[str, str]]) -> None:
    good: list[str] = []
    for keys in rules:
        text = "".join(f"{key}: {value}, " for key, value in keys.items())
        try:
            ruleset(file_of(f"{{name: x, {text}action: drop}}"))
        except RulesError:  # a contradiction: the parser refuses it, tested elsewhere
            continue
        good.append(f"{{name: r{len(good)}, {text}action: drop}}")
    found = ruleset(file_of(*good) if good else "version: 1")
    lines = {problem.line for problem in lint(found)}
    for packet in WORLD:
        for rule in found.ingress.rules:
            if matches(rule.match, packet):
                assert rule.line not in lines, (rule, packet)
                break
