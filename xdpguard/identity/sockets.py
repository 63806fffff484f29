"""Socket inodes -> the processes that have them open: one pass over /proc/PID/fd. proc(5).

A process is read before and after its list of files, and must be the same one (number and start time): a
number that was used again meanwhile gives no wrong owner. What nobody was found for is looked for once more
in the processes that came meanwhile: a daemon forks, and its parent exits.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from xdpguard.identity import process
from xdpguard.identity.process import Process

_LINK = re.compile(r"socket:\[([0-9]+)\]")
_PASSES = 3  # the first, and two for what came meanwhile
_DEEP = 256  # a longer lineage is no family
_INIT = (1, "systemd")


class Holder(NamedTuple):
    process: Process
    cgroup: int | None  # id of its v2 cgroup; None: no v2 hierarchy is mounted, or it is gone


@dataclass(slots=True)
class Held:
    """``holders``: by socket inode. ``processes``: everyone met, by number, as one pass saw them.

    ``vanished``: processes that ended or changed while being read. ``denied``: those whose files this user
    may not see; their sockets seem to be nobody's.
    """

    holders: dict[int, list[Holder]] = field(default_factory=dict)
    processes: dict[int, Process] = field(default_factory=dict)
    vanished: int = 0
    denied: int = 0

    def notes(self, why: str = "permission denied") -> tuple[str, ...]:
        if not self.denied:
            return ()
        return (f"open files of {self.denied} process(es) not seen: {why}",)


def scan(root: Path, wanted: Set[int], proc: Path | None = None) -> Held:
    """Who holds the sockets with the inodes ``wanted``. OSError: /proc is not readable.

    ``root``: the host's files, ``proc``: its /proc, below the root unless given.
    """
    proc = root / "proc" if proc is None else proc
    held, known = Held(), set[int]()
    for _ in range(_PASSES):
        fresh = [pid for pid in _numbers(proc) if pid not in known]
        known.update(fresh)
        for pid in fresh:
            _look_into(held, root, proc, pid, wanted)
        if not fresh or all(inode in held.holders for inode in wanted):
            break
    return held


def responsible(holders: Sequence[Holder], processes: Mapping[int, Process]) -> tuple[Holder, bool]:
    """(the one a socket is attributed to, whether that is uncertain). ``holders``: at least one.

    Of a process and its descendants it is the one they all descend from: who opened a listener, and forked
    the workers that inherited it. Several that are no such family got the socket from one another
    (SCM_RIGHTS, pidfd_getfd), or their common parent has closed it: then it is the oldest of them, and
    uncertain. systemd as pid 1 keeps the sockets it opened for a service (socket activation) without using
    them, so the service comes first.
    """
    services = [one for one in holders if (one.process.pid, one.process.comm) != _INIT]
    users = sorted(services or holders, key=lambda one: (one.process.start, one.process.pid))
    oldest = users[0]
    for root in users:
        if root.process.start != oldest.process.start:
            break  # nobody descends from a younger process
        if all(_descends(one.process, root.process, processes) for one in users):
            return root, False
    return oldest, True


def _descends(one: Process, root: Process, processes: Mapping[int, Process]) -> bool:
    for _ in range(_DEEP):
        if one.key == root.key:
            return True
        parent = processes.get(one.ppid)
        # A parent that is younger than its child is another process that got the number.
        if parent is None or parent.start > one.start or parent.start < root.start:
            return False
        one = parent
    return False


def _look_into(held: Held, root: Path, proc: Path, pid: int, wanted: Set[int]) -> None:
    before = process.read(proc, pid)
    if before is None:
        held.vanished += 1
        return
    held.processes[pid] = before
    try:
        found = _open_sockets(proc / str(pid)) & wanted
    except PermissionError:
        held.denied += 1
        return
    except OSError:
        held.vanished += 1
        return
    if not found:
        return
    holder = Holder(before, _cgroup(root, proc / str(pid)))
    if _start(proc / str(pid)) != before.start:
        held.vanished += 1
        return
    for inode in found:
        held.holders.setdefault(inode, []).append(holder)


def _start(place: Path) -> int | None:
    """As in ``process.read``, which would read four files more."""
    try:
        return int((place / "stat").read_bytes().rpartition(b")")[2].split()[19])
    except (OSError, ValueError, IndexError):
        return None


def _open_sockets(place: Path) -> set[int]:
    """The socket inodes of one process. OSError: it may not be looked into, or is gone."""
    found = _sockets(place / "fd")
    if found is None:
        # A main thread that has ended shows no files, though its other threads go on with them.
        others = (tid for tid in _numbers(place / "task") if str(tid) != place.name)
        found = next(filter(None, (_sockets(place / "task" / str(tid) / "fd") for tid in others)), None)
    return found or set()


def _sockets(files: Path) -> set[int] | None:
    """None: no file at all."""
    folder = os.open(files, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with os.scandir(folder) as entries:
            names = [one.name for one in entries]
        matches = (_LINK.fullmatch(_link(name, folder)) for name in names)
        return {int(match[1]) for match in matches if match} if names else None
    finally:
        os.close(folder)


def _link(name: str, folder: int) -> str:
    try:
        return os.readlink(name, dir_fd=folder)
    except FileNotFoundError:
        return ""  # closed meanwhile


def _cgroup(root: Path, place: Path) -> int | None:
    """Its id is the inode of its directory. Read now: a process may have been moved since its start."""
    mount = root / "sys/fs/cgroup"
    try:
        lines = (place / "cgroup").read_bytes().split(b"\n")
        path = next(line[3:] for line in lines if line.startswith(b"0::"))
        if not (mount / "cgroup.controllers").exists():
            mount /= "unified"
            if not (mount / "cgroup.procs").exists():
                return None
        return (mount / os.fsdecode(path).lstrip("/")).stat().st_ino
    except (OSError, StopIteration):
        return None


def _numbers(folder: Path) -> Iterator[int]:
    return (int(one.name) for one in folder.iterdir() if one.name.isascii() and one.name.isdecimal())
