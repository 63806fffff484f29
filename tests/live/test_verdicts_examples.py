"""The rule files of rules/, frame by frame: what each must do, written by hand, done by the shipped programs.

EXAMPLES is also held against the oracle and the folder by tests/test_complete.py, without root.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab
import pytest
from packets import Packet, arp, eth, fragment, icmp, icmpv6, ipv4, ipv6, nd, tcp, udp
from test_verdicts_support import Judge, one_cpu

from xdpguard.rules.model import Action, RuleSet
from xdpguard.rules.parse import load_file

__all__ = ["one_cpu"]  # a fixture
FOLDER = Path(__file__).resolve().parents[2] / "rules"
DROP, PASS, TX, REDIRECT = Action.DROP, Action.PASS, Action.TX, Action.REDIRECT
IN, OUT = "ingress", "egress"


class Example(NamedTuple):
    hook: str
    frame: Packet
    decider: str
    action: Action


Table = tuple[Example, ...]
E = Example
OUR4, OUR6 = "192.0.2.2", "2001:db8::2"
PEER4, PEER6 = eth() / ipv4("192.0.2.1", OUR4), eth() / ipv6("2001:db8::1", OUR6)
FAR4, FAR6 = eth() / ipv4("198.51.100.7", OUR4), eth() / ipv6("2001:db8:51::7", OUR6)
BAD_TCP, BAD_UDP = tcp(doff=4), udp(length=7)
ESSENTIAL: Table = (
    E(IN, eth() / arp(), "essential", PASS),
    E(IN, eth() / ipv6(hop_limit=255) / nd(), "essential", PASS),
    E(IN, FAR4 / udp(67, 68), "essential", PASS),
)

ALLOW_SSH_ONLY: Table = (
    *ESSENTIAL,
    E(IN, PEER4 / tcp(40000, 22), "ssh", PASS),
    E(IN, PEER6 / tcp(40000, 22), "ssh", PASS),
    E(IN, FAR4 / tcp(40000, 22), "default", DROP),
    E(IN, FAR6 / tcp(40000, 22), "default", DROP),
    E(IN, PEER4 / udp(40000, 22), "default", DROP),
    E(IN, FAR4 / tcp(443, 32768, "SA"), "tcp-answers", PASS),
    E(IN, FAR6 / tcp(443, 65535, "A"), "tcp-answers", PASS),
    E(IN, FAR4 / tcp(443, 32768, "S"), "default", DROP),
    E(IN, FAR4 / tcp(443, 32767, "A"), "default", DROP),
    E(IN, FAR4 / udp(53, 40000), "dns-answers", PASS),
    E(IN, FAR4 / udp(54, 40000), "default", DROP),
    E(IN, FAR4 / icmp(), "default", DROP),
    E(IN, FAR4 / icmp(3, 4), "essential", PASS),
    E(IN, PEER4 / BAD_TCP, "malformed_tcp", DROP),
    E(OUT, PEER4 / tcp(22, 40000), "default", PASS),
)
BLOCK_LIST: Table = (
    *(
        E(IN, eth() / ipv4(source, OUR4) / tcp(), decider, DROP if decider == "from-blocked" else PASS)
        for source, decider in (
            ("198.51.100.6", "default"),
            ("198.51.100.7", "from-blocked"),
            ("198.51.100.63", "default"),
            ("198.51.100.64", "from-blocked"),
            ("198.51.100.127", "from-blocked"),
            ("198.51.100.128", "default"),
            ("203.0.113.9", "default"),
            ("203.0.113.10", "from-blocked"),
            ("203.0.113.19", "from-blocked"),
            ("203.0.113.20", "default"),
        )
    ),
    E(IN, eth() / ipv6("2001:db8:bad::", OUR6) / udp(), "from-blocked", DROP),
    E(IN, eth() / ipv6("2001:db8:bad:ffff::", OUR6) / udp(), "from-blocked", DROP),
    E(IN, eth() / ipv6("2001:db8:bae::", OUR6) / udp(), "default", PASS),
    E(IN, eth() / ipv6("2001:db8:dead::1", OUR6) / icmpv6(), "from-blocked", DROP),
    E(IN, eth() / ipv6("2001:db8:dead::2", OUR6) / icmpv6(), "default", PASS),
    E(OUT, eth() / ipv4(OUR4, "198.51.100.7") / tcp(), "to-blocked", DROP),
    E(OUT, eth() / ipv6(OUR6, "2001:db8:bad::1") / tcp(), "to-blocked", DROP),
    E(OUT, eth() / ipv4("198.51.100.7", OUR4) / tcp(), "default", PASS),
)
COUNT_ONLY: Table = tuple(
    E(hook, frame, f"{prefix}-{rule}" if rule else decider, PASS)
    for hook, prefix in ((IN, "in"), (OUT, "out"))
    for frame, rule, decider in (
        (FAR4 / tcp(), "tcp-v4", ""),
        (FAR6 / tcp(), "tcp-v6", ""),
        (FAR4 / udp(), "udp-v4", ""),
        (FAR6 / udp(), "udp-v6", ""),
        (FAR4 / icmp(), "icmp", ""),
        (FAR6 / icmpv6(), "icmp", ""),
        (eth() / arp(), "arp", ""),
        (eth(ethertype=0x88B5) / bytes(46), "", "default"),
        (FAR4 / BAD_TCP, "", "malformed_tcp"),
    )
)
DEFAULT_DENY_HOST: Table = (
    *ESSENTIAL,
    E(IN, PEER4 / tcp(40000, 22), "ssh", PASS),
    E(IN, FAR4 / tcp(40000, 22), "default", DROP),
    E(IN, FAR4 / tcp(40000, 80), "web", PASS),
    E(IN, FAR6 / tcp(40000, 443), "web", PASS),
    E(IN, FAR4 / tcp(40000, 81), "default", DROP),
    E(IN, FAR6 / udp(40000, 443), "web-quic", PASS),
    E(IN, FAR4 / udp(40000, 80), "default", DROP),
    E(IN, FAR4 / icmp(8), "ping", PASS),
    E(IN, FAR6 / icmpv6(128), "ping-v6", PASS),
    E(IN, FAR4 / tcp(443, 50000, "A"), "tcp-answers", PASS),
    E(IN, FAR4 / tcp(443, 50000, "S"), "default", DROP),
    E(IN, FAR4 / udp(123, 50000), "udp-answers", PASS),
    E(IN, FAR4 / udp(124, 50000), "default", DROP),
    E(IN, FAR4 / icmp(11), "icmp-answers", PASS),
    E(IN, FAR4 / icmp(3, 4), "icmp-answers", PASS),  # a rule decides before "essential"
    E(IN, FAR4 / icmp(5), "default", DROP),
    E(IN, FAR6 / icmpv6(4), "icmpv6-answers", PASS),
    E(IN, FAR6 / icmpv6(5), "default", DROP),
    E(IN, FAR6 / BAD_UDP, "malformed_udp", DROP),
    E(OUT, FAR4 / udp(40000, 5000), "default", PASS),
)
DEMO: Table = (
    E(IN, PEER4 / tcp(40000, 8080), "web", PASS),
    E(IN, PEER6 / tcp(40000, 23), "no-telnet", DROP),
    E(IN, PEER4 / tcp(40000, 2323), "no-telnet", DROP),
    E(IN, PEER4 / udp(40000, 2005), "no-discard", DROP),
    E(IN, PEER4 / udp(40000, 2006), "default", PASS),
    E(IN, PEER4 / udp(40000, 7), "bounce-echo", TX),
    E(IN, PEER4 / icmp(8), "ping", PASS),
    E(IN, PEER6 / icmpv6(128), "ping-v6", PASS),
    E(IN, PEER6 / tcp(40000, 9000), "v6-lan", PASS),
    E(IN, eth() / arp(), "essential", PASS),
    E(OUT, PEER4 / tcp(8080, 40000), "web-answers", PASS),
    E(OUT, PEER4 / tcp(8081, 40000), "default", PASS),
)
DROP_FRAGMENTS: Table = tuple(
    E(hook, frame, decider, DROP if decider == "fragment" else PASS)
    for hook in (IN, OUT)
    for frame, decider in (
        (eth() / ipv4(mf=True, proto=17) / bytes(udp() / bytes(8)), "fragment"),
        (eth() / ipv4(offset=100, proto=17) / bytes(8), "fragment"),
        (eth() / ipv6() / fragment(more=True, then=6) / bytes(tcp() / bytes(4)), "fragment"),
        (eth() / ipv6() / fragment(100, then=17) / bytes(8), "fragment"),
        (eth() / ipv6() / fragment() / udp(), "default"),
        (FAR4 / tcp(), "default"),
    )
)
REDIRECT_TO_IDS: Table = (
    E(IN, FAR4 / tcp(40000, 23), "to-ids", REDIRECT),
    E(IN, FAR6 / tcp(40000, 445), "to-ids", REDIRECT),
    E(IN, PEER4 / tcp(40000, 23), "default", PASS),
    E(IN, PEER6 / tcp(40000, 139), "default", PASS),
    E(IN, FAR4 / tcp(40000, 22), "default", PASS),
    E(IN, FAR4 / udp(40000, 445), "default", PASS),
    E(OUT, FAR4 / tcp(40000, 23), "default", PASS),
)
MAILER, DNS6 = eth() / ipv4("203.0.113.9", OUR4), eth() / ipv6("2001:db8:bad::5", OUR6)
RULES_FILE: Table = (
    E(IN, FAR4 / tcp(40000, 22), "scanner", DROP),
    E(IN, FAR4 / udp(40000, 53), "scanner", DROP),
    E(IN, MAILER / tcp(40000, 465), "no-mail-from-there", DROP),
    E(IN, MAILER / tcp(40000, 466), "default", PASS),
    E(IN, MAILER / udp(40000, 465), "default", PASS),
    E(IN, DNS6 / udp(40000, 53), "no-dns-from-there", DROP),
    E(IN, DNS6 / tcp(40000, 53), "no-dns-from-there", DROP),
    E(IN, FAR6 / udp(40000, 53), "default", PASS),
    E(OUT, FAR4 / tcp(40000, 22), "default", PASS),
)
EXAMPLES: dict[str, Table] = {
    "allow-ssh-only": ALLOW_SSH_ONLY,
    "block-list": BLOCK_LIST,
    "count-only": COUNT_ONLY,
    "default-deny-host": DEFAULT_DENY_HOST,
    "demo": DEMO,
    "drop-fragments": DROP_FRAGMENTS,
    "redirect-to-ids": REDIRECT_TO_IDS,
    "rules-file": RULES_FILE,
}


def read(name: str) -> RuleSet:
    return load_file(FOLDER / f"{name}.yaml")


@pytest.fixture(scope="module")
def judge() -> Iterator[Judge]:
    made = lab.Lab("examples")
    with lab.inside(made.namespace("t"), Judge, read("default-deny-host")) as ready:
        yield ready
    made.close()


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_file_does_what_its_table_says(judge: Judge, name: str) -> None:
    judge.use(read(name))
    for example in EXAMPLES[name]:
        sent = bytes(example.frame)
        found = judge.bench.run(example.hook, sent)
        assert (found.decider, found.action) == (example.decider, example.action), example
        judge.compare(example.hook, [sent])  # the frame's bytes and the counters too
