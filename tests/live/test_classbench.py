"""The shipped programs with rule sets of real size."""

from __future__ import annotations

from random import Random

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

import large_sets
import pytest
from deciders import Deciders, chain, expected
from packets import eth, ipv6, udp
from test_verdicts_support import one_cpu

from xdpguard.rules.model import Addresses, Intervals, Match

__all__ = ["one_cpu"]  # a fixture


@pytest.mark.skipif(not large_sets.FOLDER.is_dir(), reason=large_sets.ABSENT)
@pytest.mark.parametrize("name", large_sets.NAMES)
def test_the_programs_find_every_first_match_of_a_classbench_set_twice(name: str) -> None:
    """Every packet twice in a row, the second time from memory. Then all once more: some are forgotten."""
    rules = large_sets.read(name)
    packets = large_sets.edge_packets(rules, 4000, seed=2)
    expected = large_sets.first_matches(rules, packets).tolist()
    found = [(large_sets.frame(packets, at), first) for at, first in enumerate(expected)]
    # Of those that no rule matches DHCP's are decided by a reason.
    found = [(frame, first) for frame, first in found if first >= 0 or frame[34:38] != b"\0C\0D"]
    twice = [each for each in found for _ in range(2)] + found
    made = Deciders(large_sets.rule_set(rules, name))
    try:
        wrong = made.rules("ingress", [frame for frame, _ in twice], [first for _, first in twice])
    finally:
        made.close()
    assert wrong == []
    assert len(set(expected)) > min(len(rules), 4000) // 3


def spans6(rng: Random) -> Intervals:
    """Ranges that begin and end anywhere in a few upper halves."""
    ends = [
        ((0x20010DB8 << 32) + rng.randrange(6) << 64) + rng.choice((0, 5, 6, 1 << 63, (1 << 64) - 1))
        for _ in "ab"
    ]
    return ((min(ends), max(ends)),)


def test_the_programs_find_ipv6_addresses_before_in_and_behind_an_upper_half() -> None:
    rng = Random(8)
    spans = [spans6(rng) for _ in range(60)]
    matches = [Match(src=Addresses(v6=each)) for each in spans[::2]]
    matches += [Match(dst=Addresses(v6=each)) for each in spans[1::2]]
    ruleset = chain(*rng.sample(matches, len(matches)))
    spots = sorted(
        {end + near for each in spans for end in each[0] for near in (-1, 0, 1, 1 << 64, -(1 << 64))}
    )
    frames = [
        bytes(eth() / ipv6(one, rng.choice(spots)) / udp()).ljust(64, b"\0")
        for one in spots
        for _ in range(8)
    ]
    made = Deciders(ruleset)
    try:
        wrong = made.rules("ingress", frames, expected(ruleset, frames))
    finally:
        made.close()
    assert wrong == []
