"""What the tests of tracing share: a session, its events decoded, and sockets in a pair of namespaces."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar

from lab import End, Veth, inside

from xdpguard.abi import abi
from xdpguard.kernel import netns
from xdpguard.kernel.tracing import KernelFilter, Tracing
from xdpguard.trace import decode
from xdpguard.trace.model import Event, TaskEvent

T = TypeVar("T")
PATIENCE = 10.0  # seconds, which only a failing test needs
KINDS = {name.removeprefix("XG_EV_"): value for name, value in abi().numbers.items() if "XG_EV_" in name}


@dataclass(slots=True)
class Seen:
    """A session and all it has told so far."""

    tracing: Tracing
    events: list[Event] = field(default_factory=list)
    tasks: list[TaskEvent] = field(default_factory=list)

    def take(self, timeout: float = 0) -> None:
        for data in self.tracing.poll(timeout):
            found = decode.record(data)
            assert found is not None
            if isinstance(found, Event):
                self.events.append(found)
            else:
                self.tasks.append(found)

    def until(self, *, kind: str, count: int = 1, **fields: Any) -> list[Event]:
        """The events of a kind, once there are ``count``. ``local_port=...``: of that tuple, and so on."""
        return self._wait(lambda: [one for one in self.events if matches(one, kind, fields)], count, kind)

    def task(self, kind: str, pid: int) -> TaskEvent:
        return self._wait(
            lambda: [one for one in self.tasks if (one.kind, one.process.pid) == (kind, pid)], 1, kind
        )[0]

    def _wait(self, found: Callable[[], list[T]], count: int, what: str) -> list[T]:
        deadline = time.monotonic() + PATIENCE
        while len(found()) < count:
            left = deadline - time.monotonic()
            assert left > 0, f"no {count} x {what}: {self.events} and {len(self.tasks)} of processes"
            self.take(min(left, 0.5))
        return found()

    def flows(self) -> list[Event]:
        """What the UDP table holds since the last time."""
        found = []
        for key, value in self.tracing.flows():
            one = decode.flow(key, value)
            assert one is not None
            found.append(one)
        return found

    def ledger(self, kind: str) -> dict[str, int]:
        names = abi().structs["xg_ledger"].fields
        return dict(zip(names, self.tracing.ledger()[KINDS[kind]], strict=True))


def matches(event: Event, kind: str, fields: dict[str, Any]) -> bool:
    return event.kind == kind and all(getattr(event.tuple, name) == value for name, value in fields.items())


def inode(end: End) -> int:
    return inside(end.name, netns.identity).inode


@contextmanager
def tracing(*ends: End, kinds: str = "", **fields: Any) -> Iterator[Seen]:
    """A session that wants only these ends' network namespaces; ``kinds``: "CONNECT ACCEPT"."""
    wanted = KernelFilter(
        kinds=frozenset(KINDS[kind] for kind in kinds.split()),
        netns=frozenset(map(inode, ends)),
        **fields,
    )
    with Tracing(wanted) as session:
        yield Seen(session)


def listener(end: End, address: str, family: int = socket.AF_INET) -> socket.socket:
    one = inside(end.name, socket.socket, family, socket.SOCK_STREAM)
    one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    one.bind((address, 0))
    one.listen(16)
    one.settimeout(PATIENCE)
    return one


def client(end: End, family: int = socket.AF_INET) -> socket.socket:
    one = inside(end.name, socket.socket, family, socket.SOCK_STREAM)
    one.settimeout(PATIENCE)
    return one


def datagram(end: End, address: str = "", family: int = socket.AF_INET) -> socket.socket:
    one = inside(end.name, socket.socket, family, socket.SOCK_DGRAM)
    one.settimeout(PATIENCE)
    if address:
        one.bind((address, 0))
    return one


FORMS = {
    "IPv4": (socket.AF_INET, "{0.ipv4}", "{0.ipv4}", 4),
    "IPv6": (socket.AF_INET6, "{0.ipv6}", "{0.ipv6}", 6),
    "v4-mapped": (socket.AF_INET6, "::ffff:{0.ipv4}", "{0.ipv4}", 4),
}
"""Form -> family of the socket, the address as given to it and as reported, and the family as reported."""


def addresses(form: str, pair: Veth) -> tuple[int, str, str, str, int]:
    """Family, the server's address to connect to, client's and server's as reported, and their family."""
    family, given, told, version = FORMS[form]
    return family, given.format(pair.server), told.format(pair.client), told.format(pair.server), version
