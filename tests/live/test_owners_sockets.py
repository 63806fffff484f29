"""Whose packets they were: real connections and datagrams, with a tracer and without."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import lab as network
import pytest
from lab import inside
from test_lifecycle_support import Site
from test_owners_support import Book, by_pid, mine, reasons, side

from xdpguard.kernel import owners
from xdpguard.trace.live import Live
from xdpguard.trace.model import Filter
from xdpguard.trace.owners import seed

pytestmark = pytest.mark.usefixtures("own_owners", "no_leaks")


@contextmanager
def connected(client: str, server: str, address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the client's end, the server's end), both this process's."""
    with (
        inside(server, socket.socket, socket.AF_INET) as listener,
        inside(client, socket.socket, socket.AF_INET) as near,
    ):
        listener.bind((address, 0))
        listener.listen()
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        with far:
            yield near, far


def test_a_servers_packets_are_its_from_the_first_on(site: Site, book: Book) -> None:
    """By its listening socket alone: no tracer runs."""
    with inside(site.end.name, socket.socket) as listener, inside(site.peer.name, socket.socket) as near:
        listener.bind((site.end.ipv4, 0))
        listener.listen()
        assert all("not known" not in note for note in seed())
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        with far:
            near.sendall(b"x" * 100)
            assert far.recv(1000)
            far.sendall(b"y" * 100)
            assert near.recv(1000)
    ingress, egress = side(site), side(site, "egress")
    assert reasons(ingress) == reasons(egress) == {}
    assert mine(ingress).count.packets >= 4
    assert mine(egress).count.packets >= 3
    assert mine(egress).uid == os.getuid()
    [row] = [row for row in egress.users if row.uid == os.getuid()]
    assert row.count == mine(egress).count


def test_a_tracer_tells_whose_a_connection_is_from_its_handshake_on(site: Site, book: Book) -> None:
    with Live(Filter(pids=frozenset({1}))):  # whatever the filter wants
        assert owners.kept()
        with connected(site.end.name, site.peer.name, site.peer.ipv4) as (near, far):
            near.sendall(b"x" * 100)
            assert far.recv(1000)
            far.sendall(b"y" * 1000)
            assert near.recv(2000)
    assert not owners.kept()
    ingress, egress = side(site), side(site, "egress")
    assert reasons(ingress) == {"no_owner": 1}  # the SYN-ACK
    assert reasons(egress) == {"no_process": 1}  # the SYN, of which the socket tells the user
    assert mine(ingress).count.bytes > 1000
    assert mine(egress).count.packets >= 2


ACCEPT = """
import socket, sys
far, _ = socket.socket(fileno=int(sys.argv[1])).accept()
far.sendall(far.recv(5000))
far.recv(1)
"""


def test_a_connection_is_whose_who_accepted_it_and_not_the_listeners(site: Site, book: Book) -> None:
    with (
        Live(Filter()),
        inside(site.end.name, socket.socket) as listener,
        inside(site.peer.name, socket.socket) as near,
    ):
        listener.bind((site.end.ipv4, 0))
        listener.listen()
        number = listener.fileno()
        worker = subprocess.Popen([sys.executable, "-c", ACCEPT, str(number)], pass_fds=[number])
        near.connect(listener.getsockname())
        near.sendall(b"x")
        assert near.recv(5000) == b"x"
        near.close()
        assert worker.wait(network.PATIENCE) == 0
    found = by_pid(side(site, "egress"))
    assert worker.pid in found
    assert found[os.getpid()][0] <= 2  # the SYN-ACK, and what was acknowledged before accept()
    assert worker.pid in by_pid(side(site))


def test_a_reset_for_a_port_that_nobody_listens_on_is_nobodys(site: Site, book: Book) -> None:
    with inside(site.peer.name, socket.socket) as near, pytest.raises(ConnectionRefusedError):
        near.connect((site.end.ipv4, 1))
    egress = side(site, "egress")
    assert reasons(egress) == {"no_owner": 1}
    assert [row.name for row in egress.users] == ["(kernel)", "(unknown)"]


def test_a_tracer_tells_whose_datagrams_are_from_the_second_on(site: Site, book: Book) -> None:
    with (
        Live(Filter()),
        inside(site.end.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as near,
        inside(site.peer.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        far.bind((site.peer.ipv4, 0))
        for _ in range(3):
            near.sendto(b"ask", far.getsockname())
            far.sendto(b"answer", far.recvfrom(100)[1])
            assert near.recv(100) == b"answer"
    assert mine(side(site)).count.packets == 3
    assert mine(side(site, "egress")).count.packets == 2
    assert reasons(side(site, "egress")) == {"no_process": 1}


def test_without_a_tracer_stats_says_so_in_one_line(site: Site, book: Book) -> None:
    done = site.console("stats", "--by", "process")
    assert done.code == 0
    assert len([line for line in done.out.splitlines() if "xdpguard trace" in line]) == 1
    done = site.console("stats", "--by", "process", "--format", "prometheus")
    assert done.code == 2
    assert "--by user or container" in done.err
