"""What the scripted connections say of themselves: events with the keys of ``trace --format json``.

Of the standard library alone, like scripted_connections.py, which runs without the package.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

PING, PONG = b"ping!", b"pong pong\n"
PATIENCE = 60.0  # seconds, which only a failing run needs
ESTABLISHED, TIME_WAIT, LISTEN = "01", "06", "0A"  # in /proc/net/tcp

FORMS = {
    "IPv4": (socket.AF_INET, "127.0.0.1"),
    "IPv6": (socket.AF_INET6, "::1"),
    "v4-mapped": (socket.AF_INET6, "::ffff:127.0.0.1"),
}

Event = dict[str, Any]
End = tuple[str, int]


def me() -> Event:
    """The current thread, as a trace must tell it."""
    thread = threading.get_native_id()
    return {
        "process.pid": os.getpid(),
        "thread.id": thread,
        "thread.name": Path(f"/proc/self/task/{thread}/comm").read_text().rstrip("\n"),
        "process.executable.path": sys.executable,  # as it was executed
        "process.real_user.id": os.getuid(),
        "gid": os.getgid(),
        "process.parent_pid": os.getppid(),
    }


def end(name: tuple[Any, ...]) -> End:
    """As reported: a v4-mapped address is IPv4."""
    return name[0].removeprefix("::ffff:"), name[1]


def volume(sent: bytes = b"", received: bytes = b"") -> Event:
    """What a close must count."""
    return {"bytes_sent": len(sent), "bytes_received": len(received)}


class Truth:
    """``events``: what happened so far. Both ends are on this host, so that each connection is told twice."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.names: set[str] = set()

    def tell(
        self, name: str, event: str, who: Event | None, local: End, peer: End | None, **more: Any
    ) -> None:
        """``who`` None: nobody can be behind it."""
        self.names.add(name)
        self.events.append(
            {
                "_connection": name,
                "event": event,
                "attribution": "unknown" if who is None else "exact",
                "network.transport": "udp" if event.startswith("udp") else "tcp",
                "network.type": "ipv6" if ":" in local[0] else "ipv4",
                "network.local.address": local[0],
                "network.local.port": local[1],
                "network.peer.address": peer[0] if peer else None,
                "network.peer.port": peer[1] if peer else None,
                **(who if who is not None else dict.fromkeys(me())),
                **more,
            }
        )

    def report(self, name: str, asked: Event, local: End, served: Event, there: End, answer: bytes) -> None:
        """Both ends of a connection, from its beginning to its end."""
        self.tell(name, "connect", asked, local, there, incoming=False)
        self.tell(name, "accept", served, there, local, incoming=True)
        self.tell(name, "close", asked, local, there, incoming=False, **volume(PING, answer))
        self.tell(name, "close", served, there, local, incoming=True, **volume(answer, PING))


class Child:
    """A forked process, and what it says of itself."""

    pipe = -1  # in the child: where to

    def __init__(self, action: Callable[[], Event]) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid:
            os.close(write)
            return
        Child.pipe = write
        code = 1
        try:
            os.write(write, json.dumps(action()).encode())
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)

    def result(self) -> Event:
        """After its end."""
        with os.fdopen(self._read, "rb") as told:
            said = told.read()
        if os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1]):
            raise SystemExit("a child failed")
        found: Event = json.loads(said)
        return found


def drained(one: socket.socket) -> None:
    """The answer was read, the other side has closed, and so do we."""
    one.settimeout(PATIENCE)
    while one.recv(100):
        pass
    one.close()


def reached(state: str, local: End, peer: End) -> None:
    """Until the local end's connection with the peer is in this state; "": until it is gone."""
    ports = (local[1], peer[1])
    awaited(lambda table: "".join(now for *between, now in table if tuple(between) == ports) == state)


def settled() -> None:
    """Until every connection of this namespace is closed."""
    awaited(lambda table: {state for *_, state in table} <= {TIME_WAIT, LISTEN})


def awaited(so: Callable[[list[tuple[int, int, str]]], bool]) -> None:
    """Until the TCP sockets of this namespace are so: nothing tells of that, so it is asked for.

    Each with its port, its peer's and its state, as /proc/net/tcp writes it.
    """
    until = time.monotonic() + PATIENCE
    while not so(table := list(_table())):
        if time.monotonic() > until:
            raise SystemExit(f"still: {table}")
        time.sleep(0.02)


def _table() -> Iterator[tuple[int, int, str]]:
    for file in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{file}").read_text().splitlines()[1:]:
            _, local, peer, state = line.split()[:4]
            yield int(local[-4:], 16), int(peer[-4:], 16), state
