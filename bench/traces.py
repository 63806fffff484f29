"""Headers in the order in which they are sent. Every trace is seeded, and at most PACKETS long; it is sent
in a circle."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from filterset import Filters, Headers, first_match, matching, random_addresses

PACKETS = 65536
WORKING_SETS = (1, 256, 4_096, 65_536)


def flows(filters: Filters, count: int, seed: int = 3) -> Headers:
    """``count`` flows, drawn evenly over the rules, one after the other."""
    rng = np.random.default_rng(seed)
    return matching(filters, rng.integers(0, len(filters), count), rng)


def zipf(filters: Filters, exponent: float = 1.1, seed: int = 4) -> Headers:
    """Packets of 65,536 flows, the k-th of which has a share of 1 / k^exponent."""
    rng = np.random.default_rng(seed)
    of_flows = flows(filters, PACKETS, seed)
    weights = np.arange(1, PACKETS + 1, dtype=np.float64) ** -exponent
    return of_flows.take(rng.choice(PACKETS, PACKETS, p=weights / weights.sum()))


def unmatched(filters: Filters, count: int = 4096, seed: int = 5) -> Headers:
    """Headers that no rule matches, as many as there are among ``count`` random ones; it may be none."""
    rng = np.random.default_rng(seed)
    tried = Headers(
        filters.family,
        random_addresses(rng, (count, 2), filters.family),
        rng.integers(0, 65536, (count, 2)),
        rng.choice([6, 17], count),
    )
    return tried.take(np.flatnonzero(first_match(filters, tried) < 0))


def strangers(filters: Filters, rules: int = 256, seed: int = 6) -> Headers:
    """The rules that 256 flows use, but each packet the first of a flow: ever other addresses and ports
    inside them."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(filters), rules)
    return matching(filters, np.tile(chosen, PACKETS // rules), rng)


def worst(
    filters: Filters, cost: Callable[[Headers], float], *, parts: int = 48, rounds: int = 5, seed: int = 7
) -> Headers:
    """The dearest trace that a search finds: rules are parted, the dearest quarter of the parts is mixed
    and parted again. ``cost``: ns of a packet. Each trace has PACKETS flows, so that none is remembered."""
    rng = np.random.default_rng(seed)
    rules = rng.permutation(len(filters))
    best = max(
        ((cost(one), one) for one in (flows(filters, PACKETS), strangers(filters))), key=lambda one: one[0]
    )
    for _ in range(rounds):
        found = []
        for part in np.array_split(rules, min(parts, len(rules))):
            trace = matching(filters, rng.choice(part, PACKETS), rng)
            found.append((cost(trace), part))
            if found[-1][0] > best[0]:
                best = (found[-1][0], trace)
        found.sort(key=lambda one: -one[0])
        rules = rng.permutation(np.concatenate([part for _, part in found[: max(1, len(found) // 4)]]))
    return best[1]
