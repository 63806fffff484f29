"""Work for another CPU: bytes that a fork of this process makes while this one goes on.

What must never break: the answer is the same with the fork and without, and no fork outlives its block.
"""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NoReturn

_LENGTH_BYTES = 8


@contextmanager
def meanwhile(make: Callable[[], bytes]) -> Iterator[Callable[[], bytes]]:
    """What it gives, when called inside the block, answers what ``make`` does. On a single CPU, and where the
    fork fails, that is called then. ``make`` must leave the host alone. Fork before there are threads."""
    if len(os.sched_getaffinity(0)) < 2:
        yield make
        return
    reader, writer = os.pipe()
    # A signal that the fork took for its own would unwind this command a second time.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    try:
        child = _fork()
        if child == 0:
            _serve(writer, make)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        os.close(writer)
    with os.fdopen(reader, "rb") as answer:
        try:
            yield lambda: _answer(answer.read(), make)
        finally:
            if child:
                os.kill(child, signal.SIGKILL)  # most often it has ended
                os.waitpid(child, 0)


def _fork() -> int | None:
    """None: there cannot be another process."""
    try:
        return os.fork()
    except OSError:
        return None


def _serve(writer: int, make: Callable[[], bytes]) -> NoReturn:
    try:
        gc.disable()  # it would touch, and so copy, every page
        data = make()
        with os.fdopen(writer, "wb") as answer:
            answer.write(len(data).to_bytes(_LENGTH_BYTES, "little"))
            answer.write(data)
    finally:
        os._exit(0)


def _answer(said: bytes, make: Callable[[], bytes]) -> bytes:
    data = said[_LENGTH_BYTES:]
    whole = len(said) >= _LENGTH_BYTES and len(data) == int.from_bytes(said[:_LENGTH_BYTES], "little")
    return data if whole else make()
