"""``trace --format table``: a header, then a row per event; 120 columns. Pure.

Names are cut, addresses never: a long one pushes its row, and the next columns win the room back.
"""

from __future__ import annotations

from datetime import UTC, datetime

from xdpguard.trace.model import ContainerName, Event, Person, Record
from xdpguard.ui.text import printable, scaled, shorten
from xdpguard.ui.trace_ledger import sentence
from xdpguard.ui.trace_words import endpoint, measured, short_id

WIDTH = 120

_COLUMNS = (
    ("TIME (UTC)", 12), ("EVENT", 10), ("PID", 7), ("PROCESS", 12), ("USER", 8),
    ("LOCAL", 18), ("REMOTE", 18), ("CONTAINER", 12), ("DETAIL", 15),
)  # fmt: skip
_RIGHT = "PID"
_NONE = "-"
_NOBODY = {"unknown": "(unknown)", "kernel": "(kernel)"}

ledger = sentence


def line(record: Record, verbose: bool = False) -> str:
    """``verbose`` changes nothing: a row has its width."""
    event, who = record.event, record.process
    where = event.tuple
    return _row(
        (
            _clock(record.wall),
            event.kind,
            _NONE if who is None else str(who.pid),
            _name(who, record),
            _NONE if who is None else shorten(_user(who), 8),
            endpoint(where.local, where.local_port, _NONE),
            _NONE if event.kind == "listen" else endpoint(where.remote, where.remote_port, _NONE),
            _container(record.container),
            _detail(event),
        )
    )


def _row(cells: tuple[str, ...]) -> str:
    """A cell that is too long pushes; the next ones begin where they should as soon as they can."""
    text, start = "", 0
    for (title, width), cell in zip(_COLUMNS, cells, strict=True):
        gap = max(start - len(text), 1 if text else 0)
        room = max(start + width - len(text) - gap, 0)
        text += " " * gap + (cell.rjust(room) if title == _RIGHT else cell)
        start += width + 1
    return text.rstrip() + "\n"


HEADER = _row(tuple(title for title, _ in _COLUMNS))


def _clock(wall: float) -> str:
    moment = datetime.fromtimestamp(round(wall, 3), UTC)
    return f"{moment:%H:%M:%S}.{moment.microsecond // 1000:03d}"


def _name(who: Person | None, record: Record) -> str:
    if who is None:
        return _NOBODY.get(record.attribution, _NOBODY["unknown"])
    name = who.path.rpartition("/")[2] if who.path else who.comm
    return shorten(printable(name), 12) or _NONE


def _user(who: Person) -> str:
    if who.user is not None:
        return printable(who.user)
    return _NONE if who.uid is None else str(who.uid)


def _container(container: ContainerName | None) -> str:
    """What people call it: its name in its pod, its own name, else the beginning of its id."""
    if container is None:
        return _NONE
    name = container.container or container.name
    return shorten(printable(name), 12) if name else short_id(printable(container.id))


def _detail(event: Event) -> str:
    """Why it failed; how long the handshake took; what was sent and received."""
    if event.error is not None:
        return printable(event.error)
    volume = measured(event)
    if volume is not None and event.kind == "close":
        return f"{_size(volume.bytes_sent)}/{_size(volume.bytes_received)} B"
    if volume is not None:
        sent = event.kind == "udp-send"
        packets = volume.packets_sent if sent else volume.packets_received
        size = volume.bytes_sent if sent else volume.bytes_received
        return f"{_size(packets)}p {_size(size)} B"
    if event.handshake_ns is not None:
        return f"{event.handshake_ns / 1e6:.2f} ms"
    return ""


def _size(count: int | None) -> str:
    if count is None:
        return _NONE
    return str(count) if count < 1000 else scaled(count).replace(" ", "")
