"""One rule's Match -> the values that each dimension of the classifier allows.

Pure. A dimension's values are the indices that ``bpf/include/l4.h`` gives a packet; their layout is in abi.h
(XG_L4_*, XG_VLAN_*). ``None`` = the rule does not look at the dimension.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

from xdpguard.abi import abi
from xdpguard.rules.intervals import from_values, union
from xdpguard.rules.model import (
    ICMP,
    ICMPV6,
    PORT_PROTOCOLS,
    TCP,
    VLAN_NONE,
    Interval,
    Intervals,
    Match,
    Protocols,
)

_NUMBERS = abi().numbers
FIELDS = {"src4": 32, "dst4": 32, "src6": 128, "dst6": 128, "sport": 16, "dport": 16, "l4": 16, "vlan": 16}
"""The dimensions, and how many bits a value of each has at most."""
SMALL = ("sport", "dport", "l4", "vlan")  # enum xg_small
PAGES = {
    "sport": _NUMBERS["XG_PORT_PAGES"],
    "dport": _NUMBERS["XG_PORT_PAGES"],
    "l4": _NUMBERS["XG_L4_PAGES"],
    "vlan": _NUMBERS["XG_VLAN_PAGES"],
}
if _NUMBERS["XG_VLAN_NONE"] != VLAN_NONE:
    raise AssertionError("abi.h and rules/model.py disagree on the value of an untagged packet")
_IPV4, _IPV6, _HEADER = (_NUMBERS[f"XG_L4_{name}"] for name in ("IPV4", "IPV6", "HEADER"))
_EVERY = frozenset(range(256))


@dataclass(frozen=True, slots=True)
class Conditions:
    """Allowed values per dimension."""

    src4: Intervals | None
    dst4: Intervals | None
    src6: Intervals | None
    dst6: Intervals | None
    sport: Intervals | None
    dport: Intervals | None
    l4: Intervals
    vlan: Intervals | None


def conditions(match: Match) -> Conditions:
    ports = match.sport is not None or match.dport is not None
    icmp = match.icmp_type is not None or match.icmp_code is not None
    return Conditions(
        src4=match.src.v4 if match.src else None,
        dst4=match.dst.v4 if match.dst else None,
        src6=match.src.v6 if match.src else None,
        dst6=match.dst.v6 if match.dst else None,
        sport=match.sport if ports else match.icmp_type,
        dport=match.dport if ports else match.icmp_code,
        l4=_l4(match.arp, match.ipv4, match.ipv6, match.protocols, match.tcp_flags, ports, icmp),
        vlan=match.vlan,
    )


@lru_cache(maxsize=4096)
def _l4(
    arp: bool,
    ipv4: bool,
    ipv6: bool,
    protocols: Protocols | None,
    flags: frozenset[int] | None,
    ports: bool,
    icmp: bool,
) -> Intervals:
    """Indices of the L4 dimension. A condition on ports, ICMP fields or TCP flags holds only where they could
    be read, so only with the indices of packets whose header was."""
    parts: list[Interval] = []
    if arp:
        parts.append((_NUMBERS["XG_L4_ARP"], _NUMBERS["XG_L4_ARP"]))
    families = (
        (ipv4, protocols.v4 if protocols else _EVERY, _IPV4, _NUMBERS["XG_L4_TCP4"], ICMP),
        (ipv6, protocols.v6 if protocols else _EVERY, _IPV6, _NUMBERS["XG_L4_TCP6"], ICMPV6),
    )
    for wanted, allowed, base, tcp_base, icmp_number in families:
        if not wanted:
            continue
        readable = allowed
        if ports:
            readable = readable & PORT_PROTOCOLS
        if icmp:
            readable = readable & {icmp_number}
        if flags is None:
            parts += _from(_HEADER + base, readable)
            if not ports and not icmp:
                parts += _from(base, allowed)
        if TCP in readable:
            parts += _from(tcp_base, _EVERY if flags is None else flags)
    return union(parts)


def _from(base: int, values: frozenset[int]) -> list[Interval]:
    return [(base + first, base + last) for first, last in _intervals(values)]


# Of both families the flags, and mostly the protocols, are one.
_intervals = lru_cache(maxsize=256)(from_values)
