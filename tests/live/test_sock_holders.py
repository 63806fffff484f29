"""Whose a socket is that several processes have open, or one that ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from lab import Lab
from open_sockets import (
    ME,
    Keep,
    child,
    inode,
    listening,
    one,
    owner,
    seen,
)

from xdpguard.identity import sockets
from xdpguard.kernel import netns, sock_diag
from xdpguard.trace import existing

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_listener_that_a_fork_inherited_belongs_to_the_parent(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    listening(keep, ns, 5000)
    with child(lambda: 0) as worker:
        found = one(seen(ns), 5000)
    assert (owner(found), found.shared) == (ME, False)
    assert {each.pid for each in found.holders} == {ME, worker}


def test_a_socket_that_siblings_share_is_the_older_ones_and_uncertain(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    listener = listening(keep, ns, 5000)
    with child(lambda: 0) as older, child(lambda: 0) as younger:
        listener.close()
        found = one(seen(ns), 5000)
    assert (owner(found), found.shared) == (older, True)
    assert {each.pid for each in found.holders} == {older, younger}


def test_a_process_that_ends_during_the_scan_owns_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ns = lab.namespace("a")
    original = sockets._open_sockets
    with child(lambda: listening(lambda each: each, ns, 5000)) as pid:
        survey = sock_diag.everywhere({inode(ns)})

        def ending(place: Path) -> set[int]:
            result = original(place)
            if place.name == str(pid):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return result

        monkeypatch.setattr(sockets, "_open_sockets", ending)
        held = sockets.scan(Path("/"), {each.inode for each in survey.sockets[inode(ns)]})
    (found,) = existing.joined(survey, held)
    assert (found.state, found.owner) == ("LISTEN", None)
    assert held.vanished >= 1
    assert seen(ns) == []


MAIN_THREAD_ENDS = """
import ctypes, platform, socket, sys, threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 5000))
main = f"/proc/self/task/{threading.get_native_id()}/stat"
def stay():
    while open(main).read().rpartition(")")[2].split()[0] != "Z": pass
    print("ready", flush=True); sys.stdin.read(); ctypes.CDLL(None)._exit(0)
threading.Thread(target=stay).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)  # exit(2): this thread alone
"""


def test_a_process_whose_main_thread_has_ended_still_owns_its_sockets(lab: Lab) -> None:
    ns = lab.namespace("a")
    command = ["nsenter", f"--net={netns.FOLDER / ns}", sys.executable, "-c", MAIN_THREAD_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        try:
            assert program.stdout.readline() == b"ready\n"
            found = one(seen(ns), 5000)
        finally:
            program.stdin.close()
    assert owner(found) == program.pid
