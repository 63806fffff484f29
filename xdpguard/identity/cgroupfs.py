"""cgroup ids -> paths: what bpf_get_current_cgroup_id() and sock_diag give, for a process that may be gone.

An id is the inode of the cgroup's directory in the v2 hierarchy (kernfs, 64-bit hosts) and is never used
again, so a removed cgroup's path is kept. On a v1 or hybrid host containers lie in other hierarchies, their
processes at the root of this one: its path ``/`` then says nothing, and /proc/PID/cgroup has to be read.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

from xdpguard.identity.files import Notes

_SCAN = 1.0  # seconds between two walks: an unknown id costs one


class CgroupPaths:
    """``size``: paths kept and directories walked; that there are more is noted.

    ``top``: where another hierarchy (a v1 controller's) is mounted, whose ids are asked for instead.
    """

    def __init__(
        self,
        root: Path,
        notes: Notes,
        clock: Callable[[], float],
        size: int = 65536,
        top: Path | None = None,
    ) -> None:
        self._mount, self._notes, self._clock, self._size = root / "sys/fs/cgroup", notes, clock, size
        self._top = top
        self._paths: dict[int, str] = {}
        self._next = float("-inf")

    def path(self, identity: int) -> str | None:
        """As in /proc/PID/cgroup. None: no such cgroup, or too new: a walk finds it within a second."""
        if identity not in self._paths and self._clock() >= self._next:
            self._next = self._clock() + _SCAN
            self._walk()
        return self._paths.get(identity)

    def lies_at(self, identity: int, path: str) -> bool:
        """Is ``path`` the cgroup of that id? Needs no walk; if so, it is known from now on."""
        try:
            found = (self._root() / path.lstrip("/")).stat().st_ino == identity
        except OSError:
            return False
        if found:
            self._paths[identity] = path
        return found

    def listed(self) -> list[tuple[int, str]]:
        """(id, path) of every cgroup that is there now."""
        self._walk()
        return list(self._paths.items())

    def _root(self) -> Path:
        unified = os.access(self._mount / "cgroup.controllers", os.F_OK)
        return self._top or (self._mount if unified else self._mount / "unified")

    def _walk(self) -> None:
        top = self._root()
        found = dict(_directories(top, self._size + 1))
        if len(found) > self._size:
            found.popitem()
            line = f"cgroups: {top}: more than {self._size}: the ids of some are not known"
            self._notes.add("cgroups", "many", line)
        for identity, path in found.items():
            self._paths.pop(identity, None)  # those seen last are kept longest
            self._paths[identity] = path
        while len(self._paths) > self._size:
            del self._paths[next(iter(self._paths))]


def _directories(top: Path, most: int) -> Iterator[tuple[int, str]]:
    """(inode, path below ``top``), nearest first. A directory that vanishes meanwhile is skipped."""
    try:
        queue = [(top.stat().st_ino, "/")]
    except OSError:
        return  # no v2 hierarchy here
    for identity, path in queue:
        if most <= 0:
            return
        most -= 1
        yield identity, path
        try:
            with os.scandir(top / path.lstrip("/")) as entries:
                inside = [(one.inode(), one.name) for one in entries if one.is_dir(follow_symlinks=False)]
        except OSError:
            continue
        queue += ((inode, f"{path.rstrip('/')}/{name}") for inode, name in inside)
