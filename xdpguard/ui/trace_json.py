"""``trace --format json``: one flat object a line, schema ``xdpguard.trace/1``. Pure, and fast.

Keys with a dot are OpenTelemetry's attributes, keys without one are ours. Every key is always there; what is
not known is null. Keys may be added later, never renamed, removed or retyped. Output is ASCII: any name
survives any terminal, and a line is a line.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted

from xdpguard.trace.ledger import adds_up, total
from xdpguard.trace.model import Address, ContainerName, Event, Person, Record
from xdpguard.ui.trace_ledger import Ledger
from xdpguard.ui.trace_words import Volume, came_in, measured

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

_CACHED = 4096  # processes and addresses remembered as text
_COUNTED = ("close", "udp-send", "udp-recv")
_VOLUME_KEYS = WHAT_KEYS[WHAT_KEYS.index("duration_seconds") :]
_DIRECTIONS = {"udp-send": "transmit", "udp-recv": "receive"}
_UNCOUNTED = Volume(None, None, None, None)
_BOOLEAN = {True: "true", False: "false", None: "null"}

_WHO = ",".join(f'"{key}":%s' for key in WHO_KEYS) + "}\n"

_Who = tuple[Person | None, tuple[Person, ...], ContainerName | None, str]
_who_texts: dict[tuple[int, int, int, str | None], _Who] = {}
_addresses: dict[tuple[int, int], str] = {}
_templates: dict[tuple[str, str, str, int], str] = {}
_second = (-1, "")  # the last second written, and its text


def line(record: Record, verbose: bool = False) -> str:
    """``verbose`` changes nothing: every line has everything."""
    event, where = record.event, record.event.tuple
    sort = event.kind, record.attribution, where.protocol, where.family
    template = _templates.get(sort) or _template(*sort)
    what: tuple[object, ...] = (
        _time(record.wall),
        "null" if event.error is None else _quoted(event.error),
        _address(where.local),
        where.local_port,
        _address(where.remote),
        "null" if where.remote_port is None else where.remote_port,
        "null" if record.interface is None else _quoted(record.interface),
        _BOOLEAN[came_in(event)],
        where.netns,
        "null" if event.handshake_ns is None else event.handshake_ns / 1e9,
    )
    if event.kind in _COUNTED:
        what += _volume(event)
    return template % what + _who(record)


def _template(kind: str, attribution: str, protocol: str, family: int) -> str:
    """A line of this sort up to who it was: what all such lines have in common is in it."""
    known = {
        "schema": SCHEMA,
        "event": kind,
        "attribution": attribution,
        "network.transport": protocol,
        "network.type": f"ipv{family}",
        "network.io.direction": _DIRECTIONS.get(kind),
    }
    if kind not in _COUNTED:
        known |= dict.fromkeys(_VOLUME_KEYS)
    parts = [f'"{key}":{json.dumps(known[key]) if key in known else "%s"}' for key in WHAT_KEYS]
    text = _templates[kind, attribution, protocol, family] = "{" + ",".join(parts) + ","
    return text


def _volume(event: Event) -> tuple[object, ...]:
    """The values of _VOLUME_KEYS."""
    counts, closed = event.counts, event.kind == "close"
    return (
        (event.time - event.opened) / 1e9 if closed and event.opened is not None else "null",
        counts.rtt_us / 1e6 if counts is not None and counts.rtt_us is not None else "null",
        *("null" if value is None else value for value in measured(event) or _UNCOUNTED),
        counts.retransmits if closed and counts is not None else "null",
    )


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
    """Python formats an address in microseconds; most come again."""
    if address is None:
        return "null"
    key = (address.version, int(address))
    text = _addresses.get(key)
    if text is None:
        if len(_addresses) >= _CACHED:
            _addresses.clear()
        text = _addresses[key] = f'"{address}"'
    return text


def _who(record: Record) -> str:
    """The same process makes many events: its text is found by identity, and keeps what it was made of."""
    process, ancestors, container = record.process, record.ancestors, record.container
    key = (id(process), id(ancestors), id(container), record.cgroup_path)
    found = _who_texts.get(key)
    if found is None:
        if len(_who_texts) >= _CACHED:
            _who_texts.clear()
        found = _who_texts[key] = (process, ancestors, container, _WHO % _described(record))
    return found[3]


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
