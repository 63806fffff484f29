"""A Snapshot as rows, one per counter, with rates since an earlier Snapshot: what every format is made from.

Pure data; must never decide how a row looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from xdpguard.stats.model import (
    Count,
    HookCounts,
    HookOwners,
    InterfaceCounts,
    OwnedCount,
    RuleCount,
    Snapshot,
)

OWNER_VIEWS = ("process", "user", "container")
VIEWS = ("action", "protocol", "rule", "reason", *OWNER_VIEWS)
"""What ``--by`` takes."""

KINDS = {
    None: ("action", "protocol", "rule", "default", "reason"),
    "action": ("action",),
    "protocol": ("protocol",),
    "rule": ("rule", "default"),
    "reason": ("reason",),
    "process": ("process",),
    "user": ("user",),
    "container": ("container",),
}
"""View -> the kinds of rows that it shows."""


@dataclass(frozen=True, slots=True)
class Rate:
    packets: float  # per second
    bits: float  # per second, of whole frames without FCS


@dataclass(frozen=True, slots=True)
class Row:
    """One counter. ``action`` is "" unless the row is a rule or the default."""

    kind: str  # "seen" | "action" | "protocol" | "rule" | "default" | "reason" | one of OWNER_VIEWS
    name: str
    action: str
    count: Count
    rate: Rate | None  # None: not asked for, or not known (first reading, reload, counters that went back)
    retired: bool = False
    owner: OwnedCount | None = None  # of a row of an owner view


@dataclass(frozen=True, slots=True)
class HookRows:
    """One direction. ``rows`` holds actions, protocols, rules, default, reasons, owners, in this order."""

    hook: str  # "ingress" | "egress"
    seen: Row
    rows: tuple[Row, ...]
    not_delivered: dict[str, int | None]  # of "tx" and "redirect", packets; None: not observed

    def lost(self, by: str | None) -> dict[str, int]:
        """What was not delivered, by action, as far as it is known and the view shows actions."""
        known = {name: packets for name, packets in self.not_delivered.items() if packets is not None}
        return known if "action" in KINDS[by] else {}

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
    if now.owners is None:
        return InterfaceRows(now, (ingress, egress))
    former = before.owners if before is not None else None
    return InterfaceRows(
        now,
        (
            _with_owners(
                ingress, now.owners.ingress, former.ingress if former is not None else None, seconds
            ),
            _with_owners(egress, now.owners.egress, former.egress if former is not None else None, seconds),
        ),
    )


def _with_owners(hook: HookRows, now: HookOwners, before: HookOwners | None, seconds: float) -> HookRows:
    rows = list(hook.rows)
    for kind, view in zip(OWNER_VIEWS, (now.processes, now.users, now.containers), strict=True):
        former = {_who(one): one.count for one in _view(before, kind)}
        for one in view:
            rate = _rate(one.count, former.get(_who(one)), seconds)
            rows.append(Row(kind, one.name, "", one.count, rate, owner=one))
    return replace(hook, rows=tuple(rows))


def _view(owners: HookOwners | None, kind: str) -> tuple[OwnedCount, ...]:
    if owners is None:
        return ()
    return {"process": owners.processes, "user": owners.users, "container": owners.containers}[kind]


def _who(one: OwnedCount) -> tuple[object, ...]:
    return one.name, one.pid, one.container


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
    return HookRows(hook, Row("seen", "seen", "", now.seen(), seen), tuple(rows), now.not_delivered)


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
