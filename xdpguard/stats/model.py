"""What the counters say, as plain data. Made by ``stats/read.py``, printed by ``ui/``.

The identity every Snapshot keeps, per hook (docs/rules.md, "Counting"):
seen = sum of actions = sum of protocols = sum of rules + default + sum of reasons.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

ACTIONS = ("aborted", "drop", "pass", "tx", "redirect")
PROTOCOLS = ("tcp", "udp", "icmp", "icmpv6", "sctp", "arp", "other_ip", "non_ip")


@dataclass(frozen=True, slots=True)
class Count:
    """Packets, and bytes of whole frames from the MAC header on, without FCS."""

    packets: int = 0
    bytes: int = 0

    def __add__(self, other: Count) -> Count:
        return Count(self.packets + other.packets, self.bytes + other.bytes)

    def __sub__(self, other: Count) -> Count:
        return Count(self.packets - other.packets, self.bytes - other.bytes)


@dataclass(frozen=True, slots=True)
class RuleCount:
    """One rule's counters. ``retired``: the rule is no longer in force but its packets still count."""

    name: str
    action: str
    count: Count
    retired: bool = False


@dataclass(frozen=True, slots=True)
class HookCounts:
    """One direction. The keys of ``actions``, ``protocols`` and ``reasons`` are always complete."""

    actions: dict[str, Count]
    protocols: dict[str, Count]
    reasons: dict[str, Count]
    rules: tuple[RuleCount, ...]  # in rule order, then the retired ones
    default_action: str
    default: Count
    not_delivered: dict[str, int | None]
    """Of "tx" and "redirect": packets with this verdict that were lost on the way out. None: not observed."""

    def seen(self) -> Count:
        return sum(self.actions.values(), Count())


@dataclass(frozen=True, slots=True)
class OwnedCount:
    """Whose packets they were. ``dropped``: those of ``count`` with the verdict drop, or aborted.

    ``name``: of the process, user or container; ``container``: its id. None where it is not of that kind.
    """

    name: str
    pid: int | None = None
    uid: int | None = None
    container: str | None = None
    count: Count = Count()
    dropped: Count = Count()

    def with_counts(self, count: Count, dropped: Count) -> OwnedCount:
        return replace(self, count=count, dropped=dropped)


@dataclass(frozen=True, slots=True)
class HookOwners:
    """One direction in three views, each of which adds up to what the hook has seen.

    Every view ends in "(kernel)" and "(unknown)". ``reasons``: of the packets whose process is not known.
    """

    processes: tuple[OwnedCount, ...]
    users: tuple[OwnedCount, ...]
    containers: tuple[OwnedCount, ...]
    reasons: dict[str, OwnedCount]


@dataclass(frozen=True, slots=True)
class Owners:
    """Of an interface loaded with --account-owners. ``kept``: a tracer tells of new sockets.

    ``moved``: it came from another network namespace after its load, and was accounted to owners there: all
    that it has seen is unknown.
    """

    kept: bool
    ingress: HookOwners
    egress: HookOwners
    moved: bool = False


@dataclass(frozen=True, slots=True)
class InterfaceCounts:
    interface: str
    ifindex: int
    netns: str | None  # name; None for the caller's own
    generation: int  # serial of the rule set in force
    mode: str  # "native" | "generic" | "none": our XDP program is not attached
    ingress: HookCounts
    egress: HookCounts
    owners: Owners | None = None  # None: not accounted, or not asked for


@dataclass(frozen=True, slots=True)
class Snapshot:
    time: float  # seconds since the epoch, UTC
    interfaces: tuple[InterfaceCounts, ...]
