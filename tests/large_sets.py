"""Large rule sets of IPv4, ClassBench's and made ones, and which of their rules comes first, by NumPy.

ClassBench's files (Taylor and Turner, IEEE/ACM ToN 2007) are not part of the project; they are looked for
beside the checkout. A packet here is what their rules ask for: addresses, ports, protocol number, TCP flags.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from blob_reader import Indices
from numpy.typing import NDArray
from packets import eth, ipv4, raw, sctp, tcp, udp

from xdpguard.abi import abi
from xdpguard.rules.model import TCP, UDP, Action, Addresses, Hook, Match, Protocols, Rule, RuleSet

NUMBERS = abi().numbers
FOLDER = Path(__file__).resolve().parents[2] / "shared" / "classbench"
NAMES = ("acl1_1k", "acl1_10k", "fw1_10k", "ipc1_10k")
ABSENT = f"no ClassBench rule sets in {FOLDER}"
_LINE = re.compile(
    r"@([\d.]+)/(\d+)\s+([\d.]+)/(\d+)\s+(\d+) : (\d+)\s+(\d+) : (\d+)\s+0x(\w+)/0x(\w+)\s+0x(\w+)/0x(\w+)"
)
PORTS_TOP = 65535
ALL_PORTS = (0, PORTS_TOP)

Values = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class RuleArrays:
    """[rule, 2]: lowest and highest value. ``number``: -1 = any. ``flags``: [rule, 2] value and mask."""

    src: Values
    dst: Values
    sport: Values
    dport: Values
    number: Values
    flags: Values

    def __len__(self) -> int:
        return len(self.number)


@dataclass(frozen=True, slots=True)
class PacketArrays:
    """One value per packet. ``flags``: -1 where it is not TCP."""

    src: Values
    dst: Values
    sport: Values
    dport: Values
    number: Values
    flags: Values

    def __len__(self) -> int:
        return len(self.number)


def read(name: str) -> RuleArrays:
    rows = []
    for line in (FOLDER / name).read_text().splitlines():
        found = _LINE.match(line)
        if found is None:
            raise ValueError(f"{name}: {line!r}")
        rows.append(found.groups())
    src, dst = (np.array([_network(row[at], int(row[at + 1])) for row in rows]) for at in (0, 2))
    sport, dport = (np.array([(int(row[at]), int(row[at + 1])) for row in rows]) for at in (4, 6))
    number = np.array([int(row[8], 16) if int(row[9], 16) else -1 for row in rows])
    # The byte of flags of a TCP header is the upper half; the lower one is always 0.
    flags = np.array([(int(row[10], 16) >> 8, int(row[11], 16) >> 8) for row in rows])
    flags[number != TCP] = 0
    return RuleArrays(src, dst, sport, dport, number, flags)


def _network(address: str, length: int) -> tuple[int, int]:
    value, size = int.from_bytes(bytes(map(int, address.split("."))), "big"), 1 << 32 - length
    return value & -size, value | size - 1


def rule_set(rules: RuleArrays, name: str) -> RuleSet:
    """The rules at ingress, none at egress; every second one drops."""
    made = tuple(
        Rule(f"r{at}", (Action.DROP, Action.PASS)[at % 2], _match(rules, at), None, f"{at:032x}", at + 1, 1)
        for at in range(len(rules))
    )
    return RuleSet(name, Hook(Action.PASS, made), Hook(Action.PASS))


def _match(rules: RuleArrays, at: int) -> Match:
    def addresses(span: Values) -> Addresses | None:
        first, last = span.tolist()
        return None if last - first == (1 << 32) - 1 else Addresses(v4=((first, last),))

    def ports(span: Values) -> tuple[tuple[int, int], ...] | None:
        first, last = span.tolist()
        return None if (first, last) == ALL_PORTS else ((first, last),)

    number, (value, mask) = int(rules.number[at]), rules.flags[at].tolist()
    return Match(
        ipv6=False,
        protocols=None if number < 0 else Protocols(frozenset({number}), frozenset()),
        src=addresses(rules.src[at]),
        dst=addresses(rules.dst[at]),
        sport=ports(rules.sport[at]),
        dport=ports(rules.dport[at]),
        tcp_flags=frozenset(flag for flag in range(256) if flag & mask == value & mask) if mask else None,
    )


def edge_packets(rules: RuleArrays, count: int, seed: int) -> PacketArrays:
    """Every field is at an edge of what some rule allows, inside or just outside; mostly of one rule, some of
    another.
    """
    rng = np.random.default_rng(seed)
    chosen = rng.integers(0, len(rules), count)

    def edge(spans: Values, top: int) -> Values:
        # One field in ten comes from another rule.
        rule = np.where(rng.random(count) < 0.1, rng.integers(0, len(rules), count), chosen)
        low, high = spans[rule].T
        inside = rng.integers(low, high + 1)
        outside = np.where(rng.random(count) < 0.5, low - 1, high + 1)
        way = rng.choice(4, count, p=(0.35, 0.35, 0.22, 0.08))
        made: Values = np.clip(np.choose(way, [low, high, inside, outside]), 0, top)
        return made

    number = rules.number[chosen]
    number = np.where(
        (number < 0) | (rng.random(count) < 0.05), rng.choice([1, 2, 6, 17, 47, 132], count), number
    )
    value, mask = rules.flags[chosen].T
    flags = np.where(
        rng.random(count) < 0.9,
        value & mask | rng.integers(0, 256, count) & ~mask,
        rng.integers(0, 256, count),
    )
    top = (1 << 32) - 1
    src, dst = edge(rules.src, top), edge(rules.dst, top)
    sport, dport = edge(rules.sport, PORTS_TOP), edge(rules.dport, PORTS_TOP)
    return PacketArrays(src, dst, sport, dport, number, np.where(number == TCP, flags, -1))


def first_matches(rules: RuleArrays, packets: PacketArrays) -> Values:
    """The first matching rule of each packet by asking all rules; -1: none."""
    first = np.full(len(packets), -1)
    has_ports = np.isin(packets.number, (TCP, UDP, 132))
    wants_ports = ((rules.sport != ALL_PORTS) | (rules.dport != ALL_PORTS)).any(axis=1)
    for begin in range(0, len(packets), 256):
        part = slice(begin, begin + 256)
        fits = np.ones((len(packets.src[part]), len(rules)), dtype=bool)
        for name in ("src", "dst", "sport", "dport"):
            low, high = getattr(rules, name).T
            value = getattr(packets, name)[part, None]
            fits &= (
                (value >= low) & (value <= high)
                if name in ("src", "dst")
                else (~wants_ports | ((value >= low) & (value <= high)))
            )
        fits &= has_ports[part, None] | ~wants_ports
        fits &= (rules.number < 0) | (rules.number == packets.number[part, None])
        value, mask = rules.flags.T
        fits &= (mask == 0) | ((packets.flags[part, None] & mask) == (value & mask))
        found = fits.any(axis=1)
        first[part] = np.where(found, fits.argmax(axis=1), -1)
    return first


def frame(packets: PacketArrays, at: int) -> bytes:
    """As a frame. Numbers that are none of TCP, UDP, SCTP get a payload that any header fits."""
    number, sport, dport = (int(each[at]) for each in (packets.number, packets.sport, packets.dport))
    upper = {
        6: tcp(sport, dport, max(int(packets.flags[at]), 0)),
        17: udp(sport, dport),
        132: sctp(sport, dport),
    }.get(number, raw(bytes(16), number))
    return bytes(eth() / ipv4(int(packets.src[at]), int(packets.dst[at])) / upper).ljust(60, b"\0")


def indices(packets: PacketArrays) -> list[Indices]:
    """As the parser would have them."""
    found = []
    for src, dst, sport, dport, number, flags in zip(
        *(getattr(packets, name).tolist() for name in ("src", "dst", "sport", "dport", "number", "flags")),
        strict=True,
    ):
        has_ports = number in (6, 17, 132)
        l4 = NUMBERS["XG_L4_TCP4"] + flags if number == 6 else NUMBERS["XG_L4_IPV4"] + number
        if number in (1, 17, 132):
            l4 += NUMBERS["XG_L4_HEADER"]
        sport, dport = (sport, dport) if has_ports else (0, 0)
        found.append(Indices(4, src, dst, sport, dport, l4, NUMBERS["XG_VLAN_NONE"]))
    return found
