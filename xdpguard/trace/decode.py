"""Bytes of bpf/include/events.h -> Event and TaskEvent. Pure; any bytes of any length decode or give None.

What comes again is made once: an owner, a tuple and an address are found by their bytes.
"""

from __future__ import annotations

import errno
import struct
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP
from typing import Literal

from xdpguard.abi import abi
from xdpguard.trace.model import (
    Address,
    Attribution,
    Counts,
    Event,
    Kind,
    Owner,
    ProcessKey,
    TaskEvent,
    Tuple,
)

_CODES = {"__u8": "B", "__u16": "H", "__u32": "I", "__u64": "Q"}


def layout(name: str) -> struct.Struct:
    """A C struct for the struct module: arrays and nested structs as bytes, ``pad`` and holes skipped."""
    whole = abi().structs[name]
    parts, at = ["="], 0
    for field in whole.fields.values():
        inner = abi().structs.get(field.type)
        size = (inner.size if inner else struct.calcsize("=" + _CODES[field.type])) * max(field.count, 1)
        code = f"{size}s" if inner or field.count else _CODES[field.type]
        parts.append("x" * (field.offset - at) + (f"{size}x" if field.name == "pad" else code))
        at = field.offset + size
    return struct.Struct("".join(parts) + "x" * (whole.size - at))


_EVENT, _TASK, _OWNER, _TUPLE = (layout(f"xg_{name}") for name in ("event", "task_event", "owner", "tuple"))
_EVENT_SIZE = _EVENT.size
_FLOW_KEY, _FLOW = layout("xg_flow_key"), layout("xg_flow")
_NUMBERS = abi().numbers

KINDS: dict[int, Kind] = {
    _NUMBERS["XG_EV_CONNECT"]: "connect",
    _NUMBERS["XG_EV_CONNECT_FAILED"]: "connect-failed",
    _NUMBERS["XG_EV_ACCEPT"]: "accept",
    _NUMBERS["XG_EV_CLOSE"]: "close",
    _NUMBERS["XG_EV_RETRANSMIT"]: "retransmit",
    _NUMBERS["XG_EV_UDP_SEND"]: "udp-send",
    _NUMBERS["XG_EV_UDP_RECV"]: "udp-recv",
    _NUMBERS["XG_EV_LISTEN"]: "listen",
}
"""``enum xg_event_kind`` of what becomes a record."""
TASKS: dict[int, Literal["fork", "exec", "exit"]] = {
    _NUMBERS["XG_EV_FORK"]: "fork",
    _NUMBERS["XG_EV_EXEC"]: "exec",
    _NUMBERS["XG_EV_EXIT"]: "exit",
}
_RING = {number: kind for number, kind in KINDS.items() if not kind.startswith("udp")}
_ATTRIBUTIONS: dict[int, Attribution] = {
    _NUMBERS["XG_BY_EXACT"]: "exact",
    _NUMBERS["XG_BY_LATE"]: "late",
    _NUMBERS["XG_BY_PROCFS"]: "procfs",
    _NUMBERS["XG_BY_KERNEL"]: "kernel",
}
_PROTOCOLS: dict[int, Literal["tcp", "udp"]] = {IPPROTO_TCP: "tcp", IPPROTO_UDP: "udp"}
_ZERO, _MAPPED = bytes(16), bytes(10) + b"\xff\xff"
_UNSPECIFIED = (bytes(4), _ZERO)
_KNOWN = 4096  # tuples, addresses and owners remembered
_made = Event._make  # of all its fields in their order: in half the time


def number(data: bytes) -> int:
    """The first field of every record: its kind."""
    return int.from_bytes(data[:4], "little" if struct.pack("=H", 1)[0] else "big")


def record(data: bytes) -> Event | TaskEvent | None:
    """One record of the ring. None: not the size of a known struct, or a kind or family nobody defined."""
    if len(data) != _EVENT_SIZE:
        return _task(data) if len(data) == _TASK.size else None
    (
        code, error, time, sock, owner, ends, opened, handshake,
        sent, received, sent_packets, received_packets, retransmits, rtt, ifindex, incoming,
    ) = _EVENT.unpack(data)  # fmt: skip
    kind, where = _RING.get(code), _tuple(ends)
    if kind is None or where is None:
        return None
    reason = counts = None
    if kind == "close":
        counts = Counts(sent, received, sent_packets, received_packets, retransmits, rtt or None)
    elif kind == "connect-failed":
        reason = errno.errorcode.get(error, f"errno {error}") if error else "aborted"
    return _made((
        kind, time, sock, _owner(owner), where, incoming == 1, reason,
        opened or None, handshake or None, ifindex or None, counts,
    ))  # fmt: skip


def _task(data: bytes) -> TaskEvent | None:
    code, uid, time, start, parent_start, cgroup, pid, parent, gid, comm, path = _TASK.unpack(data)
    kind = TASKS.get(code)
    if kind is None:
        return None
    return TaskEvent(
        kind, time, ProcessKey(pid, start), ProcessKey(parent, parent_start) if parent else None,
        uid, gid, cgroup or None, _text(comm), _text(path) or None,
    )  # fmt: skip


def flow(key: bytes, value: bytes) -> Event | None:
    """A row of the flow table as it stands: all that its counters hold, at the time of its last datagram."""
    if len(key) != _FLOW_KEY.size or len(value) != _FLOW.size:
        return None
    sock, remote, _, port, family, code, _, _ = _FLOW_KEY.unpack(key)
    packets, octets, _, last, owner, ends, ifindex = _FLOW.unpack(value)
    kind, where = KINDS.get(code), _flow_tuple(ends, remote, port, family)
    if where is None or where.protocol != "udp" or (kind != "udp-send" and kind != "udp-recv"):
        return None
    sent = kind == "udp-send"
    counts = Counts(octets, 0, packets, 0) if sent else Counts(0, octets, 0, packets)
    return Event(kind, last, sock, _owner(owner), where, not sent, ifindex=ifindex or None, counts=counts)


def first(value: bytes) -> int:
    """When the counters of a flow began: ns, CLOCK_BOOTTIME."""
    began: int = abi().get(value, "xg_flow.first")
    return began


@lru_cache(maxsize=_KNOWN)
def _owner(data: bytes) -> Owner | None:
    """None: nobody, or an attribution that is not defined."""
    start, cgroup, pid, tid, uid, gid, by, comm = _OWNER.unpack(data)
    attribution = _ATTRIBUTIONS.get(by)
    if attribution is None:
        return None
    return Owner(ProcessKey(pid, start), tid, uid, gid, cgroup or None, _text(comm), attribution)


@lru_cache(maxsize=_KNOWN)
def _tuple(data: bytes) -> Tuple | None:
    local, remote, netns, local_port, remote_port, family, protocol = _TUPLE.unpack(data)
    return _ends(local, remote, netns, local_port, remote_port, family, protocol)


@lru_cache(maxsize=_KNOWN)
def _flow_tuple(data: bytes, remote: bytes, port: int, family: int) -> Tuple | None:
    """The peer is the key's: a socket without a connection has many."""
    local, _, netns, local_port, _, local_family, protocol = _TUPLE.unpack(data)
    if family != local_family:  # an IPv6 socket that talks IPv4
        local, remote = _wide(local, local_family), _wide(remote, family)
        family = AF_INET6 if {family, local_family} == {AF_INET, AF_INET6} else 0
    return _ends(local, remote, netns, local_port, port, family, protocol)


def _ends(
    local: bytes, remote: bytes, netns: int, local_port: int, remote_port: int, family: int, protocol: int
) -> Tuple | None:
    name = _PROTOCOLS.get(protocol)
    if name is None or family not in (AF_INET, AF_INET6):
        return None
    version: Literal[4, 6] = 4 if family == AF_INET else 6
    if version == 4:
        local, remote = local[:4], remote[:4]
    elif _is_ipv4(local, remote):
        version, local, remote = 4, local[12:], remote[12:]
    return Tuple(
        netns,
        version,
        name,
        _address(local) if local_port or local not in _UNSPECIFIED else None,
        local_port,
        None if remote in _UNSPECIFIED else _address(remote),
        None if remote in _UNSPECIFIED and not remote_port else remote_port,
    )


@lru_cache(maxsize=_KNOWN)
def _address(data: bytes) -> Address:
    """``data``: network order, of IPv4 four bytes. The same bytes give the same object while it is known."""
    return IPv4Address(data) if len(data) == 4 else IPv6Address(data)


def _is_ipv4(local: bytes, remote: bytes) -> bool:
    """An IPv6 socket that talks IPv4. With one end mapped the other is IPv4 too, if only 0.0.0.0."""
    mapped = local.startswith(_MAPPED), remote.startswith(_MAPPED)
    return any(mapped) and (mapped[0] or local == _ZERO) and (mapped[1] or remote == _ZERO)


def _wide(data: bytes, family: int) -> bytes:
    """An IPv4 address as a v4-mapped one; unspecified stays unspecified."""
    if family != AF_INET:
        return data
    return _MAPPED + data[:4] if any(data[:4]) else _ZERO


@lru_cache(maxsize=_KNOWN)
def _text(data: bytes) -> str:
    """Up to the first NUL. What is no UTF-8 stays what it was (surrogates), as for names of files."""
    return data.partition(b"\0")[0].decode("utf-8", "surrogateescape")
