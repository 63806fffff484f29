"""``stats --format csv``: a header line and one row per counter (RFC 4180 quoting, lines end in LF).

Columns may be added at the end, never renamed, removed or moved.
"""

from __future__ import annotations

import csv
import io

from xdpguard.stats.model import OwnedCount, Snapshot
from xdpguard.ui.rows import KINDS, OWNER_VIEWS, InterfaceRows, Rate
from xdpguard.ui.text import printable, utc

COLUMNS = ("interface", "hook", "kind", "name", "action", "packets", "bytes", "netns", "retired")
RATE_COLUMNS = ("time", "packets_per_second", "bits_per_second")
"""Only under ``--watch``. A rate that is not known is empty."""
OWNER_COLUMNS = ("dropped_packets", "dropped_bytes", "pid", "uid", "container")
"""Only with ``--by process``, ``user`` or ``container``. ``container``: its id. Empty: does not apply."""


def document(
    snapshot: Snapshot, interfaces: list[InterfaceRows], by: str | None, rates: bool, header: bool = True
) -> str:
    """All rows; ``netns`` is empty for the caller's own, ``retired`` is 0 or 1.

    Rows of the kind not_delivered are there where it is observed; their bytes are not known, and empty.
    """
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    if header:
        columns = COLUMNS + RATE_COLUMNS if rates else COLUMNS
        writer.writerow(columns + OWNER_COLUMNS if by in OWNER_VIEWS else columns)
    time = utc(snapshot.time, "milliseconds")
    for interface in interfaces:
        name, netns = printable(interface.counts.interface), printable(interface.counts.netns or "")
        for hook in interface.hooks:
            for row in hook.of(*KINDS[by]):
                cells = [name, hook.hook, row.kind, printable(row.name), row.action]
                cells += [str(row.count.packets), str(row.count.bytes), netns, str(int(row.retired))]
                if rates:
                    cells += _rate_cells(row.rate, time)
                writer.writerow(cells + _owner_cells(row.owner))
            for action, packets in hook.lost(by).items():
                cells = [name, hook.hook, "not_delivered", action, "", str(packets), "", netns, "0"]
                writer.writerow(cells + _rate_cells(None, time) if rates else cells)
    return text.getvalue()


def _owner_cells(owner: OwnedCount | None) -> list[str]:
    if owner is None:
        return []
    cells = (owner.dropped.packets, owner.dropped.bytes, owner.pid, owner.uid, owner.container)
    return ["" if cell is None else str(cell) for cell in cells]


def _rate_cells(rate: Rate | None, time: str) -> list[str]:
    if rate is None:
        return [time, "", ""]
    return [time, f"{rate.packets:.3f}", f"{rate.bits:.3f}"]
