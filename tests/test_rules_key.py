"""The key of a rule: equal for equal meaning, different for everything else."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import pytest
from test_rules_support import file_of, rule, ruleset

from xdpguard.rules import key as key_module

HEAD = 'sets: {net: [192.0.2.0/24, "2001:db8::/32"], web: [80, 443]}'

SAME = [
    ("proto: tcp", "proto: 6"),
    ("proto: icmp", "proto: icmp, family: ipv4"),
    ("proto: [tcp, udp]", "proto: [17, 6, udp]"),
    ("src: 192.0.2.1", "src: 192.0.2.1/32"),
    ("src: 192.0.2.1", "src: [192.0.2.1-192.0.2.1]"),
    ("src: 10.0.0.1/8", "src: 10.0.0.0/8"),
    ("src: 0.0.0.0/0", "family: ipv4"),
    ("not: {family: ipv4}", "family: ipv6"),
    ('src: "::ffff:0:0"', 'src: "::ffff:0.0.0.0"'),
    ('src: "@net"', 'src: ["2001:db8::/32", 192.0.2.0/25, 192.0.2.128/25]'),
    ('dport: "@web"', "dport: [443, 80]"),
    ("dport: 80", "proto: [tcp, udp, sctp], dport: 80"),
    ("dport: [1, 2, 3]", "dport: 1-3"),
    ("not: {dport: 80}", "dport: [0-79, 81-65535]"),
    ("proto: icmp, icmp_type: echo-request", "family: ipv4, icmp_type: 8"),
    ("proto: icmpv6, icmp_type: neighbour-solicitation", "proto: icmpv6, icmp_type: 135"),
    ("tcp_flags: {set: [syn, ack]}", "proto: tcp, tcp_flags: {set: [ack, syn]}"),
    ("vlan: none, comment: a", "vlan: none, comment: b"),
    ("vlan: [0-4095, none]", ""),
]


@pytest.mark.parametrize(("left", "right"), SAME)
def test_equal_meaning_gives_equal_keys(left: str, right: str) -> None:
    assert rule(left, HEAD).key == rule(right, HEAD).key


DIFFERENT = [
    "", "family: ipv4", "family: ipv6", "proto: tcp", "proto: udp", "proto: arp", "proto: [arp, tcp]",
    "src: 192.0.2.1", "dst: 192.0.2.1", 'src: "::c000:201"', "sport: 80", "dport: 80", "dport: 0-65535",
    "dport: 80, proto: tcp", "tcp_flags: {set: [syn]}", "tcp_flags: {clear: [syn]}", "vlan: none", "vlan: 0",
    "proto: icmp, icmp_type: 8", "proto: icmp, icmp_code: 8", "proto: icmpv6, icmp_type: 8",
    "not: {proto: tcp}", "not: {vlan: 0}", "proto: icmp", "not: {proto: icmp}",
]  # fmt: skip


def test_different_meanings_have_different_keys() -> None:
    assert len({rule(conditions).key for conditions in DIFFERENT}) == len(DIFFERENT)


def test_hook_name_action_and_target_are_part_of_the_key() -> None:
    actions = ["drop", "pass", "tx", "{redirect: {interface: a}}", "{redirect: {interface: b}}",
               "{redirect: {interface: a, dst_mac: 02:00:00:00:00:02}}",
               "{redirect: {interface: a, dst_mac: 02:00:00:00:00:03}}"]  # fmt: skip
    keys = {rule("dport: 1", action=action).key for action in actions}
    assert len(keys) == len(actions)
    named = ruleset(file_of("{name: a, action: drop}", "{name: b, action: drop}")).ingress.rules
    (leaving,) = ruleset("version: 1\negress: [{name: a, action: drop}]").egress.rules
    assert len({named[0].key, named[1].key, leaving.key}) == 3


def long_list(first: int) -> str:
    return ", ".join(str(port) for port in range(first, 65536, 2))


def test_long_lists_of_equal_meaning_give_equal_keys_and_others_do_not() -> None:
    odd, even = (f"sets: {{p: [{long_list(first)}]}}" for first in (1, 0))
    as_set = rule('dport: "@p"', odd).key
    assert rule(f"dport: [{long_list(1)}]").key == as_set
    assert rule('not: {dport: "@p"}', even).key == as_set
    assert rule('dport: "@p"', even).key != as_set
    assert rule('sport: "@p"', odd).key != as_set


def test_a_list_that_many_rules_share_is_hashed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[int] = []
    real = hashlib.blake2s

    def counted(data: bytes, *, digest_size: int = 32) -> object:
        hashed.append(len(data))
        return real(data, digest_size=digest_size)

    monkeypatch.setattr(key_module, "hashlib", SimpleNamespace(blake2s=counted))
    rules = [f'{{name: r{at}, src: 10.0.0.{at}, dport: "@p", action: drop}}' for at in range(20)]
    keys = {
        each.key for each in ruleset(file_of(*rules, head=f"sets: {{p: [{long_list(0)}]}}")).ingress.rules
    }
    assert len(keys) == 20
    assert sum(size > 2048 for size in hashed) == 1


def test_a_key_is_32_hex_digits_and_does_not_change_between_versions() -> None:
    conditions = 'src: "@net", dport: [22, 80-90], tcp_flags: {set: [syn]}, vlan: 5'
    text = file_of(f"{{name: k, {conditions}, action: drop}}", head=HEAD)
    assert ruleset(text).ingress.rules[0].key == "8aa157a0f0b91e3f78b45c337ddd4ccd"
