"""A Snapshot as text in any format: the one door to them. Pure: never prints, never reads a counter."""

from __future__ import annotations

from xdpguard.stats.model import Snapshot
from xdpguard.ui.rows import collect

FORMATS = ("table", "plain", "json", "csv", "prometheus")


def render(snapshot: Snapshot, by: str | None, format: str, previous: Snapshot | None = None) -> str:
    """A whole document that ends in a newline (or is empty).

    ``by`` is None or one of ``rows.VIEWS``; json and its readers always get the whole snapshot. With
    ``previous`` every format but prometheus also shows rates; pass the snapshot itself where rates are wanted
    but not known yet.
    """
    return _render(snapshot, by, format, previous, stream=False, first=True)


def render_block(
    snapshot: Snapshot, by: str | None, format: str, previous: Snapshot | None, first: bool
) -> str:
    """One part of an endless document for a pipe: JSON lines, csv rows under one header, or a dated block."""
    text = _render(snapshot, by, format, previous, stream=True, first=first)
    if format in ("json", "csv"):
        return text
    return text if first else "\n" + text


def _render(
    snapshot: Snapshot, by: str | None, format: str, previous: Snapshot | None, stream: bool, first: bool
) -> str:
    interfaces = collect(snapshot, previous)
    rates = previous is not None
    # Each format is imported when it is asked for: tabulate alone costs more than the rest of the command.
    if format == "table":
        from xdpguard.ui import table

        return table.document(interfaces, by, rates)
    if format == "json":
        from xdpguard.ui import jsondoc

        return jsondoc.stats_document(snapshot, interfaces, rates, one_line=stream)
    if format == "csv":
        from xdpguard.ui import csvtable

        return csvtable.document(snapshot, interfaces, by, rates, header=first)
    if format == "plain":
        from xdpguard.ui import plain

        return plain.document(interfaces, by)
    from xdpguard.ui import prometheus

    return prometheus.document(interfaces, by)
