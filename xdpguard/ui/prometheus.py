"""``stats --format prometheus``: the text exposition format, version 0.0.4.

One metric per kind of counter, so that a sum over one metric is always a number of packets or bytes, never a
double count. No time stamps and no rates: both are the scraper's.
"""

from __future__ import annotations

from xdpguard.stats.model import Count
from xdpguard.ui.rows import KINDS, OWNER_VIEWS, InterfaceRows, Row

_HELP = {
    "action": "by the action that was taken",
    "protocol": "by protocol",
    "rule": "decided by a rule; all versions of one name and action together, also after they retired",
    "default": "decided by the default because no rule matched",
    "reason": "decided by neither a rule nor the default",
    "user": "by the user of the local socket",
    "container": "by the container of the local process",
}
_Labels = tuple[tuple[str, str], ...]


def document(interfaces: list[InterfaceRows], by: str | None) -> str:
    """``xdpguard_KIND_packets_total`` and ``..._bytes_total``, what was not delivered, the generation."""
    lines: list[str] = []
    for kind in KINDS[by]:
        lines += _metrics(kind, _HELP[kind], _series(interfaces, kind))
        if kind in OWNER_VIEWS:
            dropped = _series(interfaces, kind, dropped=True)
            lines += _metrics(f"{kind}_dropped", f"dropped, {_HELP[kind]}", dropped)
    lines += _not_delivered(interfaces, by)
    if by is None:
        lines += _head("xdpguard_generation", "Serial number of the rule set in force.", "gauge")
        for interface in interfaces:
            labels = (*_place(interface), ("mode", interface.counts.mode))
            lines.append(f"xdpguard_generation{_labels(labels)} {interface.counts.generation}")
    return "\n".join(lines) + "\n"


def _metrics(name: str, text: str, series: dict[_Labels, Count]) -> list[str]:
    lines: list[str] = []
    for unit in ("packets", "bytes"):
        metric = f"xdpguard_{name}_{unit}_total"
        lines += _head(metric, f"Total {unit} {text}.", "counter")
        for labels, count in series.items():
            lines.append(f"{metric}{_labels(labels)} {getattr(count, unit)}")
    return lines


def _not_delivered(interfaces: list[InterfaceRows], by: str | None) -> list[str]:
    """Where it is observed: a sample that is absent is not known."""
    metric = "xdpguard_not_delivered_packets_total"
    samples = [
        f"{metric}{_labels((*_place(interface), ('hook', hook.hook), ('action', action)))} {packets}"
        for interface in interfaces
        for hook in interface.hooks
        for action, packets in hook.lost(by).items()
    ]
    text = "Total packets with the action that were lost on their way out."
    return [*_head(metric, text, "counter"), *samples] if samples else []


def _head(metric: str, text: str, kind: str) -> list[str]:
    return [f"# HELP {metric} {text}", f"# TYPE {metric} {kind}"]


def _series(interfaces: list[InterfaceRows], kind: str, dropped: bool = False) -> dict[_Labels, Count]:
    # A retired rule and its successor may share a name. Two samples with equal labels would void the whole
    # exposition; their sum never goes back, as a counter must not.
    series: dict[_Labels, Count] = {}
    for interface in interfaces:
        for hook in interface.hooks:
            for row in hook.of(kind):
                labels = (*_place(interface), ("hook", hook.hook), *_own_labels(row))
                count = row.owner.dropped if dropped and row.owner is not None else row.count
                series[labels] = series.get(labels, Count()) + count
    return series


def _place(interface: InterfaceRows) -> _Labels:
    return (("interface", interface.counts.interface), ("netns", interface.counts.netns or ""))


def _own_labels(row: Row) -> _Labels:
    if row.kind == "default":
        return ()  # its action may change with a reload, its count goes on
    if row.owner is not None and row.kind == "container":
        return (("container", row.name), ("container_id", row.owner.container or ""))
    if row.kind == "rule":
        return (("rule", row.name), ("action", row.action))
    return ((row.kind, row.name),)


def _labels(labels: _Labels) -> str:
    return "{" + ",".join(f'{name}="{_escape(value)}"' for name, value in labels) + "}"


def _escape(value: str) -> str:
    r"""A label value. The escapes of the format are ``\\``, ``\"``, ``\n``: other controls become text."""
    known = {"\\": r"\\", '"': r"\"", "\n": r"\n"}
    return "".join(known.get(c) or (c if c.isprintable() else "\\" + ascii(c)[1:-1]) for c in value)
