"""``trace --format text``: ebpflowexport's bracketed line. Pure: a Record is always one line.

    1554803924.781354 [eth0][Sent][IPv4/TCP][pid/tid: 30197/30197 [/usr/bin/curl], uid/gid: 0/0]
    [father pid/tid: 26219/0 [/bin/bash], uid/gid: 0/0][addr: 172.17.0.2:54348 <-> 216.58.205.46:80]
    [containerID: cbd2540ec5be][runtime: docker][docker_name: sleepy_haibt][latency: 0.22 msec]

without the line breaks. As there, the side that began stands first in ``addr``, and the father's thread is 0.
What that line has no bracket for follows in brackets of its own; connect, accept, send and receive need none.
"""

from __future__ import annotations

from xdpguard.trace.model import ContainerName, Event, Person, Record
from xdpguard.ui.text import printable
from xdpguard.ui.trace_ledger import sentence
from xdpguard.ui.trace_words import UNKNOWN, came_in, endpoint, measured, short_id

HEADER = ""

_PLAIN = ("connect", "accept", "udp-send", "udp-recv")
_SENT = {True: "Rcvd", False: "Sent", None: UNKNOWN}
_BRACKETS = str.maketrans({"[": "\\x5b", "]": "\\x5d"})

ledger = sentence


def line(record: Record, verbose: bool = False) -> str:
    """``verbose`` adds what a line of every day leaves out: names, thread, netns, cgroup, image, ancestry."""
    event = record.event
    where = event.tuple
    parts = [
        f"{record.wall:.6f} ",
        _part(record.interface),
        f"[{_direction(event)}][IPv{where.family}/{where.protocol.upper()}]",
        f"[pid/tid: {_person(record.process)}]",
        f"[father pid/tid: {_person(record.ancestors[0], 0)}]" if record.ancestors else "",
        f"[addr: {_ends(event)}]",
        _container(record.container),
        *_rest(record, verbose),
    ]
    if event.handshake_ns is not None:
        parts.append(f"[latency: {event.handshake_ns / 1e6:.2f} msec]")
    return "".join(parts) + "\n"


def _text(value: object) -> str:
    """A bracket inside of a value must not look like one of the line."""
    if value is None:
        return UNKNOWN
    text = printable(str(value))
    return text.translate(_BRACKETS) if "[" in text or "]" in text else text


def _part(value: object, name: str = "") -> str:
    return f"[{name}: {_text(value)}]" if name else f"[{_text(value)}]"


def _direction(event: Event) -> str:
    return "Listen" if event.kind == "listen" else _SENT[came_in(event)]


def _person(who: Person | None, tid: int | None = None) -> str:
    if who is None:
        return f"{UNKNOWN}/{UNKNOWN} [{UNKNOWN}], uid/gid: {UNKNOWN}/{UNKNOWN}"
    thread = who.tid if tid is None else tid
    return f"{who.pid}/{_text(thread)} [{_program(who)}], uid/gid: {_text(who.uid)}/{_text(who.gid)}"


def _program(who: Person) -> str:
    """A thread may call itself like a program's path: its name stands in parentheses."""
    return _text(who.path) if who.path or not who.comm else f"({_text(who.comm)})"


def _ends(event: Event) -> str:
    where = event.tuple
    local = endpoint(where.local, where.local_port, UNKNOWN)
    if event.kind == "listen":
        return local
    remote = endpoint(where.remote, where.remote_port, UNKNOWN)
    return f"{remote} <-> {local}" if came_in(event) else f"{local} <-> {remote}"


def _container(found: ContainerName | None) -> str:
    if found is None:
        return ""
    name = "docker_name" if found.runtime == "docker" else "container_name"
    parts = {
        "containerID": short_id(found.id),
        "runtime": found.runtime,
        name: found.name if found.pod is None else None,
        "kube_name": found.container,
        "kube_pod": found.pod,
        "kube_ns": found.namespace,
    }
    return "".join(_part(value, key) for key, value in parts.items() if value is not None)


def _rest(record: Record, verbose: bool) -> list[str]:
    event = record.event
    parts = []
    if verbose or event.kind not in _PLAIN:
        parts.append(_part(event.kind, "event"))
    if event.error is not None:
        parts.append(_part(event.error, "error"))
    if verbose or record.attribution != "exact":
        parts.append(_part(record.attribution, "attribution"))
    parts += _counts(event)
    if verbose:
        parts += _everything(record)
    return parts


def _counts(event: Event) -> list[str]:
    counts, volume = event.counts, measured(event)
    if counts is None or volume is None:
        return []
    if event.kind in ("udp-send", "udp-recv"):
        packets = volume.packets_sent if event.kind == "udp-send" else volume.packets_received
        size = volume.bytes_sent if event.kind == "udp-send" else volume.bytes_received
        return [f"[packets: {packets}][bytes: {size}]"]
    parts = [
        f"[bytes sent/rcvd: {volume.bytes_sent}/{volume.bytes_received}]",
        f"[packets sent/rcvd: {volume.packets_sent}/{volume.packets_received}]",
        f"[retransmissions: {counts.retransmits}]",
    ]
    if counts.rtt_us is not None:
        parts.append(f"[rtt: {counts.rtt_us / 1e3:.2f} msec]")
    if event.opened is not None:
        parts.append(f"[duration: {(event.time - event.opened) / 1e9:.3f} sec]")
    return parts


def _everything(record: Record) -> list[str]:
    who, container = record.process, record.container
    parts = [_part(record.event.tuple.netns, "netns")]
    if who is not None:
        parts.append(f"[user/group: {_text(who.user)}/{_text(who.group)}]")
        parts.append(_part(who.comm, "thread"))
    if len(record.ancestors) > 1:
        chain = " < ".join(f"{one.pid} {_program(one)}" for one in record.ancestors)
        parts.append(f"[ancestors: {chain}]")
    if record.cgroup_path is not None:
        parts.append(_part(record.cgroup_path, "cgroup"))
    if container is not None and container.image is not None:
        parts.append(_part(container.image, "image"))
    return parts
