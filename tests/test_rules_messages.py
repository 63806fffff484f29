"""What a refusal says of keys that contradict each other or are unknown, and what it leaves unsaid."""

from __future__ import annotations

import pytest
from test_rules_support import file_of, problems, refusal

FAMILIES = [
    ('family: ipv4, src: "::1"', "src '::1' means ipv6, but family 'ipv4' means ipv4; no packet is both"),
    ("family: ipv6, not: {dst: 192.0.2.1}", "not dst '192.0.2.1' means ipv4, but family 'ipv6' means ipv6"),
    ('src: 192.0.2.1, dst: "::1"', "dst '::1' means ipv6, but src '192.0.2.1' means ipv4"),
    ('proto: icmp, src: "::1"', "src '::1' means ipv6, but proto 'icmp' means ipv4"),
    ("proto: icmpv6, family: ipv4", "proto 'icmpv6' means ipv6, but family 'ipv4' means ipv4"),
    ("family: ipv4, not: {family: ipv4}", "not family 'ipv4' means ipv6, but family 'ipv4' means ipv4"),
    ('proto: icmp, dst: ["::1", "::2"]', "dst '::1, ::2' means ipv6, but proto 'icmp' means ipv4"),
    ("not: {proto: icmp}, icmp_type: 1, src: 192.0.2.1", "but not proto 'icmp' means ipv6"),
    (
        'proto: [icmp, tcp], not: {proto: tcp}, src: "::1"',
        "but proto 'icmp, tcp' with not proto 'tcp' means ipv4",
    ),
]


@pytest.mark.parametrize(("conditions", "words"), FAMILIES)
def test_families_that_contradict_each_other_are_told_with_their_values(conditions: str, words: str) -> None:
    assert words in refusal(conditions)


def test_an_unknown_flag_key_is_reported_with_the_nearest_word() -> None:
    found = problems(file_of("{name: a, tcp_flags: {sett: [syn], clear: [ack]}, action: drop}"))
    assert [problem.message for problem in found] == ["unknown key 'sett' in tcp_flags; did you mean 'set'?"]


def test_an_unknown_flag_key_alone_is_not_told_as_flags_that_are_missing() -> None:
    found = problems(file_of("{name: a, tcp_flags: {sett: [syn]}, action: drop}"))
    assert [problem.message for problem in found] == ["unknown key 'sett' in tcp_flags; did you mean 'set'?"]


def test_a_rule_without_name_and_action_is_not_told_by_an_empty_name() -> None:
    assert [problem.message for problem in problems(file_of("{dport: 1}"))] == [
        "a rule has no name; every rule needs a unique one",
        "a rule has no action; allowed: pass, drop, tx, redirect",
    ]


def test_a_long_value_that_contradicts_another_is_cut() -> None:
    many = ", ".join(f'"2001:db8::{at}"' for at in range(1, 1000))
    message = refusal(f"family: ipv4, src: [{many}]")
    assert message.startswith("src '2001:db8::1, 2001:db8::2, ")
    assert message.endswith("...' means ipv6, but family 'ipv4' means ipv4; no packet is both")
    assert len(message) < 200
