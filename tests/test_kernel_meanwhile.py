"""Work in a fork: the answer is that of the work itself, whatever becomes of the fork."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpguard.kernel import meanwhile as module
from xdpguard.kernel.meanwhile import meanwhile

LARGE = b"x" * (1 << 20)
"""More than a pipe holds."""


@pytest.fixture(autouse=True)
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host of two CPUs."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})


def no_child() -> bool:
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        return True
    return False


def who() -> bytes:
    return str(os.getpid()).encode()


def test_another_process_makes_the_answer() -> None:
    with meanwhile(who) as answer:
        assert int(answer()) != os.getpid()
    assert no_child()


def test_an_answer_that_no_pipe_holds_arrives_whole() -> None:
    with meanwhile(lambda: LARGE) as answer:
        assert answer() == LARGE


def test_on_one_cpu_nobody_else_makes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0})
    with meanwhile(who) as answer:
        assert answer() == who()


def test_where_there_can_be_no_other_process_it_is_made_here(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused() -> int:
        raise OSError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", refused)
    with meanwhile(who) as answer:
        assert answer() == who()


@pytest.mark.parametrize("end", [lambda: os._exit(1), lambda: os.kill(os.getpid(), signal.SIGKILL)])
def test_what_a_fork_that_ended_did_not_make_is_made_here(end: object) -> None:
    here = os.getpid()

    def make() -> bytes:
        if os.getpid() != here:
            end()  # type: ignore[operator]
        return b"made"

    with meanwhile(make) as answer:
        assert answer() == b"made"


def test_an_error_of_the_work_is_raised_where_it_is_asked_for() -> None:
    def make() -> bytes:
        raise MemoryError

    with pytest.raises(MemoryError), meanwhile(make) as answer:
        answer()
    assert no_child()


def test_an_error_in_the_block_leaves_no_process_behind() -> None:
    with pytest.raises(KeyError), meanwhile(lambda: LARGE):
        raise KeyError
    assert no_child()


def test_half_an_answer_is_none() -> None:
    assert module._answer(b"\x04\0\0\0\0\0\0\0abc", lambda: b"made") == b"made"
    assert module._answer(b"\x04\0", lambda: b"made") == b"made"


@pytest.fixture
def nobody_waits() -> Iterator[None]:
    """As under a parent that ignores SIGCHLD."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGCHLD, before)


@pytest.mark.usefixtures("nobody_waits")
def test_where_children_are_not_waited_for_the_answer_is_the_same() -> None:
    with meanwhile(who) as answer:
        assert answer()
    with meanwhile(lambda: LARGE):
        pass  # it is ended


def test_a_signal_that_came_while_it_forked_leaves_no_process_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    fork = os.fork

    def interrupted() -> int:
        child = fork()
        if child:
            os.kill(os.getpid(), signal.SIGINT)  # taken when the mask is put back
        return child

    monkeypatch.setattr(os, "fork", interrupted)
    with pytest.raises(KeyboardInterrupt), meanwhile(lambda: LARGE):
        raise AssertionError("the block was entered")
    assert no_child()


KILLED = """
import fcntl, os, signal, sys
os.sched_getaffinity = lambda _: {0, 1}
from xdpguard.kernel.meanwhile import meanwhile
lock = os.open(sys.argv[1], os.O_RDWR)
fcntl.flock(lock, fcntl.LOCK_EX)
with meanwhile(lambda: os.getpid().to_bytes(4, "little") + b"x" * (1 << 20)) as answer:
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_fork_of_a_killed_process_ends_and_keeps_no_lock(tmp_path: Path) -> None:
    """Nobody reads its answer, which is more than the pipe holds. Standard error ends when it has ended."""
    lock = tmp_path / "lock"
    lock.touch()
    done = subprocess.run(
        [sys.executable, "-c", KILLED, str(lock)], stderr=subprocess.PIPE, check=False, timeout=30
    )
    assert done.returncode == -signal.SIGKILL
    subprocess.run(["flock", "--nonblock", str(lock), "true"], check=True, timeout=30)
