"""The counting identity, checked on what is about to be shown. Pure."""

from __future__ import annotations

from xdpguard.stats.model import Count, HookCounts, InterfaceCounts, Snapshot
from xdpguard.ui.text import place


def faults(snapshot: Snapshot) -> list[str]:
    """One line for every hook whose sums differ; empty when all is well."""
    return [fault for counts in snapshot.interfaces for fault in interface_faults(counts)]


def interface_faults(counts: InterfaceCounts) -> list[str]:
    hooks = (("ingress", counts.ingress), ("egress", counts.egress))
    return [
        f"{place(counts.interface, counts.netns)} {name}: THE COUNTERS DO NOT ADD UP: {sums}"
        for name, hook in hooks
        if (sums := _differing_sums(hook))
    ]


def _differing_sums(hook: HookCounts) -> str:
    seen = hook.seen()
    protocols = sum(hook.protocols.values(), Count())
    rules = sum((rule.count for rule in hook.rules), Count())
    deciders = rules + hook.default + sum(hook.reasons.values(), Count())
    if seen == protocols == deciders:
        return ""
    unit = "bytes" if seen.packets == protocols.packets == deciders.packets else "packets"
    values = [getattr(count, unit) for count in (seen, protocols, deciders)]
    return (
        f"{unit} seen (sum of actions) {values[0]}, sum of protocols {values[1]}, "
        f"rules + default + reasons {values[2]}"
    )
