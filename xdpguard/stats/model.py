"""What the counters say, as plain data. Made by ``stats/read.py``, printed by ``ui/``.

The identity every Snapshot keeps, per hook (docs/rules.md, "Counting"):
seen = sum of actions = sum of protocols = sum of rules + default + sum of reasons.
"""

from __future__ import annotations

from dataclasses import dataclass

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

    def seen(self) -> Count:
        return sum(self.actions.values(), Count())


@dataclass(frozen=True, slots=True)
class InterfaceCounts:
    interface: str
    ifindex: int
    netns: str | None  # name; None for the caller's own
    generation: int  # serial of the rule set in force
    mode: str  # "native" | "generic" | "none": our XDP program is not attached
    ingress: HookCounts
    egress: HookCounts


@dataclass(frozen=True, slots=True)
class Snapshot:
    time: float  # seconds since the epoch, UTC
    interfaces: tuple[InterfaceCounts, ...]
