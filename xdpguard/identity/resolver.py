"""The room's front: one object that answers who a pid, a cgroup path, a uid is. Holds the caches."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from xdpguard.identity import cgroup, process
from xdpguard.identity.cgroupfs import CgroupPaths
from xdpguard.identity.container import Container
from xdpguard.identity.containers import Containers
from xdpguard.identity.files import Notes
from xdpguard.identity.process import Process
from xdpguard.identity.users import Accounts


class Resolver:
    """``root``: the host's files, ``proc``: its /proc, below the root unless given. For one thread."""

    def __init__(
        self,
        root: str | Path = "/",
        proc: str | Path | None = None,
        docker_socket: str | Path | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = Path(root)
        self._proc = Path(proc) if proc is not None else self._root / "proc"
        self._notes = Notes()
        self._accounts = Accounts(self._root, self._notes)
        socket = Path(docker_socket) if docker_socket is not None else None
        self._paths = CgroupPaths(self._root, self._notes, clock)
        self._containers = Containers(self._root, self._accounts, self._notes, clock, socket)

    def process(self, pid: int) -> Process | None:
        """None: it is gone."""
        return process.read(self._proc, pid)

    def thread_name(self, pid: int, tid: int) -> str | None:
        return process.thread_name(self._proc, pid, tid)

    def container(self, cgroup_path: str) -> Container | None:
        """None: the path names no container. A container nobody knows has an id and no name."""
        ref = cgroup.of_path(cgroup_path)
        return self._containers.of(ref) if ref is not None else None

    def cgroup_path(self, cgroup_id: int) -> str | None:
        """The path of a v2 cgroup id; ``/`` says nothing on a host with v1 hierarchies (``cgroupfs``)."""
        return self._paths.path(cgroup_id)

    def user(self, uid: int) -> str | None:
        return self._accounts.user(uid)

    def group(self, gid: int) -> str | None:
        return self._accounts.group(gid)

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be asked so far, one line each, for whoever prints."""
        return self._notes.lines()
