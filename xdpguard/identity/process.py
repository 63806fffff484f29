"""/proc/PID -> who that process is, or None when it is gone. proc(5), Linux fs/proc/array.c.

The start time is read before and after the rest and must agree: then every field is of one process, though
its number may have been used again meanwhile. Fields may still straddle an exec of that process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from xdpguard.identity.cgroup import membership

_SECOND = 1_000_000_000
_HERTZ = os.sysconf("SC_CLK_TCK")
_INODE = re.compile(r"net:\[(\d+)\]")
_STATUS = re.compile(r"^(Tgid|Uid|Gid):\s+(\d+)", re.M)
_MOST = 64 << 10  # bytes of a file below /proc/PID


class Key(NamedTuple):
    """One process for ever: a number is used again, a number with its start time is not."""

    pid: int
    start: int  # clock ticks since boot


@dataclass(frozen=True, slots=True)
class Process:
    """``pid`` is what was asked for: for a thread's number, ``tgid`` is its process, ``comm`` its own name.

    ``uid``, ``gid``: the real ones, in the reader's user namespace. ``exe``: None for a kernel thread, a
    zombie, or without the right to see it; `` (deleted)`` at its end is the kernel's remark.
    ``netns``: inode. ``cgroup``: the path that says most (``cgroup.membership``).
    """

    pid: int
    tgid: int
    comm: str
    exe: str | None
    uid: int
    gid: int
    ppid: int  # 0: none, or outside of the reader's pid namespace
    start: int  # clock ticks since boot
    netns: int | None
    cgroup: str | None

    @property
    def key(self) -> Key:
        return Key(self.pid, self.start)

    @property
    def started(self) -> int:
        """Nanoseconds since boot, exact to one clock tick."""
        return self.start * _SECOND // _HERTZ


def ticks(boottime: int) -> int:
    """task_struct.start_boottime (ns) -> the start time /proc shows for it (nsec_to_clock_t)."""
    return boottime * _HERTZ // _SECOND


def read(proc: Path, pid: int) -> Process | None:
    """None: no such process, or another one took its number while reading."""
    place = proc / str(pid)
    try:
        comm, ppid, start = _stat(place)
        ids = {name: int(value) for name, value in _STATUS.findall(_text(place / "status"))}
        belongs = membership(_text(place / "cgroup"))
        found = Process(
            pid=pid,
            tgid=ids["Tgid"],
            comm=comm,
            exe=_link(place / "exe"),
            uid=ids["Uid"],
            gid=ids["Gid"],
            ppid=ppid,
            start=start,
            netns=_netns(place),
            cgroup=belongs.path if belongs else None,
        )
        return found if _stat(place)[2] == start else None
    except (OSError, ValueError, KeyError, IndexError):
        return None  # it ended between two reads, or what is there is no process


def thread_name(proc: Path, pid: int, tid: int) -> str | None:
    """The name of one thread, which need not be its process's name. None: no such thread in that process."""
    try:
        return _text(proc / str(pid) / "task" / str(tid) / "comm").removesuffix("\n")
    except OSError:
        return None


def everyone(proc: Path) -> Iterator[Process]:
    """Every process that stays while it is read. OSError: ``proc`` is not readable."""
    for place in proc.iterdir():
        name = place.name
        if name.isascii() and name.isdigit() and (found := read(proc, int(name))) is not None:
            yield found


def _stat(place: Path) -> tuple[str, int, int]:
    """(name, parent, start). The name may hold spaces and parentheses: it ends at the last one."""
    text = _text(place / "stat")
    comm = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 1 :].split()
    return comm, int(fields[1]), int(fields[19])


def _text(path: Path) -> str:
    with path.open("rb") as file:
        return file.read(_MOST).decode("utf-8", "surrogateescape")


def _link(path: Path) -> str | None:
    try:
        return str(path.readlink())
    except OSError:
        return None


def _netns(place: Path) -> int | None:
    match = _INODE.fullmatch(_link(place / "ns" / "net") or "")
    return int(match[1]) if match else None
