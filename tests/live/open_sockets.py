"""Sockets that the tests open in a namespace, who holds them, and what the kernel lists of them."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress

import pytest
from lab import inside

from xdpguard.kernel import netns, sock_diag
from xdpguard.trace import existing
from xdpguard.trace.seeds import SeededSocket

HOST = "127.0.0.1"
ME = os.getpid()
STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
Keep = Callable[[socket.socket], socket.socket]


@pytest.fixture
def keep() -> Iterator[Keep]:
    """``keep(socket)`` closes it after the test."""
    with ExitStack() as stack:
        yield stack.enter_context


def opened(keep: Keep, ns: str, kind: int = STREAM, family: int = socket.AF_INET) -> socket.socket:
    return keep(inside(ns, socket.socket, family, kind))


def listening(keep: Keep, ns: str, port: int) -> socket.socket:
    listener = opened(keep, ns)
    listener.bind((HOST, port))
    listener.listen()
    return listener


def connected(keep: Keep, ns: str, server: int, client: int) -> tuple[socket.socket, socket.socket]:
    """(client's end, server's end) of a connection between two ports."""
    listener, one = listening(keep, ns, server), opened(keep, ns)
    one.bind((HOST, client))
    one.connect((HOST, server))
    return one, keep(listener.accept()[0])


@contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """A forked process that has done ``work`` and keeps what that returned until the block ends."""
    ready, done = os.pipe()
    resume, stay = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(stay)
            kept = work()  # noqa: F841
            os.write(done, b"+")
            os.read(resume, 1)
        finally:
            os._exit(0)
    os.close(done)
    try:
        assert os.read(ready, 1) == b"+", "the child failed"
        yield pid
    finally:
        for fd in (ready, resume, stay):
            os.close(fd)
        with suppress(ChildProcessError):  # a test has waited for it
            os.waitpid(pid, 0)


def inode(ns: str) -> int:
    return (netns.FOLDER / ns).stat().st_ino


def seen(*names: str) -> list[SeededSocket]:
    return list(existing.look(only={inode(name) for name in names}).sockets)


def one(found: list[SeededSocket], port: int) -> SeededSocket:
    """The only socket with this local port."""
    (match,) = [each for each in found if each.tuple.local_port == port]
    return match


def own(opened: socket.socket) -> sock_diag.TcpInfo:
    return sock_diag.tcp_info(opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 255))


def owner(found: SeededSocket) -> int | None:
    return found.owner.process.pid if found.owner is not None else None
