"""The rule set as plain data: what a rule file says, after every name, set and default is resolved.

Nothing here knows YAML, NumPy or the kernel. The parser (``rules/parse.py``) is the only maker; ``lint``
and ``classify`` are readers. All intervals are inclusive at both ends and all values are host integers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum

Interval = tuple[int, int]
"""(first, last), both included."""

Intervals = tuple[Interval, ...]
"""Sorted, disjoint, not adjacent. The empty tuple matches nothing."""


class Action(IntEnum):
    """What happens to a packet. The values are XDP's own (uapi/linux/bpf.h, enum xdp_action)."""

    ABORTED = 0  # never written in a rule: a redirect whose target is gone
    DROP = 1
    PASS = 2
    TX = 3
    REDIRECT = 4


# IANA protocol numbers by the names a rule may use. "arp" is not an IP protocol: see Match.arp.
PROTOCOLS = {
    "icmp": 1, "igmp": 2, "ipip": 4, "tcp": 6, "udp": 17, "dccp": 33, "ipv6": 41, "gre": 47, "esp": 50,
    "ah": 51, "icmpv6": 58, "ospf": 89, "pim": 103, "vrrp": 112, "l2tp": 115, "sctp": 132, "udplite": 136,
}  # fmt: skip
ICMP, TCP, UDP, ICMPV6, SCTP = 1, 6, 17, 58, 132
PORT_PROTOCOLS = frozenset({TCP, UDP, SCTP})

# TCP header byte 13 (RFC 9293 3.1).
TCP_FLAGS = {"fin": 1, "syn": 2, "rst": 4, "psh": 8, "ack": 16, "urg": 32, "ece": 64, "cwr": 128}

VLAN_NONE = 4096
"""The value of the VLAN field of an untagged packet; real ids are 0-4095, taken from the outermost tag."""


@dataclass(frozen=True, slots=True)
class Addresses:
    """The addresses one condition allows. A family whose tuple is empty cannot match."""

    v4: Intervals = ()
    v6: Intervals = ()


@dataclass(frozen=True, slots=True)
class Protocols:
    """The IP protocol numbers one condition allows, per family.

    They differ because ICMP (1) is a protocol of IPv4 only and ICMPv6 (58) of IPv6 only: ``proto: icmp`` is
    v4={1}, v6={}; ``not: {proto: icmp}`` is v4=all but 1, v6=all; ``not: {proto: tcp}`` is all but 6 in both,
    so that an IPv6 packet that claims protocol 1 does not slip past it.
    """

    v4: frozenset[int] = frozenset()
    v6: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Match:
    """The conditions of one rule; all must hold. ``None`` = the rule does not look at this field.

    Negation is already resolved: a ``not`` is stored as the complement within the values the field can have
    in a packet that has the field. So ``None`` and "every value" differ: the second needs the field to exist.
    """

    arp: bool = False  # ARP frames, beside what the other fields say about IP
    ipv4: bool = True  # may match IPv4
    ipv6: bool = True  # may match IPv6
    protocols: Protocols | None = None
    src: Addresses | None = None
    dst: Addresses | None = None
    sport: Intervals | None = None  # 0-65535; only TCP, UDP and SCTP with a readable L4 header have ports
    dport: Intervals | None = None
    tcp_flags: frozenset[int] | None = None  # allowed values of the flags byte, 0-255
    icmp_type: Intervals | None = None  # 0-255; ICMP or ICMPv6 as `protocols` says
    icmp_code: Intervals | None = None
    vlan: Intervals | None = None  # 0-4095, and VLAN_NONE


@dataclass(frozen=True, slots=True)
class Redirect:
    """Where a redirected packet goes. ``dst_mac`` is None when the frame stays unchanged."""

    interface: str
    dst_mac: bytes | None = None


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule. ``key`` names its counters across reloads: the rule's name and a hash of its meaning."""

    name: str
    action: Action
    match: Match
    redirect: Redirect | None  # present if and only if action is REDIRECT
    key: str  # 32 hex digits: BLAKE2s-128 over hook, name, match, action
    line: int  # of the rule in its file, from 1
    column: int
    comment: str = ""
    file: str = ""  # the rules file it stands in; "": the rule file itself


@dataclass(frozen=True, slots=True)
class Hook:
    """The rules of one direction in their order, and what happens when none matches (PASS or DROP)."""

    default: Action
    rules: Sequence[Rule] = ()


@dataclass(frozen=True, slots=True)
class RuleSet:
    """One rule file. ``content_hash`` covers the file and every file that it names."""

    file: str
    ingress: Hook
    egress: Hook
    malformed: Action = Action.DROP  # DROP or PASS
    drop_fragments: bool = False  # `fragments: drop`
    content_hash: str = ""
    notes: tuple[str, ...] = field(default=())  # warnings and notes of the parser, each one printable line

    def place(self, rule: Rule) -> str:
        """FILE:LINE:COLUMN of a rule."""
        return f"{rule.file or self.file}:{rule.line}:{rule.column}"
