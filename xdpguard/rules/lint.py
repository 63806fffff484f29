"""Rules that can never match, found on the finished RuleSet.

Exact: a rule is named only if it surely matches no packet, or if one single earlier rule of its hook surely
matches all its packets. It does not find:
- a rule that only several earlier rules together cover;
- one that never meets a packet because the filter itself decides (malformed, fragments);
- to stay fast, one whose covering rule is not among the first CANDIDATES that the index offers, or one with a
  field of more than MAX_PARTS intervals that lies within a different set of several intervals; nor, once
  PATIENCE is at its end, one with such a field of more than FEW_PARTS.
Must never refuse a file.
"""

from __future__ import annotations

from collections.abc import Iterator

from xdpguard.errors import Problem

from .addresses import WHOLE
from .intervals import covers
from .many import Rules
from .model import Addresses, Interval, Intervals, Match, Rule, RuleSet

MAX_PARTS = 1024
"""Most intervals of a field that is compared piece by piece with one of another set."""

FEW_PARTS = 16
"""With more intervals than these, fields are equal at first sight only if they are one object, and comparing
them takes patience."""

PATIENCE = 2_000_000
"""Intervals that are compared piece by piece in one hook, about a microsecond each."""

CANDIDATES = 64
"""How many earlier rules one rule is compared with at most."""

_Key = tuple[str, int, int]
_Filed = tuple[int, Match]


def lint(ruleset: RuleSet) -> list[Problem]:
    """Warnings in the order of the rules, ingress first. About 10 microseconds a rule."""
    return [
        Problem(rule.file or ruleset.file, rule.line, rule.column, "warning", message)
        for hook in (ruleset.ingress, ruleset.egress)
        for rule, message in _hook(Rules.of(hook.rules))
    ]


def _hook(rules: Rules) -> Iterator[tuple[Rule, str]]:
    index = _Index()
    for at, match in enumerate(rules.matches):
        if matches_nothing(match):
            rule = rules[at]
            yield rule, f"rule '{rule.name}' can never match: no packet meets all its conditions"
            continue
        cover = index.cover(match)
        if cover is None:
            index.add(at, match)
        else:
            rule, earlier = rules[at], rules[cover]
            other = f" of {earlier.file}" if earlier.file != rule.file and earlier.file else ""
            where = f"rule '{earlier.name}' in line {earlier.line}{other}"
            yield rule, f"rule '{rule.name}' can never match: {where} takes all its packets"


class _Index:
    """Earlier rules, each filed once: under the smallest aligned block around one of its fields.

    A rule that covers another has a block around the other's, so the blocks around a field's first value
    are all there is to look at. Among its fields a rule takes the one with the fewest rules there.
    """

    def __init__(self) -> None:
        self._same: dict[tuple[object, ...], int] = {}
        self._blocks: dict[_Key, list[_Filed]] = {}
        self._sizes: dict[str, set[int]] = {}
        self._broad: list[_Filed] = []
        self._patience = _Patience()

    def add(self, at: int, match: Match) -> None:
        """Rule number ``at``."""
        self._same.setdefault(_signature(match), at)
        choices = [[_block(name, part) for name, part in hulls] for hulls in _hulls(match)]
        if not choices:
            self._broad.append((at, match))
            return
        keys = min(choices, key=lambda some: max(len(self._blocks.get(key, ())) for key in some))
        for key in keys:
            self._blocks.setdefault(key, []).append((at, match))
            self._sizes.setdefault(key[0], set()).add(key[1])

    def cover(self, match: Match) -> int | None:
        """An earlier rule that matches every packet of ``match``."""
        same = self._same.get(_signature(match))
        if same is not None:
            return same
        left = CANDIDATES
        for at, earlier in self._candidates(match):
            if _includes(earlier, match, self._patience):
                return at
            left -= 1
            if not left:
                return None
        return None

    def _candidates(self, match: Match) -> Iterator[_Filed]:
        yield from self._broad
        for name, part in _probes(match):
            _, size, _ = _block(name, part)
            for other in self._sizes.get(name, ()):
                if other >= size:
                    yield from self._blocks.get((name, other, part[0] >> other), ())


def _signature(match: Match) -> tuple[object, ...]:
    """Equal signatures mean equal matches. A big set counts by identity: its hash would cost too much."""
    return (
        (match.arp, match.ipv4, match.ipv6, match.protocols, match.tcp_flags),
        *_of_addresses(match.src),
        *_of_addresses(match.dst),
        *(_short(parts) for _, parts in _plain(match)),
    )


def _of_addresses(addresses: Addresses | None) -> tuple[object, object]:
    return (None, None) if addresses is None else (_short(addresses.v4), _short(addresses.v6))


def _short(parts: Intervals | None) -> object:
    return parts if parts is None or len(parts) <= FEW_PARTS else id(parts)


def _block(name: str, part: Interval) -> _Key:
    """The smallest aligned power-of-two block that holds an interval."""
    size = (part[0] ^ part[1]).bit_length()
    return name, size, part[0] >> size


def _hulls(match: Match) -> Iterator[list[tuple[str, Interval]]]:
    """First to last value of each field that the rule looks at; an address field has one for each family."""
    for name, addresses in (("src", match.src), ("dst", match.dst)):
        if addresses is not None:
            both = ((name + "4", addresses.v4), (name + "6", addresses.v6))
            yield [(key, (parts[0][0], parts[-1][1])) for key, parts in both if parts]
    for name, parts in _plain(match):
        if parts:
            yield [(name, (parts[0][0], parts[-1][1]))]


def _probes(match: Match) -> Iterator[tuple[str, Interval]]:
    """The hulls to look up: of one family that the rule can match, with "any address" as one big block."""
    version = 4 if match.ipv4 else 6
    if match.ipv4 or match.ipv6:
        for name, addresses in (("src", match.src), ("dst", match.dst)):
            whole = _of_version(addresses, version)
            yield f"{name}{version}", (whole[0][0], whole[-1][1])
    for name, parts in _plain(match):
        if parts:
            yield name, (parts[0][0], parts[-1][1])


def _plain(match: Match) -> tuple[tuple[str, Intervals | None], ...]:
    return (
        ("dport", match.dport),
        ("sport", match.sport),
        ("icmp_type", match.icmp_type),
        ("icmp_code", match.icmp_code),
        ("vlan", match.vlan),
    )


def matches_nothing(match: Match) -> bool:
    """True if no packet can meet all conditions."""
    if match.vlan == ():
        return True
    if match.arp:
        return False
    fields = (match.sport, match.dport, match.icmp_type, match.icmp_code, match.tcp_flags)
    if any(values is not None and not values for values in fields):
        return True
    return not (_has_family(match, 4) or _has_family(match, 6))


def _has_family(match: Match, version: int) -> bool:
    if not (match.ipv4 if version == 4 else match.ipv6):
        return False
    if not _of_version(match.src, version) or not _of_version(match.dst, version):
        return False
    return match.protocols is None or bool(match.protocols.v4 if version == 4 else match.protocols.v6)


def _of_version(addresses: Addresses | None, version: int) -> Intervals:
    if addresses is None:
        return (WHOLE[version],)
    return addresses.v4 if version == 4 else addresses.v6


class _Patience:
    """Whether one set of values lies within another, as long as PATIENCE lasts."""

    def __init__(self) -> None:
        self._left = PATIENCE

    def covers(self, outer: Intervals, inner: Intervals) -> bool:
        """True: surely."""
        if len(inner) > FEW_PARTS and len(outer) > 1 and inner is not outer:
            if len(inner) > min(MAX_PARTS, self._left):
                return False
            self._left -= len(inner)
        return covers(outer, inner)


def _includes(outer: Match, inner: Match, patience: _Patience) -> bool:
    """True if surely every packet of ``inner`` is one of ``outer``."""
    if (inner.arp and not outer.arp) or not _within(outer.vlan, inner.vlan, patience):
        return False
    for version, wanted, has in ((4, inner.ipv4, outer.ipv4), (6, inner.ipv6, outer.ipv6)):
        if wanted and not (has and _family_within(outer, inner, version, patience)):
            return False
    if not (inner.ipv4 or inner.ipv6):
        return True
    if outer.tcp_flags is not None and (inner.tcp_flags is None or not inner.tcp_flags <= outer.tcp_flags):
        return False
    both = zip(_plain(outer), _plain(inner), strict=True)
    return all(_within(mine, its, patience) for (_, mine), (_, its) in both)


def _within(outer: Intervals | None, inner: Intervals | None, patience: _Patience) -> bool:
    return outer is None or (inner is not None and patience.covers(outer, inner))


def _family_within(outer: Match, inner: Match, version: int, patience: _Patience) -> bool:
    """Addresses and protocols of one family."""
    for mine, its in ((outer.src, inner.src), (outer.dst, inner.dst)):
        if mine is None:
            continue
        if not patience.covers(_of_version(mine, version), _of_version(its, version)):
            return False
    if outer.protocols is None:
        return True
    if inner.protocols is None:
        return False
    if version == 4:
        return inner.protocols.v4 <= outer.protocols.v4
    return inner.protocols.v6 <= outer.protocols.v6
