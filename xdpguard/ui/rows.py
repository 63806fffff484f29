"""A Snapshot as rows, one per counter, with rates since an earlier Snapshot: what every format is made from.

Pure data; must never decide how a row looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from xdpguard.stats.model import Count, HookCounts, InterfaceCounts, RuleCount, Snapshot

VIEWS = ("action", "protocol", "rule", "reason")
"""What ``--by`` takes."""

KINDS = {
    None: ("action", "protocol", "rule", "default", "reason"),
    "action": ("action",),
    "protocol": ("protocol",),
    "rule": ("rule", "default"),
    "reason": ("reason",),
}
"""View -> the kinds of rows that it shows."""


@dataclass(frozen=True, slots=True)
class Rate:
    packets: float  # per second
    bits: float  # per second, of whole frames without FCS


@dataclass(frozen=True, slots=True)
class Row:
    """One counter. ``action`` is "" unless the row is a rule or the default."""

    kind: str  # "seen" | "action" | "protocol" | "rule" | "default" | "reason"
    name: str
    action: str
    count: Count
    rate: Rate | None  # None: not asked for, or not known (first reading, reload, counters that went back)
    retired: bool = False


@dataclass(frozen=True, slots=True)
class HookRows:
    """One direction. ``rows`` holds actions, protocols, rules, default, reasons, in this order."""

    hook: str  # "ingress" | "egress"
    seen: Row
    rows: tuple[Row, ...]

    def of(self, *kinds: str) -> list[Row]:
        return [row for row in self.rows if row.kind in kinds]


@dataclass(frozen=True, slots=True)
class InterfaceRows:
    counts: InterfaceCounts
    hooks: tuple[HookRows, HookRows]


def collect(snapshot: Snapshot, previous: Snapshot | None = None) -> list[InterfaceRows]:
    """The rows of every interface. Rates are per second between the two snapshots' times.

    An interface that was not in ``previous`` (or came back with another ifindex) has no rates. After a reload
    the rules have none for one interval: the same name may stand for another rule.
    """
    if previous is None:
        return [_interface(counts, None, 0.0) for counts in snapshot.interfaces]
    seconds = snapshot.time - previous.time
    before = {(counts.netns, counts.ifindex): counts for counts in previous.interfaces}
    return [
        _interface(counts, before.get((counts.netns, counts.ifindex)), seconds)
        for counts in snapshot.interfaces
    ]


def _interface(now: InterfaceCounts, before: InterfaceCounts | None, seconds: float) -> InterfaceRows:
    same_rules = before is not None and before.generation == now.generation
    ingress = _hook("ingress", now.ingress, before.ingress if before else None, seconds, same_rules)
    egress = _hook("egress", now.egress, before.egress if before else None, seconds, same_rules)
    return InterfaceRows(now, (ingress, egress))


def _hook(
    hook: str, now: HookCounts, before: HookCounts | None, seconds: float, same_rules: bool
) -> HookRows:
    rows: list[Row] = []
    rows += _named("action", now.actions, before.actions if before else {}, seconds)
    rows += _named("protocol", now.protocols, before.protocols if before else {}, seconds)
    rows += _rules(now.rules, before.rules if before and same_rules else (), seconds)
    default = _rate(now.default, before.default if before else None, seconds)
    rows.append(Row("default", "default", now.default_action, now.default, default))
    rows += _named("reason", now.reasons, before.reasons if before else {}, seconds)
    seen = _rate(now.seen(), before.seen() if before else None, seconds)
    return HookRows(hook, Row("seen", "seen", "", now.seen(), seen), tuple(rows))


def _named(kind: str, now: dict[str, Count], before: dict[str, Count], seconds: float) -> Iterator[Row]:
    for name, count in now.items():
        yield Row(kind, name, "", count, _rate(count, before.get(name), seconds))


def _rules(now: tuple[RuleCount, ...], before: tuple[RuleCount, ...], seconds: float) -> Iterator[Row]:
    # Within one generation the rules in force keep their places; retired ones are at rest.
    for place, rule in enumerate(now):
        old = before[place].count if place < len(before) and before[place].name == rule.name else None
        yield Row("rule", rule.name, rule.action, rule.count, _rate(rule.count, old, seconds), rule.retired)


def _rate(now: Count, before: Count | None, seconds: float) -> Rate | None:
    if before is None or seconds <= 0:
        return None
    grown = now - before
    if grown.packets < 0 or grown.bytes < 0:
        return None
    return Rate(grown.packets / seconds, grown.bytes * 8 / seconds)


def total(name: str, rows: list[Row]) -> Row:
    """The sum of ``rows`` as one row; its rate is known only if every row's is."""
    rates = [row.rate for row in rows if row.rate is not None]
    known = len(rates) == len(rows)
    rate = Rate(sum(r.packets for r in rates), sum(r.bits for r in rates)) if known else None
    return Row("total", name, "", sum((row.count for row in rows), Count()), rate)
