"""The match keys of one rule, together: negation, implied protocols and families, one Match.

Owns how keys act on each other. Must never read a value from the tree; fields.py and icmp.py do.
"""

from __future__ import annotations

from .addresses import WHOLE
from .families import BOTH, IPV4, IPV6, resolve_families
from .fields import MATCH_KEYS, Fields, Reader
from .icmp import ICMP_KEYS, read_icmp
from .intervals import intersection, without
from .joins import Joins
from .model import ICMP, ICMPV6, Addresses, Intervals, Match, Protocols
from .protocols import ALL, Wanted, resolve_protocols
from .report import Report
from .tree import Mapping, check_keys

_NOTHING = Fields()
_NO_ICMP: tuple[None, None] = (None, None)
_IDS = ((0, 4095),)
_ANY_VLAN = ((0, 4096),)


class Matcher:
    """Builds the Match of each rule of one file."""

    def __init__(self, reader: Reader, report: Report, joins: Joins) -> None:
        self._reader = reader
        self._report = report
        self._joins = joins
        self._flags: dict[frozenset[int], frozenset[int]] = {}
        self._protocols: dict[tuple[frozenset[int], frozenset[int], int], Protocols | None] = {}

    def build(self, rule: Mapping) -> Match | None:
        """The Match of a rule, or None when the reason is in the report."""
        report, before = self._report, self._report.errors
        plain = self._reader.read(rule)
        negated = self._negated(rule)
        wanted = resolve_protocols(plain, negated, report)
        families = resolve_families(rule, plain, negated, wanted.ip if wanted is not None else None, report)
        icmp: tuple[Intervals | None, Intervals | None] = _NO_ICMP
        if any(key in plain.marks or key in negated.marks for key in ICMP_KEYS):
            protocol = self._one_icmp(plain, negated, wanted, families)
            icmp = read_icmp(plain, negated, protocol, self._reader)
        if report.errors > before or wanted is None or families is None:
            return None
        return self._assemble(plain, negated, wanted, families, icmp)

    def _negated(self, rule: Mapping) -> Fields:
        node = rule.items.get("not")
        if node is None:
            return _NOTHING
        if not isinstance(node, Mapping) or not node.marks:
            what = "is empty; give it" if isinstance(node, Mapping) else "takes a mapping of"
            words = f"not {what} match keys, as in not: {{dst: 192.0.2.0/24}}"
            self._report.error(node.mark, words)
            return _NOTHING
        check_keys(node, MATCH_KEYS, "not", self._report)
        return self._reader.read(node)

    def _one_icmp(
        self, plain: Fields, negated: Fields, wanted: Wanted | None, families: int | None
    ) -> int | None:
        """The one of ICMP and ICMPv6 that the ICMP fields speak of, or None when an error says why not."""
        if wanted is None or families is None or wanted.ip is None:
            return None
        if families != BOTH and not ("proto" in plain.marks and wanted.ip.v4 and wanted.ip.v6):
            return ICMP if families == IPV4 else ICMPV6
        fields = plain if any(key in plain.marks for key in ICMP_KEYS) else negated
        key = next(key for key in ICMP_KEYS if key in fields.marks)
        words = (
            f"{key} needs one of proto icmp and icmpv6, whose numbers differ; write two rules, one for each"
        )
        self._report.error(fields.marks[key], words)
        return None

    def _assemble(
        self,
        plain: Fields,
        negated: Fields,
        wanted: Wanted,
        families: int,
        icmp: tuple[Intervals | None, Intervals | None],
    ) -> Match:
        src = self._addresses(plain.src, negated, "src")
        dst = self._addresses(plain.dst, negated, "dst")
        if wanted.ip is not None:
            families &= _families(bool(wanted.ip.v4), bool(wanted.ip.v6))
            self._warn_idle_icmp(plain, families)
        for addresses in (src, dst):
            if addresses is not None:
                families &= _families(bool(addresses.v4), bool(addresses.v6))
        vlan = without(plain.vlan, _tagged(negated.vlan), 0, 4095)
        return Match(
            arp=wanted.arp,
            ipv4=bool(families & IPV4),
            ipv6=bool(families & IPV6),
            protocols=self._cut_protocols(wanted.ip, families) if wanted.ip is not None else None,
            src=_cut(src, families),
            dst=_cut(dst, families),
            sport=self._ports(plain.sport, negated, "sport"),
            dport=self._ports(plain.dport, negated, "dport"),
            tcp_flags=self._flags_left(plain.tcp_flags, negated.tcp_flags),
            icmp_type=icmp[0],
            icmp_code=icmp[1],
            vlan=None if vlan == _ANY_VLAN else vlan,
        )

    def _flags_left(
        self, wanted: frozenset[int] | None, banned: frozenset[int] | None
    ) -> frozenset[int] | None:
        if banned is None:
            return wanted
        left = (ALL if wanted is None else wanted) - banned
        return self._flags.setdefault(left, left)  # 8 KiB, one for all rules

    def _warn_idle_icmp(self, plain: Fields, families: int) -> None:
        """A list that names icmp beside others is no contradiction to IPv6, but surely a slip."""
        if families in (0, BOTH) or plain.proto is None or len(plain.proto) > 128:
            return
        idle, name = (ICMPV6, "icmpv6") if families == IPV4 else (ICMP, "icmp")
        if idle in plain.proto:
            other = "ipv4" if families == IPV4 else "ipv6"
            words = f"{name} can never match here: the rule is {other} only"
            self._report.warning(plain.marks["proto"], words)

    def _cut_protocols(self, protocols: Protocols, families: int) -> Protocols | None:
        """The protocols of the rule's families; None when they are all of them, which says nothing."""
        key = (protocols.v4, protocols.v6, families)
        if key not in self._protocols:
            v4 = protocols.v4 if families & IPV4 else frozenset()
            v6 = protocols.v6 if families & IPV6 else frozenset()
            whole = (not families & IPV4 or v4 == ALL) and (not families & IPV6 or v6 == ALL)
            self._protocols[key] = None if whole else Protocols(v4, v6)
        return self._protocols[key]

    def _addresses(self, wanted: Addresses | None, negated: Fields, key: str) -> Addresses | None:
        banned: Addresses | None = getattr(negated, key)
        if banned is None:
            return wanted
        mark = negated.marks[key]
        empty = not banned.v4 and not banned.v6  # an empty set file bans nothing, in neither family
        allowed = Addresses(
            self._joins.complement(banned.v4, *WHOLE[4], mark) if banned.v4 or empty else (),
            self._joins.complement(banned.v6, *WHOLE[6], mark) if banned.v6 or empty else (),
        )
        if wanted is None:
            return allowed
        return Addresses(
            self._joins.intersection(wanted.v4, allowed.v4, mark),
            self._joins.intersection(wanted.v6, allowed.v6, mark),
        )

    def _ports(self, wanted: Intervals | None, negated: Fields, key: str) -> Intervals | None:
        banned: Intervals | None = getattr(negated, key)
        return wanted if banned is None else self._joins.without(wanted, banned, 0, 65535, negated.marks[key])


def _families(v4: bool, v6: bool) -> int:
    return (IPV4 if v4 else 0) | (IPV6 if v6 else 0)


def _cut(addresses: Addresses | None, families: int) -> Addresses | None:
    """The addresses of the rule's families; None when they are all of them, which says nothing."""
    if addresses is None:
        return None
    v4 = addresses.v4 if families & IPV4 else ()
    v6 = addresses.v6 if families & IPV6 else ()
    whole = (not families & IPV4 or v4 == (WHOLE[4],)) and (not families & IPV6 or v6 == (WHOLE[6],))
    if families and whole:
        return None
    return addresses if v4 is addresses.v4 and v6 is addresses.v6 else Addresses(v4, v6)


def _tagged(vlans: Intervals | None) -> Intervals | None:
    """``none`` under ``not`` leaves any tagged packet, like every negation of ids."""
    return None if vlans is None else intersection(vlans, _IDS)
