"""Filter sets of any size in the shape of ClassBench's seeds: access lists, firewalls, IP chains; three of
each.

The parameters of acl1, fw1 and ipc1 are shares counted in public ClassBench sets of those names (Taylor and
Turner, IEEE/ACM Transactions on Networking 15(3), 2007); 2 and 3 of a kind are drawn broader and narrower.
The sets themselves are made here, seeded, from these parameters alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from filterset import ANY, WITH_PORTS, Filters, distinct, full, masks, random_addresses
from numpy.typing import NDArray

_HIGH, _LOW, _ALL = (1024, 65535), (0, 1023), (0, 65535)
_WELL_KNOWN = (20, 21, 22, 23, 25, 53, 67, 80, 110, 123, 135, 137, 139, 143, 161, 389, 443, 445, 514, 1433,
               1521, 1723, 3128, 3306, 3389, 5060, 5432, 5631, 6000, 8080)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Side:
    """``lengths``: prefix length -> share. ``networks``: of 1,000 rules, so many distinct /16; ``reuse``:
    of prefixes, the share that is drawn from those already there, the earlier the likelier."""

    lengths: Mapping[int, float]
    networks: float
    reuse: float


@dataclass(frozen=True, slots=True)
class Shape:
    """Shares: of ports any, exact, 1024-65535, 0-1023, another range; of protocols by number."""

    src: Side
    dst: Side
    sport: tuple[float, float, float, float, float]
    dport: tuple[float, float, float, float, float]
    protocols: Mapping[int, float]


_ACL = {32: 52, 31: 22, 30: 5, 24: 5, 23: 7, 22: 4, 25: 2, 21: 1, 16: 1, 8: 0.4, 0: 0.6}
_ACL_WIDE = {32: 30, 31: 10, 28: 10, 27: 8, 24: 18, 23: 8, 22: 6, 20: 4, 16: 4, 8: 1, 0: 1}
_FW_SRC = {0: 41, 1: 19, 2: 3, 32: 13, 31: 9, 30: 4, 28: 3, 27: 3, 24: 2, 21: 2, 20: 1}
_FW_DST = {0: 18, 1: 9, 2: 1, 32: 33, 31: 28, 30: 6, 28: 2, 22: 1, 21: 1, 20: 1}
_IPC_SRC = {32: 17, 31: 8, 28: 2, 27: 2, 26: 4, 25: 9, 24: 15, 23: 15, 22: 6, 17: 4, 16: 5, 1: 5, 0: 8}
_IPC_DST = {32: 25, 31: 11, 28: 2, 27: 3, 26: 6, 25: 11, 24: 13, 23: 8, 22: 2, 17: 3, 16: 7, 1: 3, 0: 6}
_TCP, _MIXED, _ALL_KINDS = (
    {6: 87, ANY: 9, 1: 3, 17: 1},
    {6: 57, 17: 34, 47: 5, 1: 3, ANY: 1},
    {17: 38, ANY: 34, 6: 28},
)
_NO_SPORT, _ACL_DPORT = (1, 0, 0, 0, 0), (0.28, 0.6, 0, 0, 0.12)
_FW_SPORT, _FW_DPORT = (0.76, 0.16, 0.08, 0, 0), (0.29, 0.63, 0.08, 0, 0)
_IPC_SPORT, _IPC_DPORT = (0.81, 0.17, 0, 0, 0.02), (0.55, 0.36, 0.06, 0, 0.03)

SHAPES = {
    "acl1": Shape(Side(_ACL, 16, 0.6), Side(_ACL, 40, 0.85), _NO_SPORT, _ACL_DPORT, _TCP),
    "acl2": Shape(Side(_ACL_WIDE, 60, 0.5), Side(_ACL_WIDE, 60, 0.5), _NO_SPORT, _ACL_DPORT, _TCP),
    "acl3": Shape(
        Side(_ACL_WIDE, 30, 0.8), Side(_ACL, 30, 0.8), (0.9, 0.1, 0, 0, 0),
        (0.3, 0.45, 0.05, 0.02, 0.18), _MIXED,
    ),
    "fw1": Shape(Side(_FW_SRC, 360, 0.1), Side(_FW_DST, 700, 0.1), _FW_SPORT, _FW_DPORT, _MIXED),
    "fw2": Shape(
        Side(_FW_SRC | {0: 60}, 360, 0.3), Side(_FW_DST, 200, 0.3), (0.6, 0.1, 0.3, 0, 0), _FW_DPORT, _MIXED
    ),
    "fw3": Shape(
        Side(_FW_SRC | {0: 20, 1: 8}, 100, 0.5), Side(_FW_DST | {0: 8, 1: 4}, 100, 0.5), _FW_SPORT,
        (0.2, 0.6, 0.1, 0.02, 0.08), _ALL_KINDS,
    ),
    "ipc1": Shape(Side(_IPC_SRC, 28, 0.6), Side(_IPC_DST, 37, 0.4), _IPC_SPORT, _IPC_DPORT, _ALL_KINDS),
    "ipc2": Shape(
        Side(_IPC_SRC | {0: 30, 32: 40}, 100, 0.2), Side(_IPC_DST | {0: 30, 32: 40}, 100, 0.2), _NO_SPORT,
        (0.9, 0.1, 0, 0, 0), _ALL_KINDS,
    ),
    "ipc3": Shape(
        Side(_ACL, 28, 0.5), Side(_IPC_DST, 37, 0.5), _IPC_SPORT, (0.3, 0.5, 0.1, 0.02, 0.08), _MIXED
    ),
}  # fmt: skip


def generate(shape: str, rules: int, seed: int = 1) -> Filters:
    """``rules`` IPv4 rules, no two alike; the same for the same arguments."""
    rng = np.random.default_rng([seed, list(SHAPES).index(shape)])
    found = distinct(_draw(shape, rules, rng))
    while len(found) < rules:
        found = distinct(_joined(found, _draw(shape, rules, rng)))
    return found.first(rules)


def _draw(name: str, rules: int, rng: np.random.Generator) -> Filters:
    shape = SHAPES[name]
    sides = [_prefixes(side, rules, rng) for side in (shape.src, shape.dst)]
    ends, lengths = np.stack([ends for ends, _ in sides], 1), np.stack([some for _, some in sides], 1)
    ports = np.stack([_ports(shares, rules, rng) for shares in (shape.sport, shape.dport)], 1)
    protocol = _pick(shape.protocols, rules, rng)
    ports[~np.isin(protocol, (ANY, *WITH_PORTS))] = _ALL
    return Filters(f"own {name}", 4, ends, lengths, ports, protocol)


def _joined(one: Filters, other: Filters) -> Filters:
    return Filters(
        one.name, one.family,
        np.concatenate([one.ends, other.ends]), np.concatenate([one.lengths, other.lengths]),
        np.concatenate([one.ports, other.ports]), np.concatenate([one.protocol, other.protocol]),
    )  # fmt: skip


def _pick(shares: Mapping[int, float], count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    weights = np.array(list(shares.values()))
    return rng.choice(np.array(list(shares)), count, p=weights / weights.sum())


def _prefixes(
    side: Side, count: int, rng: np.random.Generator
) -> tuple[NDArray[np.uint64], NDArray[np.int64]]:
    networks = max(4, int(side.networks * count / 1000))
    base = rng.integers(0, 1 << 16, networks, dtype=np.uint64) << np.uint64(16)
    # Zipf over networks: some hold many prefixes, most few.
    chosen = base[_skewed(networks, count, rng)]
    lengths = _pick(side.lengths, count, rng)
    addresses = np.stack(
        [np.zeros_like(chosen), chosen | rng.integers(0, 1 << 16, count, dtype=np.uint64)], -1
    )
    reused = rng.random(count) < side.reuse
    earlier = _skewed(max(1, count // 8), count, rng)
    lengths[reused], addresses[reused] = lengths[earlier[reused]], addresses[earlier[reused]]
    return addresses & masks(lengths, 4), lengths


def _skewed(most: int, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Numbers below ``most``, the smaller the likelier (log-uniform)."""
    return np.minimum((most + 1) ** rng.random(count) - 1, most - 1).astype(np.int64)


def _ports(
    shares: tuple[float, float, float, float, float], count: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    kind = rng.choice(5, count, p=np.array(shares) / sum(shares))
    exact = np.where(
        rng.random(count) < 0.8, rng.choice(np.array(_WELL_KNOWN), count), rng.integers(1024, 1280, count)
    )
    first = rng.integers(16, 600, count) * 100
    length = rng.choice([9, 99, 999, 4999], count)
    found = np.empty((count, 2), dtype=np.int64)
    for number, pair in ((0, _ALL), (2, _HIGH), (3, _LOW)):
        found[kind == number] = pair
    found[kind == 1] = np.stack([exact, exact], 1)[kind == 1]
    found[kind == 4] = np.stack([first, np.minimum(first + length, 65535)], 1)[kind == 4]
    return found


def random_prefixes(rules: int, family: int, shortest: int, seed: int = 1) -> Filters:
    """Prefixes of evenly drawn lengths on both sides, from ``shortest`` (in IPv4 bits; four times that in
    IPv6)."""
    rng = np.random.default_rng([seed, 100])
    lengths = rng.integers(shortest, 33, (rules, 2)) * (1 if family == 4 else 4)
    ends = random_addresses(rng, (rules, 2), family) & full(family) & masks(lengths, family)
    ports = np.stack([_ports(_NO_SPORT, rules, rng), _ports(_ACL_DPORT, rules, rng)], 1)
    name = f"random /{shortest * (1 if family == 4 else 4)}-/{32 if family == 4 else 128}"
    return Filters(name, family, ends, lengths, ports, rng.choice([6, 17], rules))


def disjoint(rules: int, seed: int = 1) -> Filters:
    """A /24 of sources of its own to each rule: an nftables interval set takes no overlap."""
    rng = np.random.default_rng([seed, 101])
    lengths = np.stack([np.full(rules, 24), rng.integers(16, 33, rules)], 1)
    ends = random_addresses(rng, (rules, 2), 4)
    ends[:, 0, 1] = rng.choice(1 << 24, rules, replace=False).astype(np.uint64) << np.uint64(8)
    port = rng.choice(np.array(_WELL_KNOWN), rules)
    ports = np.stack([np.tile([0, 65535], (rules, 1)), np.stack([port, port], 1)], 1)
    return Filters("disjoint", 4, ends & masks(lengths, 4), lengths, ports, np.full(rules, 17))


def ten_ports() -> Filters:
    """One destination port of UDP each."""
    ports = np.stack([np.tile([0, 65535], (10, 1)), np.stack([np.arange(9001, 9011)] * 2, 1)], 1)
    return Filters(
        "ten ports", 4, np.zeros((10, 2, 2), np.uint64), np.zeros((10, 2), np.int64), ports, np.full(10, 17)
    )
