"""Classifier rules as columns, apart from what xdpguard calls a rule: every contender is built from the
same ones.

Owns the form of a filter set, the headers that match it, and its answer to a header, found the slow way.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.rules.model import Action, Addresses, Hook, Match, Protocols, Rule, RuleSet

ANY = -1
"""Protocol: all."""
WITH_PORTS = (6, 17, 132)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
_SIDES = (0, 1)  # source, destination


@dataclass(frozen=True, slots=True, eq=False)
class Headers:
    """What a driver writes into packets. ``ends``: m x side x (high, low) half; IPv4 is in the low half."""

    family: int
    ends: NDArray[np.uint64]
    ports: NDArray[np.int64]  # m x (source, destination)
    protocol: NDArray[np.int64]  # 6 or 17

    def __len__(self) -> int:
        return len(self.protocol)

    def take(self, rows: NDArray[np.int64]) -> Headers:
        return Headers(self.family, self.ends[rows], self.ports[rows], self.protocol[rows])


@dataclass(frozen=True, slots=True, eq=False)
class Filters:
    """``n`` rules, the first that matches wins. Addresses are masked to their prefix."""

    name: str
    family: int  # 4, 6
    ends: NDArray[np.uint64]  # n x side x (high, low) half
    lengths: NDArray[np.int64]  # n x side
    ports: NDArray[np.int64]  # n x (source, destination) x (first, last)
    protocol: NDArray[np.int64]  # number, or ANY

    def __len__(self) -> int:
        return len(self.protocol)

    def first(self, count: int) -> Filters:
        return self.take(np.arange(min(count, len(self))))

    def take(self, rows: NDArray[np.int64]) -> Filters:
        return Filters(
            self.name, self.family, self.ends[rows], self.lengths[rows], self.ports[rows], self.protocol[rows]
        )


def masks(lengths: NDArray[np.int64], family: int) -> NDArray[np.uint64]:
    """Network masks, with a last axis (high, low) more than ``lengths``."""
    if family == 4:
        low = (np.uint64(0xFFFFFFFF) << (32 - lengths).astype(np.uint64)) & np.uint64(0xFFFFFFFF)
        return np.stack([np.zeros_like(low), low], -1)
    high_bits, low_bits = np.clip(lengths, 0, 64), np.clip(lengths - 64, 0, 64)
    halves = [
        np.where(bits == 0, np.uint64(0), _ONES << (np.minimum(64 - bits, 63)).astype(np.uint64))
        for bits in (high_bits, low_bits)
    ]
    return np.stack(halves, -1)


def full(family: int) -> NDArray[np.uint64]:
    """The mask of a whole address: (high, low)."""
    return np.array([0, 0xFFFFFFFF] if family == 4 else [_ONES, _ONES], dtype=np.uint64)


def random_addresses(rng: np.random.Generator, shape: tuple[int, ...], family: int) -> NDArray[np.uint64]:
    return rng.integers(0, 1 << 64, (*shape, 2), dtype=np.uint64) & full(family)


def distinct(filters: Filters) -> Filters:
    """Without rules that are the same as an earlier one."""
    rows = np.concatenate(
        [
            filters.ends.reshape(len(filters), 4),
            filters.lengths.astype(np.uint64),
            filters.ports.reshape(len(filters), 4).astype(np.uint64),
            filters.protocol.astype(np.uint64)[:, None],
        ],
        axis=1,
    )
    packed = np.ascontiguousarray(rows).view(np.dtype((np.void, rows.shape[1] * 8))).ravel()
    _, first = np.unique(packed, return_index=True)
    return filters.take(np.sort(first))


def matching(filters: Filters, rows: NDArray[np.int64], rng: np.random.Generator) -> Headers:
    """A header for each of these rules that it matches (one before it may win); TCP or UDP if it says
    neither."""
    free = ~masks(filters.lengths[rows], filters.family) & full(filters.family)
    ends = filters.ends[rows] | (random_addresses(rng, (len(rows), 2), filters.family) & free)
    low, high = filters.ports[rows, :, 0], filters.ports[rows, :, 1]
    ports = low + (rng.integers(0, 1 << 30, low.shape) % (high - low + 1))
    said = filters.protocol[rows]
    protocol = np.where((said == 6) | (said == 17), said, rng.choice([6, 17], len(rows)))
    return Headers(filters.family, ends, ports, protocol)


def first_match(filters: Filters, headers: Headers) -> NDArray[np.int64]:
    """The rule that decides each header, by looking at all of them; -1: none."""
    mask, found = masks(filters.lengths, filters.family), np.full(len(headers), -1, dtype=np.int64)
    needs_ports = (filters.ports != [0, 65535]).any(axis=(1, 2))
    said = filters.protocol
    for at in range(len(headers)):
        hit = ((headers.ends[at] & mask) == filters.ends).all(axis=(1, 2))
        ports = headers.ports[at]
        hit &= ((filters.ports[:, :, 0] <= ports) & (ports <= filters.ports[:, :, 1])).all(axis=1)
        hit &= (said == ANY) | (said == headers.protocol[at])
        hit &= ~needs_ports | (said == ANY) | np.isin(said, WITH_PORTS)
        if hit.any():
            found[at] = hit.argmax()
    return found


def ruleset(filters: Filters, *, egress: bool = False, actions: tuple[Action, ...] = ()) -> RuleSet:
    """As xdpguard compiles it: actions in turn (drop, pass), of one hook; the other passes."""
    turn = actions or (Action.DROP, Action.PASS)
    rules = tuple(
        Rule(f"r{at}", turn[at % len(turn)], match, None, f"{at:032x}", at + 1, 1)
        for at, match in enumerate(_matches(filters))
    )
    passing, filled = Hook(Action.PASS), Hook(Action.PASS, rules)
    return RuleSet(filters.name, *((passing, filled) if egress else (filled, passing)))


def _matches(filters: Filters) -> list[Match]:
    bits = 32 if filters.family == 4 else 128
    sides = [_addresses(filters, side, bits) for side in _SIDES]
    known: dict[tuple[int, bool], Protocols | None] = {}
    found = []
    for src, dst, ports, protocol in zip(
        *sides, filters.ports.tolist(), filters.protocol.tolist(), strict=True
    ):
        sport, dport = (None if pair == [0, 65535] else ((pair[0], pair[1]),) for pair in ports)
        asked = (protocol, sport is not None or dport is not None)
        if asked not in known:
            known[asked] = _protocols(*asked)
        v4 = filters.family == 4
        found.append(
            Match(ipv4=v4, ipv6=not v4, protocols=known[asked], src=src, dst=dst, sport=sport, dport=dport)
        )
    return found


def _addresses(filters: Filters, side: int, bits: int) -> list[Addresses | None]:
    found: list[Addresses | None] = []
    for (high, low), length in zip(
        filters.ends[:, side].tolist(), filters.lengths[:, side].tolist(), strict=True
    ):
        first = high << 64 | low
        one = ((first, first | ((1 << (bits - length)) - 1)),)
        found.append(None if not length else Addresses(v4=one) if bits == 32 else Addresses(v6=one))
    return found


def _protocols(number: int, ports: bool) -> Protocols | None:
    if number == ANY and not ports:
        return None
    numbers = frozenset(WITH_PORTS if number == ANY else (number,))
    return Protocols(numbers, numbers)
