"""Bytes as the tracing programs write them, by the names of events.h; and a fake host around a session."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from trace_samples import ends as decoded

from xdpguard.abi import abi
from xdpguard.identity.container import Container
from xdpguard.identity.process import Process
from xdpguard.trace.attribute import Attributor, Names
from xdpguard.trace.cgroups import Cgroups
from xdpguard.trace.known import KnownSockets
from xdpguard.trace.model import Filter, Owner, ProcessKey, Record
from xdpguard.trace.processes import Processes
from xdpguard.trace.seeds import SeededSocket
from xdpguard.trace.session import Session
from xdpguard.trace.wanted import Wanted

NUMBERS = abi().numbers
SECOND = 1_000_000_000
NETNS = 4026531840
ID = "ab" * 32
CURL: dict[str, Any] = dict(
    start_time=5 * SECOND, cgroup=77, pid=4242, tid=4243, uid=1000, gid=100, attribution=1, comm=b"resolver"
)
NOBODY = CURL | {"attribution": 0}


def packed(address: str) -> bytes:
    return ip_address(address).packed.ljust(16, b"\0")


def struct_of(name: str, **fields: Any) -> bytes:
    """``owner`` and ``tuple`` are fields of the structs that have them; bytes go into arrays."""
    data = bytearray(abi().structs[name].size)
    _fill(data, name, 0, fields)
    return bytes(data)


def _fill(data: bytearray, name: str, base: int, fields: dict[str, Any]) -> None:
    for field, value in fields.items():
        place = base + abi().offset(f"{name}.{field}")
        if isinstance(value, dict):
            _fill(data, f"xg_{field}", place, value)
        elif isinstance(value, bytes):
            data[place : place + len(value)] = value
        else:
            abi().put(data, f"{name}.{field}", value, base)


def ends(local: str, local_port: int, remote: str, remote_port: int, **more: Any) -> dict[str, Any]:
    family = 10 if ":" in local else 2
    return dict(
        local=packed(local), local_port=local_port, remote=packed(remote), remote_port=remote_port,
        netns=NETNS, family=family, protocol=6,
    ) | more  # fmt: skip


WEB = ends("192.0.2.1", 40000, "198.51.100.7", 443)


def event(kind: str, time: int = 100 * SECOND, sock: int = 0xFFFF888000000040, **fields: Any) -> bytes:
    known: dict[str, Any] = dict(owner=CURL, tuple=WEB, ifindex=2) | fields
    return struct_of("xg_event", kind=NUMBERS[f"XG_EV_{kind}"], time=time, sock=sock, **known)


def task(kind: str, time: int = 90 * SECOND, **fields: Any) -> bytes:
    known: dict[str, Any] = dict(
        pid=4242, start_time=5 * SECOND, parent=10, parent_start_time=SECOND, uid=1000, gid=100, cgroup=77,
        comm=b"curl",
    ) | fields  # fmt: skip
    return struct_of("xg_task_event", kind=NUMBERS[f"XG_EV_{kind}"], time=time, **known)


DNS = ends("192.0.2.1", 5353, "198.51.100.53", 53, protocol=17)


def flow(kind: str, packets: int, size: int, first: int = SECOND, **fields: Any) -> tuple[bytes, bytes]:
    """One row of the flow table. ``remote``, ``port``, ``family``, ``sock`` go into its key."""
    key = dict(sock=64, remote=DNS["remote"], remote_port=53, family=2)
    key |= {name: fields.pop(name) for name in list(fields) if name in key}
    known: dict[str, Any] = dict(owner=CURL, tuple=DNS, ifindex=2, last=first + 5) | fields
    value = struct_of("xg_flow", packets=packets, bytes=size, first=first, **known)
    return struct_of("xg_flow_key", kind=NUMBERS[f"XG_EV_{kind}"], **key), value


def process(pid: int, start: int, ppid: int = 1, comm: str = "curl", cgroup: str | None = None) -> Process:
    """``start``: seconds."""
    return Process(pid, pid, comm, f"/usr/bin/{comm}", 1000, 100, ppid, start * 100, NETNS, cgroup)


EVERYTHING = Filter()


class Host:
    """What the callables of a session find, to be changed by a test; and the session."""

    def __init__(
        self, wanted: Filter = EVERYTHING, *, ids_tell: bool = True, limit: int | None = None
    ) -> None:
        self.now = 200 * SECOND
        self.proc: dict[int, Process] = {}
        self.paths: dict[int, str] = {}  # what a walk has found
        self.cgroups_there: dict[str, int] = {}
        self.containers: dict[str, Container] = {}
        self.interfaces = {(NETNS, 2): "eth0"}
        self.processes = Processes(lambda pid: self.proc.get(pid))
        self.known = KnownSockets()
        self.cgroups = Cgroups(
            lambda identity: self.paths.get(identity),
            lambda identity, path: self.cgroups_there.get(path) == identity,
            lambda path: self.containers.get(path),
            self.processes,
            ids_tell,
        )
        names = Names(
            lambda uid: {1000: "alice"}.get(uid),
            lambda gid: {100: "users"}.get(gid),
            lambda netns, index: self.interfaces.get((netns, index)),
        )
        self.session = Session(
            Attributor(self.processes, self.known, self.cgroups, names),
            self.processes,
            Wanted(wanted),
            lambda: self.now,
            lambda: 1_700_000_000 + self.now / SECOND,
            limit=limit,
        )

    def container(self, path: str, name: str | None = "web", identity: int = 77) -> None:
        self.paths[identity] = path
        self.cgroups_there[path] = identity
        self.containers[path] = Container(ID, "docker", name)

    def seed(self, pid: int = 500) -> None:
        """An nginx had the connection of the events open before the trace."""
        where = decoded("192.0.2.1", 40000, "198.51.100.7", 443)
        owner = Owner(ProcessKey(pid, 3 * SECOND), pid, 0, 0, None, "nginx", "procfs")
        self.known.add([SeededSocket(where.netns, 1, where.protocol, where, 9, owner, "ESTABLISHED")])

    def records(self, raw: Iterable[bytes]) -> list[Record]:
        """Fed one by one, then all that waits."""
        found = [record for data in raw for record in self.session.feed([data])]
        return found + self.session.finish()
