"""Every network namespace of the host, each visited once: a function runs in all of them.

Owns the search. A namespace cannot be opened by its inode number: one with neither a process nor a name in
FOLDERS (held by a mere file descriptor, a mount elsewhere, or a single thread) is not found. A thread of its
own goes from namespace to namespace and ends: it need not find its way back, and no process is forked.
"""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Generic, TypeVar

from xdpguard.errors import XdpguardError
from xdpguard.kernel import netns, processes

FOLDERS = (netns.FOLDER, Path("/run/docker/netns"))
PROC = Path("/proc")

R = TypeVar("R")


@dataclass(slots=True)
class Visit(Generic[R]):
    """``results``: by the namespace's inode number. ``notes``: what was not seen and why, a line a reason."""

    results: dict[int, R] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def each(function: Callable[[], R], only: Collection[int] = ()) -> Visit[R]:
    """Call ``function`` in the caller's namespace and in all others, or only those with the inodes given.

    The caller's own needs no privilege. An XdpguardError or OSError in one namespace becomes a note, any
    other exception is raised. ``function`` must change nothing: after Ctrl-C it may go on for one namespace.
    """
    tour = _Tour(function, frozenset(only))
    thread = threading.Thread(target=tour.run, name="namespaces", daemon=True)
    thread.start()
    try:
        thread.join()
    finally:
        tour.stopped = True
    if tour.failure is not None:
        raise tour.failure
    return Visit(tour.results, tuple(tour.notes()))


class _Tour(Generic[R]):
    def __init__(self, function: Callable[[], R], only: frozenset[int]) -> None:
        self._function, self._only = function, only
        self._reasons: Counter[str] = Counter()
        self._first: dict[str, Path] = {}
        self._closed: list[str] = []
        self._hidden = 0  # processes that this user may not look into
        self._seen: set[int] = set()
        self.results: dict[int, R] = {}
        self.failure: Exception | None = None
        self.stopped = False

    def run(self) -> None:
        try:
            home = netns.CURRENT.stat()
            self._visit(home.st_ino, netns.CURRENT)
            for path in self._places():
                if self.stopped or self._complete():
                    return
                self._enter(path, home.st_dev)
        except Exception as error:
            self.failure = error

    def _complete(self) -> bool:
        """Everything that was asked for has been seen. Of "all" nobody knows."""
        return bool(self._only) and self._only <= self._seen

    def _places(self) -> Iterator[Path]:
        """Processes first: theirs are most. What is listed may be gone already."""
        for process in PROC.iterdir():
            if process.name.isdecimal():
                yield process / "ns" / "net"
        for folder in FOLDERS:
            try:
                yield from sorted(folder.iterdir())
            except FileNotFoundError:
                continue  # no named namespace, no Docker
            except OSError as error:
                self._closed.append(f"network namespaces named in {folder} not seen: {error.strerror}")

    def _enter(self, path: Path, device: int) -> None:
        try:
            # stat first: it is cheaper, and most processes are in a namespace that has had its turn.
            if path.stat().st_ino in self._seen:
                return
            place = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError:
            self._hidden += 1
            return
        except OSError:
            return  # the process is gone
        try:
            status = os.fstat(place)
            # A file left over from an unmounted namespace is of another file system.
            if status.st_dev == device:
                self._visit(status.st_ino, path, place)
        finally:
            os.close(place)

    def _visit(self, inode: int, path: Path, place: int | None = None) -> None:
        self._seen.add(inode)
        if self._only and inode not in self._only:
            return
        try:
            if place is not None:
                netns.enter(place, str(path))
            self.results[inode] = self._function()
        except (XdpguardError, OSError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            reason = (reason or str(error)).removeprefix(f"network namespace {path}: ")
            self._reasons[reason] += 1
            self._first.setdefault(reason, path)

    def notes(self) -> Iterator[str]:
        for reason, count in self._reasons.items():
            yield f"{count} network namespace(s) not seen, the first is {self._first[reason]}: {reason}"
        yield from self._closed
        if self._hidden and not self._complete():
            why = processes.denied("CAP_SYS_PTRACE")
            yield f"network namespaces of {self._hidden} process(es) not seen: {why}"
        for inode in sorted(self._only - self._seen):
            yield f"network namespace with the inode {inode} not seen: no process is in it, it has no name"
