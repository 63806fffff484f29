"""What a trace is made of, as plain data. Nothing here reads a kernel or prints.

An unknown value is None, never a guess; ``attribution`` says how an owner is known. What is made anew for
every event is a NamedTuple: it takes a quarter of the time of a frozen dataclass, a microsecond an event.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Literal, NamedTuple

Kind = Literal["connect", "connect-failed", "accept", "close", "retransmit", "udp-send", "udp-recv", "listen"]
Attribution = Literal["exact", "late", "procfs", "kernel", "unknown"]
Address = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True)
class ProcessKey:
    """One process for ever: its number is used again, its start time (ns, CLOCK_BOOTTIME) is not."""

    pid: int
    start_time: int


@dataclass(frozen=True, slots=True)
class Owner:
    """Who asked the kernel, as captured in that process's context."""

    process: ProcessKey
    tid: int
    uid: int
    gid: int
    cgroup: int | None
    comm: str  # of the thread
    attribution: Attribution


class Tuple(NamedTuple):
    """A socket's ends. Local is always our process's side; a peer that is not known is None."""

    netns: int
    family: Literal[4, 6]
    protocol: Literal["tcp", "udp"]
    local: Address | None
    local_port: int
    remote: Address | None
    remote_port: int | None


class Counts(NamedTuple):
    """Of a connection at its close, or of a UDP flow since its last record; bytes are payload."""

    bytes_sent: int = 0
    bytes_received: int = 0
    packets_sent: int = 0
    packets_received: int = 0
    retransmits: int = 0
    rtt_us: int | None = None


class Event(NamedTuple):
    """One event as decoded; times are ns, CLOCK_BOOTTIME."""

    kind: Kind
    time: int
    sock: int
    owner: Owner | None
    tuple: Tuple
    incoming: bool
    error: str | None = None  # ECONNREFUSED, ...; "aborted" when its own process gave up
    opened: int | None = None
    handshake_ns: int | None = None
    ifindex: int | None = None
    counts: Counts | None = None


@dataclass(frozen=True, slots=True)
class TaskEvent:
    """A process was forked, executed a program, or ended."""

    kind: Literal["fork", "exec", "exit"]
    time: int
    process: ProcessKey
    parent: ProcessKey | None
    uid: int
    gid: int
    cgroup: int | None
    comm: str
    path: str | None


@dataclass(frozen=True, slots=True)
class Person:
    """A process as a user sees it."""

    pid: int
    tid: int | None
    comm: str
    path: str | None
    uid: int | None
    user: str | None
    gid: int | None
    group: str | None


@dataclass(frozen=True, slots=True)
class ContainerName:
    id: str
    runtime: str | None
    name: str | None
    image: str | None
    pod: str | None
    namespace: str | None
    container: str | None  # its name inside the pod


class Record(NamedTuple):
    """An event with everything that is known about it: what the formats print."""

    event: Event
    wall: float  # seconds since the epoch
    interface: str | None
    attribution: Attribution
    process: Person | None
    ancestors: tuple[Person, ...] = ()  # parent first
    cgroup_path: str | None = None
    container: ContainerName | None = None


@dataclass(frozen=True, slots=True)
class Filter:
    """What is wanted. Empty fields want everything; several values of one field are alternatives."""

    kinds: frozenset[Kind] = frozenset()
    pids: frozenset[int] = frozenset()
    uids: frozenset[int] = frozenset()
    containers: frozenset[str] = frozenset()  # ids, id prefixes or names
    ports: frozenset[int] = frozenset()  # local or remote
    networks: tuple[IPv4Network | IPv6Network, ...] = ()  # local or remote
    netns: frozenset[int] = frozenset()  # inode numbers; empty = all


@dataclass(frozen=True, slots=True)
class KindLedger:
    """seen = emitted + filtered + sum(lost)."""

    seen: int = 0
    emitted: int = 0
    filtered: int = 0
    unknown: int = 0
    lost: dict[str, int] = field(default_factory=dict)  # cause -> events
