"""``stats --format plain``: one counter a line, packets only (``XDP_DROP: 24``, ``TCP Packets: 1964``)."""

from __future__ import annotations

from xdpguard.ui.owners import label
from xdpguard.ui.rows import KINDS, HookRows, InterfaceRows, Row
from xdpguard.ui.text import place, printable

_PROTOCOLS = {
    "tcp": "TCP",
    "udp": "UDP",
    "icmp": "ICMP",
    "icmpv6": "ICMPv6",
    "sctp": "SCTP",
    "arp": "ARP",
    "other_ip": "Other IP",
    "non_ip": "Non-IP",
}


def document(interfaces: list[InterfaceRows], by: str | None) -> str:
    """The lines of each hook, ingress (XDP) first; a heading per interface if there are several."""
    blocks = []
    for interface in interfaces:
        lines = [line for hook in interface.hooks for line in _hook_lines(hook, by)]
        if len(interfaces) > 1:
            lines.insert(0, place(interface.counts.interface, interface.counts.netns) + ":")
        blocks.append("\n".join(lines) + "\n")
    return "\n".join(blocks)


def _hook_lines(hook: HookRows, by: str | None) -> list[str]:
    xdp = hook.hook == "ingress"
    lost = hook.lost(by)
    lines = []
    for row in hook.of(*KINDS[by]):
        lines.append(f"{_label(row, xdp)}: {row.count.packets}{_rate(row)}")
        if row.owner is not None:
            lines.append(f"{_label(row, xdp)} dropped: {row.owner.dropped.packets}")
        if row.kind == "action" and row.name in lost:
            lines.append(f"{_label(row, xdp)} not delivered: {lost[row.name]}")
    seen = hook.seen
    lines.append(f"{'' if xdp else 'TC '}Packets Seen: {seen.count.packets}{_rate(seen)}")
    return lines


def _label(row: Row, xdp: bool) -> str:
    if row.kind == "action":
        return f"{'XDP' if xdp else 'TC'}_{row.name.upper()}"
    prefix = "" if xdp else "TC "
    if row.kind == "protocol":
        return f"{prefix}{_PROTOCOLS.get(row.name, row.name)} Packets"
    if row.kind == "rule":
        return f"{prefix}Rule {printable(row.name)}{' (retired)' if row.retired else ''}"
    if row.owner is not None:
        return f"{prefix}{row.kind.capitalize()} {label(row)}"
    if row.kind == "default":
        return f"{prefix}Default {row.action}"
    return f"{prefix}Reason {printable(row.name)}"


def _rate(row: Row) -> str:
    if row.rate is None:
        return ""
    return f" ({row.rate.packets:.1f} packets/s, {row.rate.bits:.0f} bits/s)"
