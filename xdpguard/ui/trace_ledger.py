"""The loss ledger of a trace as the sentence that ends a text or a table. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from xdpguard.trace.ledger import adds_up, total
from xdpguard.trace.model import KindLedger
from xdpguard.ui.text import exact, printable

Ledger = Mapping[str, KindLedger]
"""Kind of event -> what became of such events: seen = emitted + filtered + lost."""


def sentence(ledger: Ledger, wall: float) -> str:
    """One line. ``wall`` is for the formats that give their ledger a time."""
    sums = total(ledger.values())
    causes = ", ".join(f"{printable(cause)} {exact(count)}" for cause, count in sums.lost.items() if count)
    datagrams = sum(one.seen for kind, one in ledger.items() if kind.startswith("udp-"))
    seen = f"{exact(sums.seen - datagrams)} events"
    if datagrams:
        seen += f" and {exact(datagrams)} datagrams"
    losses = f"{exact(sum(sums.lost.values()))} lost{f' ({causes})' if causes else ''}"
    line = f"ledger: {seen} seen = {exact(sums.emitted)} emitted + {exact(sums.filtered)} filtered + {losses}"
    if sums.unknown:
        line += f"; of the emitted {exact(sums.unknown)} without a known owner"
    wrong = [kind for kind, one in ledger.items() if not adds_up(one)]
    if wrong:
        line += f"; THE LEDGER DOES NOT ADD UP for {', '.join(wrong)}"
    return line + "\n"
