"""Small hand-made snapshots and states for the tests of ui/ and cli/. They keep the counting identity."""

from __future__ import annotations

from dataclasses import replace

from xdpguard.guard.model import Generation, InterfaceStatus
from xdpguard.stats.model import ACTIONS, PROTOCOLS, Count, HookCounts, InterfaceCounts, RuleCount, Snapshot
from xdpguard.ui.identity import faults

REASONS = ("malformed_ipv6_extension", "fragment", "essential")
NOON = 1_700_000_000.0  # 2023-11-14T22:13:20Z


def hook(**packets: int) -> HookCounts:
    """A hook from packet counts by name; 100 bytes each. The rules are ssh, telnet, old (retired)."""

    def count(name: str) -> Count:
        return Count(packets.get(name, 0), 100 * packets.get(name, 0))

    return HookCounts(
        actions={name: count(name) for name in ACTIONS},
        protocols={name: count(name) for name in PROTOCOLS},
        reasons={name: count(name) for name in REASONS},
        rules=(
            RuleCount("ssh", "pass", count("ssh")),
            RuleCount("telnet", "drop", count("telnet")),
            RuleCount("old", "drop", count("old"), retired=True),
        ),
        default_action="pass",
        default=count("default"),
        not_delivered={"tx": None, "redirect": None},
    )


INGRESS = {"drop": 24, "pass": 1966, "tcp": 1964, "udp": 18, "icmp": 8} | {
    "ssh": 1900, "telnet": 20, "old": 3, "default": 56, "malformed_ipv6_extension": 1, "essential": 10,
}  # fmt: skip
EGRESS = {"pass": 7, "arp": 2, "udp": 5, "default": 5, "essential": 2}


def interface(name: str = "veth0", netns: str | None = "blue", **more: int) -> InterfaceCounts:
    return InterfaceCounts(
        interface=name,
        ifindex=more.get("ifindex", 7),
        netns=netns,
        generation=more.get("generation", 3),
        mode="native",
        ingress=hook(**INGRESS),
        egress=hook(**EGRESS),
    )


def lossy(tx: int | None = 3, redirect: int | None = 0, sent: int = 5) -> Snapshot:
    """An interface that was told to send frames, and how many of them were not delivered."""
    counts = hook(**INGRESS | {"tx": sent, "pass": INGRESS["pass"] - sent})
    counts = replace(counts, not_delivered={"tx": tx, "redirect": redirect})
    return snapshot(replace(interface(), ingress=counts))


def snapshot(*interfaces: InterfaceCounts, time: float = NOON) -> Snapshot:
    return Snapshot(time, interfaces or (interface(),))


def later(before: Snapshot, seconds: float, **packets: int) -> Snapshot:
    """``before`` after ``seconds``, with these packets more on every interface's ingress."""
    grown = {name: INGRESS.get(name, 0) + packets.get(name, 0) for name in INGRESS | packets}
    now = tuple(replace(counts, ingress=hook(**grown)) for counts in before.interfaces)
    return Snapshot(before.time + seconds, now)


def broken() -> Snapshot:
    """A snapshot whose ingress lacks one packet among the deciders."""
    return snapshot(replace(interface(), ingress=hook(**INGRESS | {"default": 55})))


LIVE = Generation(3, "rules/demo.yaml", "ab" * 16, NOON, 7, 2)
BUILT_IN = Generation(1, "", "", NOON, 0, 0)


def state(name: str = "veth0", netns: str | None = "blue", *problems: str) -> InterfaceStatus:
    return InterfaceStatus(
        interface=name,
        ifindex=7,
        netns=netns,
        mode="native",
        active=LIVE,
        previous=BUILT_IN,
        confirm_seconds=None,
        fell_back=False,
        xdp_program=123,
        tc_program=124,
        helpers=(),
        table_bytes=3_100_000,
        problems=problems,
    )


def test_the_sample_keeps_the_counting_identity() -> None:
    assert faults(snapshot()) == []
    assert faults(lossy()) == []
