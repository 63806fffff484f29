"""``trace --format json``: one flat object a line, schema ``xdpguard.trace/1``. Pure, and fast.

Keys with a dot are OpenTelemetry's attributes, keys without one are ours. Every key is always there; what is
not known is null. Keys may be added later, never renamed, removed or retyped. Output is ASCII: any name
survives any terminal, and a line is a line.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted

from xdpguard.trace.ledger import adds_up, total
from xdpguard.trace.model import Address, ContainerName, Counts, Event, Person, Record
from xdpguard.ui.trace_ledger import Ledger
from xdpguard.ui.trace_words import came_in, written

SCHEMA = "xdpguard.trace/1"
HEADER = ""

WHAT_KEYS = (
    "schema", "time", "event", "attribution", "error.type",
    "network.transport", "network.type", "network.local.address", "network.local.port",
    "network.peer.address", "network.peer.port", "network.interface.name", "network.io.direction",
    "incoming", "netns", "handshake_seconds", "duration_seconds", "rtt_seconds",
    "bytes_sent", "bytes_received", "packets_sent", "packets_received", "retransmits",
)  # fmt: skip
"""Of the event itself."""

WHO_KEYS = (
    "process.pid", "process.executable.path", "process.real_user.id", "process.owner", "gid", "group",
    "thread.id", "thread.name",
    "process.parent_pid", "ancestor_pids", "ancestor_executable_paths", "ancestor_names", "ancestor_owners",
    "process.linux.cgroup",
    "container.id", "container.name", "container.runtime.name", "container.image.name",
    "k8s.pod.name", "k8s.namespace.name", "k8s.container.name",
)  # fmt: skip
"""Of the process behind it."""

KEYS = WHAT_KEYS + WHO_KEYS

_CACHED = 4096  # processes remembered as text
_BOOLEAN = {True: "true", False: "false", None: "null"}
_WHO = ",".join(f'"{key}":%s' for key in WHO_KEYS) + "}\n"

_Who = tuple[Person | None, tuple[Person, ...], str | None, ContainerName | None, str]
_who_texts: dict[int, _Who] = {}
_second = (-1, "")  # the last second written, and its text


def line(record: Record, verbose: bool = False) -> str:
    """``verbose`` changes nothing: every line has everything."""
    event, interface = record.event, record.interface
    kind, _, _, _, ends, _, error, _, handshake, _, _ = event
    netns, family, protocol, local, local_port, remote, remote_port = ends
    direction, volume = _VOLUMES.get(kind, _UNCOUNTED)
    return (
        f'{{"schema":"{SCHEMA}","time":{_time(record.wall)},"event":"{kind}"'
        f',"attribution":"{record.attribution}","error.type":{"null" if error is None else _quoted(error)}'
        f',"network.transport":"{protocol}","network.type":"ipv{family}"'
        f',"network.local.address":{_address(local)},"network.local.port":{local_port}'
        f',"network.peer.address":{_address(remote)}'
        f',"network.peer.port":{"null" if remote_port is None else remote_port}'
        f',"network.interface.name":{"null" if interface is None else _quoted(interface)}'
        f',"network.io.direction":{direction},"incoming":{_BOOLEAN[came_in(event)]}'
        f',"netns":{netns},"handshake_seconds":{"null" if handshake is None else handshake / 1e9}'
        f",{volume(event)},{_who(record)}"
    )


def _of_close(event: Event) -> str:
    opened, counts = event.opened, event.counts or Counts()
    rtt = counts.rtt_us
    return (
        f'"duration_seconds":{"null" if opened is None else (event.time - opened) / 1e9}'
        f',"rtt_seconds":{"null" if rtt is None else rtt / 1e6}'
        f',"bytes_sent":{counts.bytes_sent},"bytes_received":{counts.bytes_received}'
        f',"packets_sent":{counts.packets_sent},"packets_received":{counts.packets_received}'
        f',"retransmits":{counts.retransmits}'
    )


def _of_sent(event: Event) -> str:
    counts = event.counts or Counts()
    return _ONE_WAY % (counts.bytes_sent, "null", counts.packets_sent, "null")


def _of_received(event: Event) -> str:
    counts = event.counts or Counts()
    return _ONE_WAY % ("null", counts.bytes_received, "null", counts.packets_received)


_ONE_WAY = (
    '"duration_seconds":null,"rtt_seconds":null,"bytes_sent":%s,"bytes_received":%s'
    ',"packets_sent":%s,"packets_received":%s,"retransmits":null'
)
_NO_VOLUME = _ONE_WAY % (("null",) * 4)
_UNCOUNTED: tuple[str, Callable[[Event], str]] = ("null", lambda event: _NO_VOLUME)
_VOLUMES: dict[str, tuple[str, Callable[[Event], str]]] = {
    "close": ("null", _of_close),
    "udp-send": ('"transmit"', _of_sent),
    "udp-recv": ('"receive"', _of_received),
}
"""Kind -> network.io.direction, and what makes the keys from duration_seconds to retransmits."""


def ledger(ledger: Ledger, wall: float) -> str:
    """The last line: no event, but what became of all events. ``lost`` by cause, ``kinds`` one by one."""
    sums = total(ledger.values())
    document = {
        "schema": SCHEMA,
        "time": json.loads(_time(wall)),
        "event": "ledger",
        "seen": sums.seen,
        "emitted": sums.emitted,
        "filtered": sums.filtered,
        "lost": sums.lost,
        "unknown": sums.unknown,
        "adds_up": all(adds_up(one) for one in ledger.values()),
        "kinds": {
            kind: {
                "seen": one.seen,
                "emitted": one.emitted,
                "filtered": one.filtered,
                "lost": one.lost,
                "unknown": one.unknown,
            }
            for kind, one in ledger.items()
        },
    }
    return json.dumps(document, separators=(",", ":")) + "\n"


def _time(wall: float) -> str:
    global _second
    second, micro = divmod(round(wall * 1_000_000), 1_000_000)
    if second != _second[0]:
        stamp = datetime.fromtimestamp(second, UTC).isoformat(timespec="seconds")
        _second = (second, stamp.removesuffix("+00:00"))
    return f'"{_second[1]}.{micro:06d}Z"'


def _string(text: str | None) -> str:
    return "null" if text is None else _quoted(text)


def _number(number: int | None) -> str:
    return "null" if number is None else str(number)


def _list(values: Sequence[str]) -> str:
    return f"[{','.join(values)}]" if values else "null"


def _address(address: Address | None) -> str:
    return "null" if address is None else f'"{written(address)}"'


def _who(record: Record) -> str:
    """The same process makes many events: its text is found by identity, and keeps what it was made of."""
    _, _, _, _, process, ancestors, cgroup, container = record
    found = _who_texts.get(id(process))
    if found is not None:
        known, parents, place, box, text = found
        if known is process and parents is ancestors and place == cgroup and box is container:
            return text
    if len(_who_texts) >= _CACHED:
        _who_texts.clear()
    text = _WHO % _described(record)
    _who_texts[id(process)] = process, ancestors, cgroup, container, text
    return text


def _described(record: Record) -> tuple[str, ...]:
    who, parents, container = record.process, record.ancestors, record.container
    person = ["null"] * 8
    if who is not None:
        person = [
            str(who.pid),
            _string(who.path),
            _number(who.uid),
            _string(who.user),
            _number(who.gid),
            _string(who.group),
            _number(who.tid),
            _string(who.comm or None),
        ]
    names: list[str | None] = [None] * 7
    if container is not None:
        names = [
            container.id, container.name, container.runtime, container.image,
            container.pod, container.namespace, container.container,
        ]  # fmt: skip
    return (
        *person,
        str(parents[0].pid) if parents else "null",
        _list([str(one.pid) for one in parents]),
        _list([_string(one.path) for one in parents]),
        _list([_string(one.comm or None) for one in parents]),
        _list([_string(one.user) for one in parents]),
        _string(record.cgroup_path),
        *(_string(name) for name in names),
    )
