"""Work for another CPU: bytes that a fork of this process makes while this one goes on.

What must never break: the answer is the same with the fork and without, and no fork outlives its block, nor
by more than its work a parent that was killed. It holds nothing that is open here: a lock would stay with it.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NoReturn

_LENGTH_BYTES = 8
_STANDARD = 3  # input, output, error


@contextmanager
def meanwhile(make: Callable[[], bytes]) -> Iterator[Callable[[], bytes]]:
    """What it gives, when called inside the block, answers what ``make`` does. On a single CPU, and where the
    fork fails, that is called then. ``make`` must leave the host alone. Fork before there are threads."""
    if len(os.sched_getaffinity(0)) < 2:
        yield make
        return
    with ExitStack() as behind:
        reader = _start(make, behind)
        yield lambda: _answer(_all(reader), make)


def _start(make: Callable[[], bytes], behind: ExitStack) -> int | None:
    """Fork. -> where the answer can be read; None: there is no fork. ``behind`` is given what is to be undone
    as soon as it is, for a signal may end this at any line.
    """
    try:
        reader, writer = os.pipe()
    except OSError:
        return None
    behind.callback(os.close, reader)
    try:
        # A signal that the fork took for its own would unwind this command a second time.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            child = os.fork()
            if child == 0:
                _serve(writer, make)
            behind.callback(_end, os.pidfd_open(child), child)
        except OSError:  # no other process can be had, or it has ended and nobody waits for children here
            return None
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
    finally:
        os.close(writer)
    return reader


def _end(pidfd: int, child: int) -> None:
    # By the pidfd: where SIGCHLD is ignored, the number may be another's by now.
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    os.close(pidfd)
    with suppress(ChildProcessError):
        os.waitpid(child, 0)


def _serve(writer: int, make: Callable[[], bytes]) -> NoReturn:
    try:
        # The other end too: a write to a parent that is gone fails then, and does not wait for ever.
        os.closerange(_STANDARD, writer)
        os.closerange(writer + 1, os.sysconf("SC_OPEN_MAX"))
        gc.disable()  # it would touch, and so copy, every page
        data = make()
        with os.fdopen(writer, "wb") as answer:
            answer.write(len(data).to_bytes(_LENGTH_BYTES, "little"))
            answer.write(data)
    finally:
        os._exit(0)


def _all(reader: int | None) -> bytes:
    """Until the other end is closed."""
    if reader is None:
        return b""
    with os.fdopen(reader, "rb", closefd=False) as answer:
        return answer.read()


def _answer(said: bytes, make: Callable[[], bytes]) -> bytes:
    data = said[_LENGTH_BYTES:]
    whole = len(said) >= _LENGTH_BYTES and len(data) == int.from_bytes(said[:_LENGTH_BYTES], "little")
    return data if whole else make()
