"""Signals while the host is being changed: noted at once, heard only between two whole steps.

Owns these signals for the time of a change. A KeyboardInterrupt between a step and the note of how to take it
back would leave half of it behind.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from xdpguard.errors import Interrupted

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
UNCHANGED = "interrupted before anything was in force; nothing changed"


class Noted:
    """``pending``: a signal has come."""

    def __init__(self) -> None:
        self.pending = False

    def check(self) -> None:
        """Stop here if a signal has come. Only for places where everything can still be taken back."""
        if self.pending:
            raise Interrupted(UNCHANGED)


@contextmanager
def deferred() -> Iterator[Noted]:
    """Inside, signals are only noted. A signal that Python does not handle now keeps its effect."""
    noted = Noted()
    former = {}

    def note(number: int, frame: FrameType | None) -> None:
        noted.pending = True

    try:
        # Python runs handlers in the main thread alone, and lets no other thread set them.
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                if callable(signal.getsignal(number)):
                    former[number] = signal.signal(number, note)
        yield noted
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)
