"""``stats --format csv``: a header line and one row per counter (RFC 4180 quoting, lines end in LF).

Columns may be added at the end, never renamed, removed or moved.
"""

from __future__ import annotations

import csv
import io

from xdpguard.stats.model import Snapshot
from xdpguard.ui.rows import KINDS, InterfaceRows, Row
from xdpguard.ui.text import printable, utc

COLUMNS = ("interface", "hook", "kind", "name", "action", "packets", "bytes", "netns", "retired")
RATE_COLUMNS = ("time", "packets_per_second", "bits_per_second")
"""Only under ``--watch``. A rate that is not known is empty."""


def document(
    snapshot: Snapshot, interfaces: list[InterfaceRows], by: str | None, rates: bool, header: bool = True
) -> str:
    """All rows; ``netns`` is empty for the caller's own, ``retired`` is 0 or 1."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        writer.writerow(COLUMNS + RATE_COLUMNS if rates else COLUMNS)
    time = utc(snapshot.time, "milliseconds")
    for interface in interfaces:
        name, netns = printable(interface.counts.interface), printable(interface.counts.netns or "")
        for hook in interface.hooks:
            for row in hook.of(*KINDS[by]):
                cells = [name, hook.hook, row.kind, printable(row.name), row.action]
                cells += [str(row.count.packets), str(row.count.bytes), netns, str(int(row.retired))]
                writer.writerow(cells + _rate_cells(row, time) if rates else cells)
    return text.getvalue()


def _rate_cells(row: Row, time: str) -> list[str]:
    if row.rate is None:
        return [time, "", ""]
    return [time, f"{row.rate.packets:.3f}", f"{row.rate.bits:.3f}"]
