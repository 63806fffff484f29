"""Every key of a rule and every action: one rule, the frames that it takes, those that it leaves.

The tables say what they cover; tests/test_complete.py compares them with the closed lists of the rule
language and holds them against the oracle. Here the shipped programs decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab
import pytest
from packets import Packet, arp, eth, icmp, icmpv6, ipv4, ipv6, raw, sctp, tcp, udp, vlan
from test_verdicts_support import HOOKS, Judge, one_cpu

from xdpguard.rules.model import Action, RuleSet
from xdpguard.rules.parse import parse

__all__ = ["one_cpu"]  # a fixture


class Case(NamedTuple):
    """A rule with ``rest`` and ``key``: ``value`` decides ``hit``, and leaves ``miss`` and ``absent`` to the
    default. Without the key it would decide ``miss`` as well. ``absent``: a frame that has no such field.
    """

    key: str
    rest: str
    value: str
    hit: Packet
    miss: Packet
    absent: Packet | None = None

    def text(self, *, with_key: bool = True) -> str:
        """The rule file; the same rule at both hooks."""
        parts = [self.rest, f"{self.key}: {self.value}"] if with_key else [self.rest]
        return rule_file(", ".join(part for part in parts if part))

    def __str__(self) -> str:
        return f"{self.key}: {self.value}"


def rule_file(conditions: str, action: str = "drop", default: str = "pass") -> str:
    comma = ", " if conditions else ""
    return (
        f"version: 1\ndefault: {{ingress: {default}, egress: {default}}}\n"
        'sets: {office: [198.51.100.0/24, "2001:db8:51::/48"], high: [1024-65535]}\n'
        f"ingress: [{{name: ingress-rule, {conditions}{comma}action: {action}}}]\n"
        f"egress: [{{name: egress-rule, {conditions}{comma}action: {action}}}]\n"
    )


def rule_set(text: str) -> RuleSet:
    return parse(text.encode(), "case.yaml", Path("/nonexistent"))


def v4(source: str = "198.51.100.7", target: str = "192.0.2.1") -> Packet:
    return eth() / ipv4(source, target) / udp()


def v6(source: str = "2001:db8:51::7", target: str = "2001:db8::1") -> Packet:
    return eth() / ipv6(source, target) / udp()


FOUR, SIX = eth() / ipv4(), eth() / ipv6()
OFFICE = '"@office"'
KEYS = (
    Case("family", "", "ipv4", v4(), v6()),
    Case("family", "", "ipv6", v6(), v4()),
    Case("proto", "", "tcp", FOUR / tcp(), FOUR / udp()),
    Case("proto", "", "tcp", SIX / tcp(), SIX / udp()),
    Case("proto", "", "[sctp, 253]", SIX / raw(b"", 253), FOUR / raw(b"", 254)),
    Case("proto", "", "253-255", FOUR / raw(b"", 255), FOUR / raw(b"", 252)),
    Case("proto", "", "icmp", FOUR / icmp(), SIX / icmpv6()),
    Case("proto", "", "icmpv6", SIX / icmpv6(), FOUR / icmp()),
    Case("proto", "", "arp", eth() / arp(), FOUR / tcp()),
    Case("src", "", "198.51.100.7", v4(), v4("198.51.100.8")),
    Case("src", "", "198.51.100.0/24", v4("198.51.100.255"), v4("198.51.101.0")),
    Case("src", "", '"2001:db8:51::/48"', v6("2001:db8:51:ffff::"), v6("2001:db8:52::")),
    Case("src", "", OFFICE, v4("198.51.100.0"), v4("198.51.99.255")),
    Case("src", "", OFFICE, v6("2001:db8:51::"), v6("2001:db8:50:ffff::")),
    Case("dst", "", "192.0.2.1-192.0.2.9", v4(target="192.0.2.9"), v4(target="192.0.2.10")),
    Case("dst", "", '["2001:db8::1", 192.0.2.1]', v6(), v6(target="2001:db8::2")),
    Case("sport", "", "0", FOUR / udp(0), FOUR / udp(1), FOUR / icmp()),
    Case("sport", "proto: udp", '["@high", 53]', SIX / udp(53), SIX / udp(1023)),
    Case("dport", "proto: tcp", "22", FOUR / tcp(dport=22), FOUR / tcp(dport=23)),
    Case("dport", "", "[23, 2000-2005]", SIX / sctp(dport=2005), SIX / sctp(dport=2006), SIX / icmpv6()),
    Case("tcp_flags", "proto: tcp", "{set: [syn]}", FOUR / tcp(flags="SA"), FOUR / tcp(flags="A")),
    Case("tcp_flags", "proto: tcp", "{clear: [ack]}", SIX / tcp(flags="S"), SIX / tcp(flags="SA")),
    Case("icmp_type", "proto: icmp", "echo-request", FOUR / icmp(8), FOUR / icmp(0)),
    Case("icmp_type", "proto: icmpv6", "[128, 129]", SIX / icmpv6(129), SIX / icmpv6(130)),
    Case("icmp_code", "proto: icmp, icmp_type: 3", "[1, 3]", FOUR / icmp(3, 3), FOUR / icmp(3, 2)),
    Case("icmp_code", "proto: icmpv6", "0", SIX / icmpv6(1, 0), SIX / icmpv6(1, 1)),
    Case("vlan", "", "5", eth() / vlan(5) / ipv4() / udp(), eth() / vlan(6) / ipv4() / udp()),
    Case("vlan", "", "[0, 4095]", eth() / vlan(0) / ipv6() / udp(), v6()),
    Case("vlan", "", "none", v4(), eth() / vlan(5) / ipv4() / udp()),
    Case("not", "proto: udp", "{dport: 53}", FOUR / udp(dport=54), FOUR / udp()),
)
NOT_KEYS = (
    Case("not", "", "{family: ipv4}", v6(), v4()),
    Case("not", "", "{proto: [tcp, icmp]}", FOUR / udp(), FOUR / icmp()),
    Case("not", "family: ipv4", "{src: 198.51.100.0/24}", v4("198.51.101.0"), v4()),
    Case("not", "", f"{{dst: {OFFICE}}}", v6(), v6(target="2001:db8:51::1")),
    Case("not", "", "{sport: 53}", SIX / tcp(54), SIX / tcp(53), SIX / icmpv6()),
    Case("not", "", "{dport: [0, 80]}", FOUR / tcp(dport=1), FOUR / tcp(dport=0), FOUR / icmp()),
    Case("not", "", "{tcp_flags: {set: [syn], clear: [ack]}}", FOUR / tcp(flags="SA"), FOUR / tcp(flags="S"),
         FOUR / udp()),
    Case("not", "proto: icmp", "{icmp_type: echo-request}", FOUR / icmp(0), FOUR / icmp(8)),
    Case("not", "proto: icmp, icmp_type: 3", "{icmp_code: 1}", FOUR / icmp(3, 0), FOUR / icmp(3, 1)),
    Case("not", "", "{vlan: none}", eth() / vlan(5) / ipv6() / udp(), v6()),
)  # fmt: skip


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    """One set of maps and programs; each test gives it its rules."""
    made = lab.Lab("verdicts")
    with lab.inside(made.namespace("t"), Judge, rule_set(rule_file("", action="drop"))) as ready:
        yield ready
    made.close()


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("case", KEYS + NOT_KEYS, ids=str)
def test_a_key_limits_the_rule_to_the_frames_that_it_names(judge: Judge, case: Case, hook: str) -> None:
    judge.use(rule_set(case.text()))
    assert judge.bench.run(hook, bytes(case.hit)).decider == f"{hook}-rule"
    for other in (case.miss, case.absent):
        if other is not None:
            assert judge.bench.run(hook, bytes(other)).decider == "default"


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("case", KEYS + NOT_KEYS, ids=str)
def test_without_the_key_the_rule_takes_the_other_frame_too(judge: Judge, case: Case, hook: str) -> None:
    judge.use(rule_set(case.text(with_key=False)))
    assert judge.bench.run(hook, bytes(case.miss)).decider == f"{hook}-rule"


def test_the_name_of_the_deciding_rule_is_counted_and_a_comment_changes_nothing(judge: Judge) -> None:
    plain = rule_file("proto: udp")
    commented = plain.replace("name: ingress-rule,", 'name: other.name_1-2, comment: "drop: all",')
    assert plain != commented
    frame = bytes(v4())
    judge.use(rule_set(plain))
    before = judge.bench.run("ingress", frame)
    judge.use(rule_set(commented))
    after = judge.bench.run("ingress", frame)
    assert (before.decider, after.decider) == ("ingress-rule", "other.name_1-2")
    assert (before.action, before.frame) == (after.action, after.frame)


NAME_AND_COMMENT = frozenset({"name", "comment"})
"""Keys of a rule that the test above covers."""

# what the file says, the default, what must happen
ACTIONS = (
    ("pass", "drop", Action.PASS),
    ("drop", "pass", Action.DROP),
    ("tx", "pass", Action.TX),
    ("{redirect: {interface: ids0}}", "drop", Action.REDIRECT),
    ('{redirect: {interface: ids0, dst_mac: "02:00:00:00:00:02"}}', "pass", Action.REDIRECT),
    ("{redirect: {interface: ids1}}", "pass", Action.REDIRECT),
)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("row", ACTIONS, ids=[row[0] for row in ACTIONS])
def test_an_action_happens_to_the_frames_of_its_rule_only(
    judge: Judge, row: tuple[str, str, Action], hook: str
) -> None:
    """The bytes too: ``compare`` holds them against the oracle's verdict. ids1 is gone: aborted."""
    text, default, action = row
    judge.use(rule_set(rule_file("proto: udp", text, default)))
    met = judge.compare(hook, [bytes(v4()), bytes(v6())])
    assert met.actions == {Action.ABORTED if "ids1" in text else action}
    assert met.deciders == {f"{hook}-rule"}
    other = judge.bench.run(hook, bytes(FOUR / tcp()))
    assert (other.decider, other.action) == ("default", Action[default.upper()])
