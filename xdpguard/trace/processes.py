"""The host's processes while a trace runs: lineages that outlive their processes, and /proc where it agrees.

Fed by fork, exec and exit in the order of their time. /proc is asked through ``look`` for what no event told,
and believed only if the start time is the one that was asked for: a number is used again.

Once such events were lost, what was known of a process may be a program that it has left: it is told again
only when /proc says the same, or from the time on that /proc says otherwise, or after its next exec. Who
forked whom stays true.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from xdpguard.identity.ancestry import (
    NO_PARENT,
    Ancestor,
    Ancestry,
    Executed,
    Exited,
    Forked,
    Lineage,
    Losses,
)
from xdpguard.identity.process import Key, Process, ticks
from xdpguard.trace.model import ProcessKey, TaskEvent

Look = Callable[[int], Process | None]
"""Reads /proc/PID (``Resolver.process``). None: gone."""

_ITSELF = "/proc/self/exe"
_DEEP = 256  # parents looked up one after the other
_PATHS = 16384  # cgroup paths kept, the oldest go first
_NEVER = 1 << 64  # later than any time
_SURE = 131072  # processes known to be certain after a loss, the oldest go first


def boot_time() -> int:
    """ns, CLOCK_BOOTTIME: as events have it."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Processes:
    """``version`` grows whenever a lineage that was told may have become another one. ``clock``: boot_time.

    ``stale``: task events were lost and ``seed`` was not given all of /proc since.
    """

    def __init__(
        self, look: Look, table: Ancestry | None = None, clock: Callable[[], int] = boot_time
    ) -> None:
        self.version = 0
        self._look, self._clock = look, clock
        self._lost: int | None = None  # when the last loss was found out
        self._sure: dict[Key, int] = {}  # since then: from when on the table is right about that process
        self.stale = False
        self._table = table if table is not None else Ancestry()
        self._told: set[Key] = set()  # whose change changes an answer that was given
        self._cgroups: dict[Key, str | None] = {}

    def __len__(self) -> int:
        return len(self._table)

    @property
    def losses(self) -> Losses:
        """What the bounds of the table cost so far."""
        return self._table.losses

    def seed(self, processes: Iterable[Process], began: int | None = None) -> None:
        """What /proc shows; ``began`` as in ``Ancestry.seed``: after task events were lost, all of it."""
        self.stale = self.stale and began is None
        found = [self._compared(one) for one in processes]
        self._table.seed(found, began)
        for one in found:
            self._keep(one.key, one.cgroup)
        self._changed()

    def doubt(self) -> None:
        """Task events were lost, at any time until now."""
        self._lost, self.stale = self._clock(), True
        self._sure.clear()
        self._cgroups.clear()
        self._changed()

    def _compared(self, one: Process) -> Process:
        """To be held of a process that /proc shows: what events told, if that is not in doubt."""
        known = self._known(one.key)
        if self._lost is None or one.key in self._sure:
            if known is None or None in (known.exe, known.comm, known.uid, known.gid):
                return one
            return replace(one, comm=known.comm or "", exe=known.exe, uid=known.uid or 0, gid=known.gid or 0)
        if known is not None and (known.exe, known.comm) == (one.exe, one.comm):
            self._believe(one.key, 0)
        elif known is not None and known.exe is not None and one.exe is None:
            self._believe(one.key, _NEVER)  # it is ending, and /proc does not tell any more what it was
        else:
            self._believe(one.key, self._clock())
        return one

    def _certain(self, one: Ancestor, time: int) -> Ancestor:
        """What was true of it at that time; of its program and user nothing that is in doubt."""
        if self._lost is None:
            return one
        if one.key not in self._sure:
            found = self._agreed(one.key)
            if found is not None:
                self._table.seed([self._compared(found)])
                one = self._known(one.key) or one
            else:
                self._believe(one.key, _NEVER)
        return one if time >= self._sure[one.key] else Ancestor(one.key, one.parent, exited=one.exited)

    def noticed(self, event: TaskEvent) -> TaskEvent:
        """To be called at once when an exec is read: a path of the process's own is completed from /proc.

        An absolute path stays as it was given: a script's own, not its interpreter's. One that cannot be
        completed any more stays as it was given, too.
        """
        if event.kind != "exec" or event.path is None or not _private(event.path):
            return event
        found = self._agreed(key_of(event.process))
        return replace(event, path=found.exe) if found is not None and found.exe else event

    def apply(self, event: TaskEvent) -> None:
        key = key_of(event.process)
        if event.kind == "exit":
            self._table.apply(Exited(key))
            return
        if event.kind == "fork":
            parent = key_of(event.parent) if event.parent is not None else NO_PARENT
            if parent == key:
                return  # a thread of its own process
            self._inherits(key, parent, event.time)
            self._table.apply(Forked(key, parent, event.comm, event.uid, event.gid))
        else:
            path = self._executed(key, event)
            self._table.apply(Executed(key, event.comm, path, event.uid, event.gid))
            if self._lost is not None and event.time > self._lost:
                self._believe(key, event.time)
            else:
                self._sure.pop(key, None)  # a later exec of it may be among what was lost
        if key in self._told:
            self._changed()

    def _executed(self, key: Key, event: TaskEvent) -> str | None:
        """/proc/self/exe, of which nobody could be asked any more, is the program that it was before."""
        if event.path != _ITSELF:
            return event.path
        before = self._known(key)
        return self._certain(before, event.time).exe if before is not None else None

    def _inherits(self, key: Key, parent: Key, time: int) -> None:
        """A child of the time after the last loss is as certain as its parent was."""
        if self._lost is None or time <= self._lost:
            return
        known = self._known(parent)
        if known is not None:
            self._certain(known, time)
            if self._sure[parent] <= time:
                self._believe(key, time)

    def _believe(self, key: Key, since: int) -> None:
        self._sure[key] = since
        if len(self._sure) > _SURE:
            del self._sure[next(iter(self._sure))]

    def lineage(self, process: ProcessKey, time: int = _NEVER - 1) -> tuple[Ancestor, ...]:
        """The process first, its oldest known ancestor last. Empty: never seen, and gone.

        ``time``: ns, CLOCK_BOOTTIME, at which that is asked for.
        """
        key = key_of(process)
        found = self._table.ancestry(key)
        missing = _missing(found, key)
        if missing is not None and self._fetch(missing):
            found = self._table.ancestry(key)
            missing = _missing(found, key)
        self._told.update(one.key for one in found.processes)
        self._told.add(missing or key)
        return tuple(self._certain(one, time) for one in found.processes)

    def cgroup(self, process: ProcessKey, refresh: bool = False) -> str | None:
        """The cgroup path /proc tells of a process (``identity.cgroup.membership``), kept when it is gone."""
        key = key_of(process)
        if refresh or key not in self._cgroups:
            found = self._agreed(key)
            if found is not None or key not in self._cgroups:
                self._keep(key, found.cgroup if found is not None else None)
        return self._cgroups[key]

    def _known(self, key: Key) -> Ancestor | None:
        lineage = self._table.ancestry(key).processes
        return lineage[0] if lineage else None

    def _agreed(self, key: Key) -> Process | None:
        found = self._look(key.pid)
        return found if found is not None and found.key == key else None

    def _fetch(self, key: Key) -> bool:
        """Take a process and its parents up to one that is known from /proc. False: gone, or another one."""
        one = self._agreed(key)
        chain: list[Process] = []
        while one is not None and len(chain) < _DEEP:
            chain.append(one)
            if not one.ppid or (len(chain) > 1 and self._table.ancestry(one.key).processes):
                break
            one = self._look(one.ppid)
        if chain:
            self.seed(chain)
        return bool(chain)

    def _keep(self, key: Key, path: str | None) -> None:
        self._cgroups.pop(key, None)
        self._cgroups[key] = path
        if len(self._cgroups) > _PATHS:
            del self._cgroups[next(iter(self._cgroups))]

    def _changed(self) -> None:
        self.version += 1
        self._told.clear()


def key_of(process: ProcessKey) -> Key:
    """To /proc's clock ticks, which is all that a seeded process's start time is exact to."""
    return Key(process.pid, ticks(process.start_time))


def _private(path: str) -> bool:
    """Does it mean something to that process alone? busybox and runc execute themselves, fexecve() a file."""
    return not path.startswith("/") or path.startswith(("/proc/self/", "/proc/thread-self/", "/dev/fd/"))


def _missing(lineage: Lineage, asked: Key) -> Key | None:
    """The first process of a lineage that is not in the table; None: complete, or nobody knows who it is."""
    if lineage.complete:
        return None
    return lineage.processes[-1].parent if lineage.processes else asked
