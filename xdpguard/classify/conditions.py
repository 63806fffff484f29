"""One rule's Match -> the values that each dimension of the classifier allows.

Pure. A dimension's values are the indices that ``bpf/include/l4.h`` gives a packet; their layout is in abi.h
(XG_PORT_*, XG_L4_*, XG_VLAN_*). ``None`` = the rule does not look at the dimension.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache

from xdpguard.abi import abi
from xdpguard.rules.model import TCP, VLAN_NONE, Interval, Intervals, Match, Protocols

_NUMBERS = abi().numbers
PORT_ICMP = _NUMBERS["XG_PORT_ICMP"]
SMALL = ("sport", "dport", "l4", "vlan")  # enum xg_small
PAGES = {
    "sport": _NUMBERS["XG_PORT_PAGES"],
    "dport": _NUMBERS["XG_PORT_PAGES"],
    "l4": _NUMBERS["XG_L4_PAGES"],
    "vlan": _NUMBERS["XG_VLAN_PAGES"],
}
if _NUMBERS["XG_VLAN_NONE"] != VLAN_NONE:
    raise AssertionError("abi.h and rules/model.py disagree on the value of an untagged packet")


@dataclass(frozen=True, slots=True)
class Conditions:
    """Allowed values per dimension. Address tuples are 32-bit and 128-bit integers."""

    src4: Intervals | None
    dst4: Intervals | None
    src6: Intervals | None
    dst6: Intervals | None
    sport: Intervals | None
    dport: Intervals | None
    l4: Intervals | None
    vlan: Intervals | None


def conditions(match: Match) -> Conditions:
    return Conditions(
        src4=match.src.v4 if match.src else None,
        dst4=match.dst.v4 if match.dst else None,
        src6=match.src.v6 if match.src else None,
        dst6=match.dst.v6 if match.dst else None,
        sport=_port_or_icmp(match.sport, match.icmp_type),
        dport=_port_or_icmp(match.dport, match.icmp_code),
        l4=_l4(match.arp, match.ipv4, match.ipv6, match.protocols, match.tcp_flags),
        vlan=match.vlan,
    )


def _port_or_icmp(ports: Intervals | None, icmp: Intervals | None) -> Intervals | None:
    """A rule has ports or ICMP fields, never both: their protocols differ."""
    if ports is not None and icmp is not None:
        return ()
    if icmp is not None:
        return tuple((first + PORT_ICMP, last + PORT_ICMP) for first, last in icmp)
    return ports


@lru_cache(maxsize=4096)
def _l4(
    arp: bool, ipv4: bool, ipv6: bool, protocols: Protocols | None, flags: frozenset[int] | None
) -> Intervals:
    """Indices of the L4 dimension. A TCP flag condition holds only where the flags could be read."""
    every = frozenset(range(256))
    values: set[int] = set()
    if arp:
        values.add(_NUMBERS["XG_L4_ARP"])
    families = (
        (ipv4, protocols.v4 if protocols else every, _NUMBERS["XG_L4_IPV4"], _NUMBERS["XG_L4_TCP4"]),
        (ipv6, protocols.v6 if protocols else every, _NUMBERS["XG_L4_IPV6"], _NUMBERS["XG_L4_TCP6"]),
    )
    for wanted, allowed, base, tcp_base in families:
        if not wanted:
            continue
        if flags is None:
            values.update(base + number for number in allowed)
        if TCP in allowed:
            values.update(tcp_base + flag for flag in (every if flags is None else flags))
    return to_intervals(values)


def to_intervals(values: Iterable[int]) -> Intervals:
    """Sorted, disjoint, not adjacent intervals of a set of integers."""
    intervals: list[Interval] = []
    for value in sorted(values):
        if intervals and intervals[-1][1] + 1 == value:
            intervals[-1] = (intervals[-1][0], value)
        else:
            intervals.append((value, value))
    return tuple(intervals)
