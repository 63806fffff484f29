"""Which IP protocols a rule can match, from ``proto``, ``not: {proto}`` and the fields that imply some.

Owns the table of which fields exist in which protocols. Must never look at values of other fields.
"""

from __future__ import annotations

from dataclasses import dataclass

from .fields import ARP, Fields
from .model import ICMP, ICMPV6, PORT_PROTOCOLS, PROTOCOLS, TCP, Protocols
from .report import Report

ALL = frozenset(range(256))
EVERY = Protocols(ALL, ALL)
_NAMES = {number: name for name, number in PROTOCOLS.items()}

_PORTS = Protocols(PORT_PROTOCOLS, PORT_PROTOCOLS)
_TCP = Protocols(frozenset({TCP}), frozenset({TCP}))
_ICMP = Protocols(frozenset({ICMP}), frozenset({ICMPV6}))

NEEDS = {"sport": _PORTS, "dport": _PORTS, "tcp_flags": _TCP, "icmp_type": _ICMP, "icmp_code": _ICMP}
"""Key -> the protocols whose packets have the field."""

_NOT_IN_ARP = ("family", "src", "dst", *NEEDS)


@dataclass(frozen=True, slots=True)
class Wanted:
    """``ip`` None = any IP protocol. Both families empty = the rule is for ARP alone."""

    ip: Protocols | None = None
    arp: bool = False


_ANY = Wanted()


def resolve_protocols(plain: Fields, negated: Fields, report: Report) -> Wanted | None:
    """The protocols of a rule, or None when the reason is in the report."""
    before = report.errors
    if _refused(plain) or _refused(negated):
        return None
    arp = plain.proto is not None and ARP in plain.proto
    if arp:
        _check_arp(plain, negated, report)
    if negated.proto is not None and ARP in negated.proto:
        report.error(negated.marks["proto"], "arp cannot stand under not: proto there means IP protocols")
    removed = None if negated.proto is None else _by_family(negated.proto)
    listed = None if plain.proto is None else _without(_by_family(plain.proto), removed)
    implied = _check_needs(plain, negated, listed, report)
    if report.errors > before:
        return None
    if listed is not None:
        wanted = listed
    elif implied is not None or removed is not None:
        wanted = _without(implied or EVERY, removed)
    else:
        return _ANY
    if not wanted.v4 and not wanted.v6 and not arp:
        report.error(negated.marks["proto"], "not: {proto} leaves no protocol that this rule could match")
        return None
    return Wanted(wanted, arp)


def _refused(fields: Fields) -> bool:
    return fields.proto is None and "proto" in fields.marks


def _by_family(numbers: frozenset[int]) -> Protocols:
    """ICMP is a protocol of IPv4 only, ICMPv6 of IPv6 only."""
    return Protocols(numbers - {ARP, ICMPV6}, numbers - {ARP, ICMP})


def _without(some: Protocols, removed: Protocols | None) -> Protocols:
    return some if removed is None else Protocols(some.v4 - removed.v4, some.v6 - removed.v6)


def _check_arp(plain: Fields, negated: Fields, report: Report) -> None:
    for fields in (plain, negated):
        for key in _NOT_IN_ARP:
            if key in fields.marks:
                words = f"{key} does not exist in ARP; write a rule of its own for proto arp"
                report.error(fields.marks[key], words)
    if "proto" in negated.marks:
        words = "not: {proto} does not fit proto arp, which is no IP protocol"
        report.error(negated.marks["proto"], words)


def _check_needs(
    plain: Fields, negated: Fields, listed: Protocols | None, report: Report
) -> Protocols | None:
    """Compares each field with the list; returns the protocols that the fields imply, None if none does."""
    implied: Protocols | None = None
    first = ""
    for fields in (plain, negated):
        for key, mark in fields.marks.items():
            has = NEEDS.get(key)
            if has is None:
                continue
            extra = frozenset() if listed is None else (listed.v4 - has.v4) | (listed.v6 - has.v6)
            if extra:
                words = f"{key} exists only in {names(has.v4 | has.v6)}; proto also allows {names(extra)}"
                report.error(mark, words)
            elif implied is None:
                implied, first = has, key
            elif not implied.v4 & has.v4:
                report.error(mark, f"{key} and {first} never occur in one packet")
            else:
                implied = Protocols(implied.v4 & has.v4, implied.v6 & has.v6)
    return implied


def names(numbers: frozenset[int]) -> str:
    """Protocols in words, at most four of them."""
    ordered = sorted(numbers)
    words = ", ".join(_NAMES.get(number, str(number)) for number in ordered[:4])
    return words + (f" and {len(ordered) - 4} more" if len(ordered) > 4 else "")
