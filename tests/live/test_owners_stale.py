"""What was true once: namespaces whose numbers come again, processes that ended, ports that others took.

A packet may be nobody's. It must never be counted as a process's that does not have its socket.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path

import pytest
from lab import PATIENCE, Lab, inside, run
from test_lifecycle_support import Site, dropping, frame
from test_owners_support import FIRST, SECOND, Book, by_pid, opened, reasons, send, side

from xdpguard.guard.repair import sweep
from xdpguard.kernel import netns, owners
from xdpguard.kernel.netns import Identity
from xdpguard.trace.live import Live
from xdpguard.trace.model import Filter
from xdpguard.trace.owners import seed

pytestmark = pytest.mark.usefixtures("own_owners", "no_leaks")
PORT = 700
FORMER = 3  # namespaces: somebody else on the host may get the number of one
# Bound, and used, so that a tracer captures it.
BOUND = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
one.bind(("0.0.0.0", int(sys.argv[1])))
one.sendto(b"x", ("127.0.0.1", int(sys.argv[1])))
one.recv(9)
print("bound", flush=True)
sys.stdin.read()
"""


@contextmanager
def bound(ns: str) -> Iterator[subprocess.Popen[str]]:
    """A process of its own that has UDP port 700 of every address."""
    place = f"--net={netns.FOLDER / ns}"
    argv = ["nsenter", place, sys.executable, "-S", "-c", BOUND, str(PORT)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "bound\n"
        yield process
        process.communicate()


# ---- namespaces --------------------------------------------------------------------------------------------
def removed() -> set[int]:
    """Inode numbers of namespaces in which a process had the port while a trace ran; all are gone."""
    lab = Lab(f"former {os.getpid()}")
    names = [lab.namespace(f"former{number}") for number in range(FORMER)]
    inodes = {inside(name, netns.identity).inode for name in names}
    for name in names:
        with bound(name):
            pass
    lab.close()
    return inodes


def again(lab: Lab, inodes: set[int]) -> str:
    """A new namespace with an inode number of one that is gone: the lowest free one, once it is free."""
    deadline = time.monotonic() + PATIENCE
    for number in count():
        name = lab.namespace(f"new{number}")
        if inside(name, netns.identity).inode in inodes:
            return name
        assert time.monotonic() < deadline, f"{number} new namespaces, and none with one of {inodes}"
        time.sleep(0.02)  # nothing tells when the kernel is through with a namespace
    raise AssertionError


def test_a_namespace_with_the_number_of_a_former_one_has_none_of_its_owners(lab: Lab, tmp_path: Path) -> None:
    with Live(Filter()):
        veth = lab.veth(server=again(lab, removed()), ipv6=False)
        site = Site.of(veth, tmp_path)
        site.load(dropping(), account_owners=True)
        try:
            send(site, frame(PORT))
            assert set(by_pid(side(site))) == {"(unknown)"}
            assert reasons(side(site)) == {"no_owner": 2}
        finally:
            site.unload()


def test_without_cookies_the_owners_of_a_dead_namespace_are_forgotten_before_a_load(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Linux 5.8 to 5.13: a namespace is known by its inode number."""
    identity = netns.identity
    monkeypatch.setattr(netns, "identity", lambda: Identity(identity().device, identity().inode, 0))
    site.load(dropping(), account_owners=True)
    for book in opened(site):
        book.add(FIRST, PORT, netns=1)  # no namespace has it
        with Live(Filter()), bound(site.end.name) as process:
            send(site, frame(PORT))
            book.add(FIRST, PORT, netns=1)
            assert all("not known" not in note for note in seed())
            keys = {entry for entry, _ in book.map.entries()}
        assert not keys & set(book.keys)
        assert process.pid in by_pid(side(site))


def test_an_interface_that_was_moved_has_no_owner_of_its_former_namespace(
    lab: Lab, site: Site, book: Book
) -> None:
    """Its XDP program goes with it. The next load is at home there."""
    book.add(FIRST, PORT)
    send(site, frame(PORT))
    other = lab.namespace("other")
    run(site.end.name, "ip", "link", "set", site.end.dev, "netns", other)
    run(other, "ip", "link", "set", site.end.dev, "up")
    moved = Site(replace(site.end, name=other), site.peer, site.folder)
    try:
        send(moved, frame(PORT))
        assert by_pid(side(moved)) == {"(unknown)": (4, 4 * len(frame(PORT)), 0)}
        done = moved.console("stats", "--by", "process", "--format", "plain")
        assert "moved here from another network namespace" in done.err
        moved.load(dropping(1000))
        send(moved, frame(PORT))
        for there in opened(moved):
            there.add(SECOND, PORT)
            send(moved, frame(PORT))
        found = by_pid(side(moved))
        assert (found[SECOND][0], FIRST in found) == (1, False)
        assert moved.counts().owners is None
        assert "moved" not in moved.console("stats", "--by", "process", "--format", "plain").err
    finally:
        moved.unload()
        inside(site.end.name, sweep, site.said.append)  # as any load there does


# ---- processes and ports -----------------------------------------------------------------------------------
def test_a_process_that_ended_is_forgotten_with_the_trace_that_saw_it(site: Site, book: Book) -> None:
    with Live(Filter()), bound(site.end.name) as former:
        send(site, frame(PORT))
    assert by_pid(side(site))[former.pid][0] == 1
    send(site, frame(PORT))
    assert by_pid(side(site))[former.pid][0] == 1  # and no more
    assert reasons(side(site)) == {"no_owner": 3}


def test_a_port_that_another_process_took_is_that_processs_when_the_trace_ends(
    site: Site, book: Book
) -> None:
    with inside(site.end.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as mine:
        with Live(Filter()):
            with bound(site.end.name) as former:
                pass
            mine.bind(("0.0.0.0", PORT))  # of which no probe tells
        send(site, frame(PORT))
    found = by_pid(side(site))
    assert former.pid not in found
    assert found[os.getpid()][0] == 1


def test_a_process_that_goes_on_is_still_known_after_the_trace(site: Site, book: Book) -> None:
    with bound(site.end.name) as process:
        with Live(Filter()):
            pass
        send(site, frame(PORT))
    assert by_pid(side(site))[process.pid][0] == 1


def test_a_load_forgets_who_is_gone(site: Site, book: Book) -> None:
    book.add(FIRST, PORT)
    send(site, frame(PORT))
    assert by_pid(side(site))[FIRST][0] == 1
    assert all("not known" not in note for note in seed())
    send(site, frame(PORT))
    assert by_pid(side(site))[FIRST][0] == 1


def test_a_load_beside_a_trace_leaves_its_owners_to_it(site: Site, book: Book) -> None:
    with Live(Filter()), owners.keeping():
        book.add(FIRST, PORT)
        assert all("not known" not in note for note in seed())
        send(site, frame(PORT))
    assert by_pid(side(site))[FIRST][0] == 1
