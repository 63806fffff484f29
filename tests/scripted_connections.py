"""Makes 101 connections of every sort on the loopback of its network namespace, and writes who made each.

    scripted_connections.py TRUTH [CPU]      TRUTH: the file to write; CPU: the only one to run on

A program of its own, of the standard library alone, so that a virtual machine can run it without the package.
TRUTH is JSON: ``netns``, an inode; ``connections``, how many; ``events``, each with the keys of
``trace --format json`` that must be so, and with keys for scripted_judge.py, which begin with "_".
"""

from __future__ import annotations

import json
import os
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from scripted_datagrams import Datagrams
from scripted_truth import (
    ESTABLISHED,
    FORMS,
    PATIENCE,
    PING,
    PONG,
    Child,
    End,
    Event,
    drained,
    end,
    me,
    reached,
    settled,
    volume,
)

EXECUTABLE = "/usr/bin/bash"  # what it connects by itself: no other program that is always there does
NOWHERE = {"IPv4": "192.0.2.1", "IPv6": "2001:db8::1"}  # for documentation: no route leads there


class Script(Datagrams):
    """Methods that make connections of one sort, ``number`` of them, each with a name of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.listeners = {form: self._listener(form) for form in FORMS}

    def _listener(self, form: str, backlog: int = 128) -> socket.socket:
        family, address = FORMS[form]
        one = socket.socket(family, socket.SOCK_STREAM)
        one.bind((address, 0))
        one.listen(backlog)
        one.settimeout(PATIENCE)
        self.tell("listeners", "listen", me(), end(one.getsockname()), None)
        return one

    def opened(self, form: str, *, waits: bool = True) -> socket.socket:
        """Connected, and the question sent. ``waits`` False: connect() returns before it is connected."""
        to = self.listeners[form].getsockname()
        one = socket.socket(FORMS[form][0], socket.SOCK_STREAM)
        one.setblocking(waits)
        one.connect_ex(to)  # what follows waits for its end
        one.settimeout(PATIENCE)
        one.sendall(PING)
        return one

    def serve(self, form: str, *, answers: bool = True) -> tuple[Event, End, End]:
        """Accept, read the question, answer, close. Who did so, our end and the client's."""
        one, peer = self.listeners[form].accept()
        one.settimeout(PATIENCE)
        received = b""
        while len(received) < len(PING) and (data := one.recv(100)):
            received += data
        if answers:
            one.sendall(PONG)
        elif one.recv(100):
            raise SystemExit("more than was sent")
        one.close()
        return me(), end(self.listeners[form].getsockname()), end(peer)

    # ---- sorts of connections: ``number`` of them, each one named ------------------------------------------

    def plain(self, form: str, number: int, *, waits: bool = True) -> None:
        for index in range(number):
            one = self.opened(form, waits=waits)
            served, there, peer = self.serve(form)
            drained(one)
            name = f"{form}{'' if waits else ' non-blocking'} {index}"
            self.report(name, me(), peer, served, there, PONG)

    def by_child(self, sort: str, number: int, form: str, *, uid: int = 0, short: bool = False) -> None:
        """``short``: the process has ended before its connection is accepted."""

        def asks() -> Event:
            if uid:
                os.setgid(uid)
                os.setuid(uid)
            one, who = self.opened(form), me()
            one.close() if short else drained(one)
            return who

        for index in range(number):
            child = Child(asks)
            who = child.result() if short else None
            served, there, peer = self.serve(form, answers=not short)
            self.report(f"{sort} {index}", who or child.result(), peer, served, there, b"" if short else PONG)

    def by_program(self, number: int) -> None:
        """An executed program connects, in its own name."""
        port = self.listeners["IPv4"].getsockname()[1]
        code = f"exec 3<>/dev/tcp/127.0.0.1/{port}; printf {PING.decode()} >&3; read -r answer <&3"
        for index in range(number):
            program = subprocess.Popen([EXECUTABLE, "-c", code])
            served, there, peer = self.serve("IPv4")
            if program.wait(PATIENCE):
                raise SystemExit(f"{EXECUTABLE} failed")
            who = {
                **me(), "process.pid": program.pid, "thread.id": program.pid, "thread.name": "bash",
                "process.executable.path": EXECUTABLE, "process.parent_pid": os.getpid(),
            }  # fmt: skip
            self.report(f"executed program {index}", who, peer, served, there, PONG)

    def then_executes(self, number: int) -> None:
        """The process that has connected becomes another program, whose end closes the connection."""

        def asks() -> Event:
            one, who = self.opened("IPv4"), me()
            one.set_inheritable(True)
            one.setblocking(True)  # as a program expects its files
            os.write(Child.pipe, json.dumps(who).encode())
            os.close(Child.pipe)
            os.execv(EXECUTABLE, ["bash", "-c", f"read -r answer <&{one.fileno()}"])

        for index in range(number):
            child = Child(asks)
            served, there, peer = self.serve("IPv4")
            who = child.result()
            del who["process.executable.path"]  # one at connect, another at the close
            self.report(f"executes while connected {index}", who, peer, served, there, PONG)

    def by_thread(self, number: int, form: str) -> None:
        for index in range(number):
            found: list[Event] = []

            def asks(index: int = index, found: list[Event] = found) -> None:
                Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text(f"thread-{index}")
                one = self.opened(form)
                drained(one)
                found.append(me())

            thread = threading.Thread(target=asks)
            thread.start()
            served, there, peer = self.serve(form)
            thread.join(PATIENCE)
            self.report(f"thread {index}", found[0], peer, served, there, PONG)

    def closed_by_another(self, number: int) -> None:
        """A child gets the socket and closes it last: the connection stays its maker's."""
        for index in range(number):
            one = self.opened("IPv4")

            def ends(one: socket.socket = one) -> Event:
                drained(one)
                return me()

            child = Child(ends)
            one.close()
            served, there, peer = self.serve("IPv4")
            child.result()
            self.report(f"closed by a child {index}", me(), peer, served, there, PONG)

    def accepted_by_worker(self, number: int) -> None:
        """The listener's parent process listens, its child accepts."""
        for index in range(number):
            child = Child(lambda: self.serve("IPv6")[0])
            one = self.opened("IPv6")
            local, there = end(one.getsockname()), end(one.getpeername())
            drained(one)
            self.report(f"accepted by a worker {index}", me(), local, child.result(), there, PONG)

    def refused(self, form: str, number: int) -> None:
        family, address = FORMS[form]
        with socket.socket(family, socket.SOCK_STREAM) as reserved:
            reserved.bind((address, 0))  # nobody else listens there
            to = reserved.getsockname()
            for index in range(number):
                local = self._fails(family, address, to)
                failed = {"error.type": "ECONNREFUSED"}
                self.tell(f"refused {form} {index}", "connect-failed", me(), local, end(to), **failed)

    def without_route(self, form: str) -> None:
        """Fails inside connect(): nothing is sent, and a kprobe alone sees it."""
        family, address = FORMS[form]
        to = (NOWHERE[form], 9)
        local = self._fails(family, address, to)
        failed = {"error.type": "ENETUNREACH", "_needs": "kprobe"}
        self.tell(f"no route {form}", "connect-failed", me(), local, to, **failed)

    def _fails(self, family: int, address: str, to: tuple[Any, ...]) -> End:
        with socket.socket(family, socket.SOCK_STREAM) as one:
            one.bind((address, 0))  # a failed connect() forgets the port that it chose by itself
            local = end(one.getsockname())
            if one.connect_ex(to) == 0:
                raise SystemExit(f"{to} answers")
        return local

    def reset_before_accept(self) -> None:
        form, name = "IPv4", "reset before it was accepted"
        one = self.opened(form)
        local, there = end(one.getsockname()), end(self.listeners[form].getsockname())
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        one.close()
        reached("", there, local)  # another CPU may still be at it
        self.listeners[form].accept()[0].close()
        self.tell(name, "connect", me(), local, there, incoming=False)
        self.tell(name, "close", me(), local, there, incoming=False)
        self.tell(name, "close", None, there, local)  # it was nobody's yet
        self.tell(name, "accept", me(), there, local)

    def never_accepted(self) -> None:
        """One waits to be accepted until its listener ends, another finds no place to wait."""
        name, other = "never accepted", "given up"
        listener = self._listener("IPv4", backlog=0)
        to = listener.getsockname()
        with socket.create_connection(to) as waits, socket.socket() as gives_up:
            local = end(waits.getsockname())
            reached(ESTABLISHED, end(to), local)  # another CPU may still be at it
            gives_up.bind(("127.0.0.1", 0))
            gives_up.setblocking(False)
            gives_up.connect_ex(to)
            gone = end(gives_up.getsockname())
            gives_up.close()
            listener.close()
        self.tell(other, "connect-failed", me(), gone, end(to), **{"error.type": "aborted"})
        self.tell(name, "connect", me(), local, end(to), incoming=False)
        self.tell(name, "close", me(), local, end(to), incoming=False, **volume())
        self.tell(name, "close", None, end(to), local, **volume())


def main(truth: str, cpu: str = "") -> None:
    if cpu:
        os.sched_setaffinity(0, {int(cpu)})
    script = Script()
    for form in FORMS:
        script.plain(form, 8)
    script.by_child("child", 10, "IPv4")
    script.by_program(8)
    script.then_executes(2)
    script.by_thread(10, "IPv6")
    script.by_child("short-lived", 10, "v4-mapped", short=True)
    script.plain("IPv4", 8, waits=False)
    for form, number in (("IPv4", 4), ("IPv6", 2), ("v4-mapped", 2)):
        script.refused(form, number)
    script.by_child("other user", 4, "IPv4", uid=65534)
    script.closed_by_another(3)
    script.accepted_by_worker(3)
    script.reset_before_accept()
    script.never_accepted()
    for form in NOWHERE:
        script.without_route(form)
    for form, number in (("IPv4", 1), ("IPv6", 2), ("v4-mapped", 1)):
        script.connected_datagrams(form, number)
    script.connected_datagrams("IPv4", 1, asks_peer=False)
    script.unconnected_datagrams()
    settled()
    connections = len(script.names - {"listeners"})
    inode = Path("/proc/self/ns/net").stat().st_ino
    document = {"netns": inode, "connections": connections, "events": script.events}
    Path(truth).write_text(json.dumps(document))


if __name__ == "__main__":
    main(*sys.argv[1:])
