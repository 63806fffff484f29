"""Rule sets made to be hard: every answer is exact, and the tables stay small or the rules are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import large_sets
import numpy as np
import pytest
import tables
from large_sets import ALL_PORTS, RuleArrays, Values

from xdpguard.classify import groups
from xdpguard.classify.columns import Numbers, columns
from xdpguard.classify.compile import build
from xdpguard.classify.engine import build as build_engine
from xdpguard.classify.groups import Placed
from xdpguard.rules.model import TCP, Addresses, Match

PACKETS = 3000
Rng = np.random.Generator


def networks(rng: Rng, lengths: Values, values: Values | None = None) -> Values:
    """Of these lengths; anywhere, or around these values."""
    size = 1 << 32 - lengths
    low = (rng.integers(0, 1 << 32, len(lengths)) if values is None else values) & -size
    return np.stack([low, low | size - 1], axis=1)


def ranges(rng: Rng, count: int, top: int) -> Values:
    return np.sort(rng.integers(0, top, (count, 2)), axis=1)


def rules(src: Values, dst: Values, sport: Values | None = None, dport: Values | None = None) -> RuleArrays:
    """TCP if there are ports. In the order of their size, so that the broad ones do not hide the others."""
    every = np.tile(np.array(ALL_PORTS), (len(src), 1))
    size = np.diff(src).astype(float) * np.diff(dst)
    order = np.argsort(size.ravel(), kind="stable")
    number = np.full(len(src), -1 if sport is None and dport is None else TCP)
    sport, dport = (every if ports is None else ports for ports in (sport, dport))
    flags = np.zeros((len(src), 2), dtype=np.int64)
    return RuleArrays(src[order], dst[order], sport[order], dport[order], number[order], flags)


def chains(rng: Rng) -> RuleArrays:
    """Every prefix of one address on one side with every one of another on the other."""
    lengths = np.arange(33)
    src, dst = (networks(rng, lengths, np.full(33, value)) for value in (0x0A0B0C0D, 0xC0A80101))
    return rules(np.repeat(src, 33, axis=0), np.tile(dst, (33, 1)))


def any_lengths(rng: Rng, count: int = 5000) -> RuleArrays:
    return rules(*(networks(rng, rng.integers(0, 33, count)) for _ in range(2)))


def many_port_ranges(rng: Rng, count: int = 5000) -> RuleArrays:
    src, dst = (networks(rng, rng.integers(12, 33, count)) for _ in range(2))
    return rules(src, dst, ranges(rng, count, 65536), ranges(rng, count, 65536))


def many_port_ranges_anywhere(rng: Rng) -> RuleArrays:
    src, dst = (networks(rng, np.zeros(3000, dtype=np.int64)) for _ in range(2))
    return rules(src, dst, ranges(rng, 3000, 65536), ranges(rng, 3000, 65536))


def broad_on_both_sides(rng: Rng) -> RuleArrays:
    src, dst = (networks(rng, rng.integers(0, 9, 10_000)) for _ in range(2))
    return rules(src, dst, None, ranges(rng, 10_000, 65536))


def crossing_ranges(rng: Rng) -> RuleArrays:
    return rules(ranges(rng, 3000, 1 << 32), ranges(rng, 3000, 1 << 32))


def many_ports_of_few_hosts(rng: Rng) -> RuleArrays:
    """A hundred ports of two hundred hosts, for everybody: a third more than their lists hold."""
    hosts = networks(rng, np.full(20_000, 32), np.repeat(rng.integers(0, 1 << 32, 200), 100))
    ports = np.tile(np.arange(100) * 7, 200)
    return rules(
        networks(rng, np.zeros(20_000, dtype=np.int64)), hosts, None, np.stack([ports, ports], axis=1)
    )


ADVERSARIES: tuple[Callable[[Rng], RuleArrays], ...] = (
    chains, any_lengths, many_port_ranges, many_port_ranges_anywhere, broad_on_both_sides, crossing_ranges,
    many_ports_of_few_hosts,
)  # fmt: skip


@pytest.mark.parametrize("adversary", ADVERSARIES, ids=[each.__name__ for each in ADVERSARIES])
def test_hard_rule_sets_are_decided_exactly(adversary: Callable[[Rng], RuleArrays]) -> None:
    arrays = adversary(np.random.default_rng(5))
    blob = build(large_sets.rule_set(arrays, adversary.__name__)).blob.tobytes()
    packets = large_sets.edge_packets(arrays, PACKETS, seed=6)
    expected = large_sets.first_matches(arrays, packets).tolist()
    wrong = [
        (packet, first)
        for packet, first in zip(large_sets.indices(packets), expected, strict=True)
        if tables.first_match(blob, "ingress", packet) != (None if first < 0 else first)
    ]
    assert wrong == []
    assert len(set(expected)) > 50


def everywhere(entries: int) -> Addresses:
    """Single addresses all over the place."""
    return Addresses(v4=tuple((at, at) for at in range(0, 1 << 32, (1 << 32) // entries)))


def test_a_large_set_under_many_broad_ones_costs_no_more_places_than_classes() -> None:
    """Twenty thousand addresses in a hundred networks: expanded address by address they would be millions."""
    blocked = Match(ipv6=False, src=everywhere(20_000))
    broad = [Match(ipv6=False, src=Addresses(v4=((at, (1 << 32) - 1 - at),))) for at in range(1, 100)]
    found = build_engine(columns([blocked, *broad]))
    assert len(found.conditions.entries) < 100 * 200
    assert len(found.wide.rules) <= 50  # what the lists of 64 cannot hold


def test_rules_of_too_many_places_become_wide_before_they_take_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Sources of 300 classes with 700 single destinations, each cut off from the next by others."""
    top = (1 << 32) - 1
    hosts = tuple((at << 12, at << 12) for at in range(700))
    cuts = [
        Match(ipv6=False, src=Addresses(v4=(host,)), dst=Addresses(v4=((at << 21, top),)))
        for at, host in enumerate(hosts)
    ]
    source, spread = Addresses(v4=hosts[:300]), Addresses(v4=tuple((at << 21, at << 21) for at in range(700)))
    crowd = [Match(ipv6=False, src=source, dst=spread, dport=((at, at),)) for at in range(20)]
    placed: list[int] = []

    def counted(keys: Numbers, *rest: Any) -> Placed:
        made = groups.place(keys, *rest)
        placed.append(len(made.keys))
        return made

    monkeypatch.setattr("xdpguard.classify.engine.place", counted)
    found = build_engine(columns([*crowd, *cuts]))
    assert len(found.wide.rules) >= len(crowd)
    assert max(placed) < 10_000  # else 20 x 300 x 700
