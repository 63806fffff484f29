"""Filter sets that a cross-product classifier should not like."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from filterset import ANY, Filters, distinct, masks, random_addresses
from generator import random_prefixes


def chains(rules: int) -> Filters:
    """Prefixes nested /1 to /32 around a few addresses, on both sides."""
    rng = np.random.default_rng(7)
    roots = random_addresses(rng, (16, 2), 4)
    lengths = rng.integers(1, 33, (rules, 2))
    ends = roots[rng.integers(0, 16, rules)] & masks(lengths, 4)
    return distinct(Filters("nested chains", 4, ends, lengths, _any_ports(rules), np.full(rules, ANY)))


def port_ranges(rules: int) -> Filters:
    """No two rules with the same port ranges."""
    rng = np.random.default_rng(8)
    base = random_prefixes(rules, 4, 16)
    ports = np.sort(rng.integers(0, 65536, (rules, 2, 2)), axis=-1)
    return Filters("distinct port ranges", 4, base.ends, base.lengths, ports, base.protocol)


def both_broad(rules: int) -> Filters:
    """Prefixes of /0 to /8 on both sides, with one destination port each."""
    rng = np.random.default_rng(9)
    lengths = rng.integers(0, 9, (rules, 2))
    ends = random_addresses(rng, (rules, 2), 4) & masks(lengths, 4)
    ports = _any_ports(rules)
    ports[:, 1] = rng.integers(1, 65536, rules)[:, None]
    return Filters("broad on both sides", 4, ends, lengths, ports, np.full(rules, 17))


def anything(rules: int) -> Filters:
    """Prefixes of /0 to /32 on both sides."""
    return random_prefixes(rules, 4, 0)


ALL: tuple[Callable[[int], Filters], ...] = (chains, anything, port_ranges, both_broad)


def _any_ports(rules: int) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    return np.tile(np.array([0, 65535], dtype=np.int64), (rules, 2, 1))
