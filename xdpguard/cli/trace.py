"""``xdpguard trace``: start it, write lines until the end, then the ledger. Resolves and formats nothing.

Records and the ledger go to standard output; sources, notes and cost to standard error. Ctrl-C, SIGTERM,
``--duration`` and ``--count`` are all a normal end.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from types import FrameType, ModuleType
from typing import TYPE_CHECKING

from xdpguard.cli.trace_cost import Meter
from xdpguard.cli.trace_options import FILTERS, LETTERS
from xdpguard.errors import UsageError
from xdpguard.ui.streams import emit, say

if TYPE_CHECKING:
    from xdpguard.trace.live import Live
    from xdpguard.trace.model import Filter, Record

TICK = 0.2
"""Seconds that a record waits at most before it is written."""


def run(arguments: argparse.Namespace) -> int:
    wanted = _wanted(arguments)
    format = _format(arguments.format or "text")
    line = _line(format, arguments)
    from xdpguard.trace.live import Live

    with Live(wanted, limit=arguments.count, names=not arguments.no_containers) as live, _signal() as ended:
        _introduce(live, arguments.verbose)
        meter = Meter()
        if format.HEADER:
            emit(format.HEADER)
        notes = Noted()
        written = _watch(live, line, notes, ended, arguments.duration)
        records, ledger = live.finish()
        emit("".join(map(line, records)) + format.ledger(ledger, time.time()))
        notes.tell(live)  # also those of the end, and of a trace that ended at once
        if arguments.verbose:
            for cost in meter.lines(written + len(records), live.cost(), live.late):
                say(cost)
    return 0


def _wanted(arguments: argparse.Namespace) -> Filter:
    """Raises UsageError, NotLoadedError (no such namespace) or PrivilegeError (no right to look into it)."""
    if arguments.no_containers and arguments.container:
        raise UsageError("-d/--no-containers and --container exclude each other; nothing traced")
    from xdpguard.trace.wanted import parse

    letters = "".join(letter for letter in LETTERS if getattr(arguments, f"letter_{letter}"))
    words = {name: getattr(arguments, name) or () for name in FILTERS}
    return parse(
        letters,
        words["pid"],
        words["user"],
        words["container"],
        words["port"],
        words["cidr"],
        _netns(arguments.netns),
        uid_of=_uid,
    )


def _netns(name: str | None) -> frozenset[int]:
    """Inodes; empty: all."""
    if name == "all":
        return frozenset()
    from xdpguard.kernel import netns

    return frozenset({netns.inside(name, netns.identity).inode})


def _uid(name: str) -> int | None:
    import pwd

    try:
        return pwd.getpwnam(name).pw_uid
    except KeyError:
        return None


def _format(name: str) -> ModuleType:
    """Only the one that is asked for is imported."""
    if name == "json":
        from xdpguard.ui import trace_json

        return trace_json
    if name == "nprobe":
        from xdpguard.ui import trace_nprobe

        return trace_nprobe
    if name == "table":
        from xdpguard.ui import trace_table

        return trace_table
    from xdpguard.ui import trace_text

    return trace_text


def _line(format: ModuleType, arguments: argparse.Namespace) -> Callable[[Record], str]:
    if arguments.format == "nprobe":
        return partial(format.line, exporter=_own_address())
    return partial(format.line, verbose=arguments.verbose)


def _own_address() -> str | None:
    """This host's IPv4 address towards the world. None: no route leads there. Nothing is sent."""
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # for documentation, RFC 5737
        except OSError:
            return None
        address: str = probe.getsockname()[0]
        return address


def _introduce(live: Live, verbose: bool) -> None:
    """On standard error: where the events come from (on a terminal, or --verbose), and what they lack."""
    if verbose:
        for event, source in live.sources.items():
            say(f"xdpguard: {event}: {source}")
    elif sys.stderr is not None and sys.stderr.isatty():
        kprobes = any("probe " in source for source in live.sources.values())
        say(f"xdpguard: events come from {'kprobes and ' if kprobes else ''}tracepoints; Ctrl-C ends")
    if live.missing:
        say(f"xdpguard: warning: less is known here: {'; '.join(live.missing)}")


class Ended:
    """``pending``: a signal has come."""

    def __init__(self) -> None:
        self.pending = False


@contextmanager
def _signal() -> Iterator[Ended]:
    """The first signal is a note, so that no line is cut; a second one interrupts what hangs."""
    ended = Ended()

    def note(number: int, frame: FrameType | None) -> None:
        if ended.pending:
            raise KeyboardInterrupt
        ended.pending = True

    former = {
        number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield ended
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


class Noted:
    """What could not be found out, each told once."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def tell(self, live: Live) -> None:
        for note in live.notes:
            if note not in self._said:
                self._said.add(note)
                say(f"xdpguard: note: {note}")


def _watch(
    live: Live, line: Callable[[Record], str], notes: Noted, ended: Ended, seconds: float | None
) -> int:
    """Until a signal, ``seconds``, or as many lines as are wanted. Returns the lines written."""
    deadline = None if seconds is None else time.monotonic() + seconds
    written = 0
    while not ended.pending and not live.complete:
        left = TICK if deadline is None else min(TICK, deadline - time.monotonic())
        if left <= 0:
            break
        records = live.read(left)
        if records:
            # One write: whoever reads gets whole lines at once, on a terminal and in a pipe.
            emit("".join(map(line, records)))
            written += len(records)
        notes.tell(live)
    return written
