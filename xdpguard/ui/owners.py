"""Owners in words and as a table: ``stats --by process|user|container``. Pure; never prints."""

from __future__ import annotations

from collections.abc import Iterator

from xdpguard.stats.model import HookOwners, InterfaceCounts, OwnedCount, Snapshot
from xdpguard.ui.rows import HookRows, InterfaceRows, Row
from xdpguard.ui.text import exact, place, printable, scaled, short, shorten, size

_NAME_WIDTH = 36
_LAST = ("(kernel)", "(unknown)")
_REASONS = {
    "no_owner": "no owner of the socket is known",
    "no_ports": "neither TCP nor UDP, or no ports",
    "no_process": "only the socket's user is known",
    "no_room": "no account was free",
    "not_accounted": "before the accounting",
}
_Cells = list[str]


def label(row: Row) -> str:
    """``nginx (4711)`` for a process, else its name."""
    name = printable(row.name)
    return name if row.owner is None or row.owner.pid is None else f"{name} ({row.owner.pid})"


def remarks(snapshot: Snapshot) -> list[str]:
    """What the rows do not say: for standard error, where a format has no place for it."""
    return [
        f"{place(one.interface, one.netns)}: {remark}"
        for one in snapshot.interfaces
        for remark in _remarks(one)
    ]


def _remarks(counts: InterfaceCounts) -> Iterator[str]:
    if counts.owners is None:
        yield "owners are not accounted here: load with --account-owners"
        return
    if counts.owners.moved:
        yield "it was moved here from another network namespace: owners are not known before the next load"
    if not counts.owners.kept:
        yield (
            "no `xdpguard trace` is running: since the last load or trace, new sockets are (unknown), and a "
            "port that another process took is still its former owner's"
        )


def notes(interface: InterfaceRows, by: str) -> list[str]:
    """The lines below a table."""
    counts = interface.counts
    lines = list(_remarks(counts))
    if by == "process" and counts.owners is not None:
        for hook, owners in (("ingress", counts.owners.ingress), ("egress", counts.owners.egress)):
            lines += [f"(unknown), {hook}: {why}" for why in [_why(owners)] if why]
    return lines


def _why(owners: HookOwners) -> str:
    found = [(name, one.count.packets) for name, one in owners.reasons.items() if one.count.packets]
    return ", ".join(f"{exact(packets)} {_REASONS[name]}" for name, packets in found)


def headings(rates: bool) -> list[str]:
    columns = ["packets", "bytes", "drops"] + (["pps"] if rates else [])
    return ["", *(f"{hook}\n{columns[0]}" if not at else f"\n{column}"
                  for hook in ("ingress", "egress") for at, column in enumerate(columns))]  # fmt: skip


def lines(interface: InterfaceRows, by: str, rates: bool) -> list[_Cells]:
    """Those with the most packets first, both directions side by side; "(kernel)" and "(unknown)" last."""
    sides: list[dict[object, Row]] = [{_key(row): row for row in hook.of(by)} for hook in interface.hooks]
    keys = dict.fromkeys(key for side in sides for key in side)

    def weight(key: object) -> tuple[int, int]:
        rows = [side[key] for side in sides if key in side]
        special = _LAST.index(rows[0].name) + 1 if rows[0].name in _LAST else 0
        return special, -sum(row.count.packets for row in rows)

    return [
        [shorten(label(next(side[key] for side in sides if key in side)), _NAME_WIDTH),
         *(cell for side in sides for cell in _numbers(side.get(key), rates))]
        for key in sorted(keys, key=weight)
    ]  # fmt: skip


def seen(interface: InterfaceRows, rates: bool) -> _Cells:
    return ["seen", *(cell for hook in interface.hooks for cell in _numbers(_seen(hook), rates))]


def _seen(hook: HookRows) -> Row:
    actions = {row.name: row.count for row in hook.of("action")}
    owner = OwnedCount("seen", count=hook.seen.count, dropped=actions["drop"] + actions["aborted"])
    return Row("seen", "seen", "", hook.seen.count, hook.seen.rate, owner=owner)


def _key(row: Row) -> object:
    owner = row.owner
    return row.name if owner is None else (row.name, owner.pid, owner.container)


def _numbers(row: Row | None, rates: bool) -> list[str]:
    if row is None or row.owner is None:
        return [""] * (4 if rates else 3)
    packets = short(row.count.packets) if rates else exact(row.count.packets)
    cells = [packets, size(row.count.bytes), exact(row.owner.dropped.packets)]
    if rates:
        cells.append("-" if row.rate is None else scaled(row.rate.packets))
    return cells
