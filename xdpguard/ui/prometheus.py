"""``stats --format prometheus``: the text exposition format, version 0.0.4.

One metric per kind of counter, so that a sum over one metric is always a number of packets or bytes, never a
double count. No time stamps and no rates: both are the scraper's.
"""

from __future__ import annotations

from xdpguard.stats.model import Count
from xdpguard.ui.rows import KINDS, InterfaceRows, Row

_HELP = {
    "action": "by the action that was taken",
    "protocol": "by protocol",
    "rule": "decided by a rule; all versions of one name and action together, also after they retired",
    "default": "decided by the default because no rule matched",
    "reason": "decided by neither a rule nor the default",
}
_Labels = tuple[tuple[str, str], ...]


def document(interfaces: list[InterfaceRows], by: str | None) -> str:
    """Metrics ``xdpguard_KIND_packets_total`` and ``..._bytes_total``, and the generation in force."""
    lines: list[str] = []
    for kind in KINDS[by]:
        series = _series(interfaces, kind)
        for unit in ("packets", "bytes"):
            lines += _head(f"xdpguard_{kind}_{unit}_total", f"Total {unit} {_HELP[kind]}.", "counter")
            for labels, count in series.items():
                value = count.packets if unit == "packets" else count.bytes
                lines.append(f"xdpguard_{kind}_{unit}_total{_labels(labels)} {value}")
    if by is None:
        lines += _head("xdpguard_generation", "Serial number of the rule set in force.", "gauge")
        for interface in interfaces:
            labels = (*_place(interface), ("mode", interface.counts.mode))
            lines.append(f"xdpguard_generation{_labels(labels)} {interface.counts.generation}")
    return "\n".join(lines) + "\n"


def _head(metric: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {metric} {text}", f"# TYPE {metric} {kind}"]


def _series(interfaces: list[InterfaceRows], kind: str) -> dict[_Labels, Count]:
    # A retired rule and its successor may share a name. Two samples with equal labels would void the whole
    # exposition; their sum never goes back, as a counter must not.
    series: dict[_Labels, Count] = {}
    for interface in interfaces:
        for hook in interface.hooks:
            for row in hook.of(kind):
                labels = (*_place(interface), ("hook", hook.hook), *_own_labels(row))
                series[labels] = series.get(labels, Count()) + row.count
    return series


def _place(interface: InterfaceRows) -> _Labels:
    return (("interface", interface.counts.interface), ("netns", interface.counts.netns or ""))


def _own_labels(row: Row) -> _Labels:
    if row.kind == "default":
        return ()  # its action may change with a reload, its count goes on
    if row.kind == "rule":
        return (("rule", row.name), ("action", row.action))
    return ((row.kind, row.name),)


def _labels(labels: _Labels) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    r"""A label value. The escapes of the format are ``\\``, ``\"``, ``\n``: other controls become text."""
    known = {"\\": r"\\", '"': r"\"", "\n": r"\n"}
    return "".join(known.get(c) or (c if c.isprintable() else "\\" + ascii(c)[1:-1]) for c in value)
