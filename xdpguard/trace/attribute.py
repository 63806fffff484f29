"""Event -> Record: whose it is, in whose words, and how that is known.

As captured by the kernel; else by the sockets that were there before; else unknown. A person is made of the
table of processes, never of whoever has that number in /proc today. Pure but for the callables it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from xdpguard.identity.ancestry import Ancestor
from xdpguard.trace.cgroups import Cgroups, Place
from xdpguard.trace.known import KnownSockets
from xdpguard.trace.model import Event, Owner, Person, Record, TaskEvent
from xdpguard.trace.processes import Processes

_SECOND = 1_000_000_000
_FRESH = 5 * _SECOND  # until the name of an interface is asked for again
_SIZE = 8192  # owners and interfaces remembered
_made = Record._make  # of all its fields in their order: in half the time


@dataclass(frozen=True, slots=True)
class Names:
    """``user``, ``group``: by number; ``interface``: by (netns inode, ifindex). None: no name is known."""

    user: Callable[[int], str | None]
    group: Callable[[int], str | None]
    interface: Callable[[int, int], str | None]


class _Who(NamedTuple):
    owner: Owner  # kept, so that its id() stays its own
    version: int
    due: int
    process: Person
    ancestors: tuple[Person, ...]
    place: Place


class Attributor:
    """``now``: ns, CLOCK_BOOTTIME; ``epoch``: what to add to it for the wall clock. Set before each batch."""

    def __init__(self, processes: Processes, known: KnownSockets, cgroups: Cgroups, names: Names) -> None:
        self.now = 0
        self.epoch = 0
        self.cgroups = cgroups
        self._processes, self._known, self._names = processes, known, names
        self._who: dict[int, _Who] = {}
        self._interfaces: dict[tuple[int, int], tuple[str | None, int]] = {}
        self._met: dict[int, Owner] = {}

    def meet(self, owner: Owner) -> None:
        """Ask where a process runs as soon as it is heard of: it may be gone when its event's turn comes."""
        if id(owner) in self._met:
            return
        if len(self._met) >= _SIZE:
            self._met.clear()
        self._met[id(owner)] = owner
        if owner.attribution != "kernel":
            self.cgroups.of(owner.process, owner.cgroup, self.now)

    def executed(self, event: TaskEvent) -> TaskEvent:
        """An exec as soon as it is heard of: its path, and where it runs, while /proc still tells."""
        self.cgroups.of(event.process, event.cgroup, self.now, refresh=True)
        return self._processes.noticed(event)

    def record(self, event: Event) -> Record:
        owner, ends, ifindex, wall = (
            event.owner,
            event.tuple,
            event.ifindex,
            (event.time + self.epoch) / _SECOND,
        )
        interface = None if ifindex is None else self._interface(ends.netns, ifindex)
        if self._known.concerns(ends):
            owner = self._seeded(event)
        if owner is None:
            return Record(event, wall, interface, "unknown", None)
        if owner.attribution == "kernel":
            return Record(event, wall, interface, "kernel", None)
        who = self._who.get(id(owner))
        if who is None or who.version != self._processes.version or self.now >= who.due:
            who = self._ask(owner, event.time)
        path, container = who.place.path, who.place.container
        return _made((event, wall, interface, owner.attribution, who.process, who.ancestors, path, container))

    def _seeded(self, event: Event) -> Owner | None:
        """The owner, with the help of the sockets that were there before; those are forgotten as they end."""
        owner = event.owner if event.owner is not None else self._known.find(event.tuple)
        if event.kind in ("close", "connect-failed") or (
            event.kind in ("connect", "accept") and event.owner is not None
        ):
            self._known.gone(event.tuple)
        return owner

    def _ask(self, owner: Owner, time: int) -> _Who:
        lineage = self._processes.lineage(owner.process, time)
        path = lineage[0].exe if lineage else None
        # /proc tells the holder of a socket, not which of its threads uses it.
        tid = None if owner.attribution == "procfs" else owner.tid
        names = self._names
        person = Person(
            owner.process.pid, tid, owner.comm, path,
            owner.uid, names.user(owner.uid), owner.gid, names.group(owner.gid),
        )  # fmt: skip
        ancestors = tuple(self._ancestor(one) for one in lineage[1:])
        place = self.cgroups.of(owner.process, owner.cgroup, self.now)
        who = _Who(owner, self._processes.version, self.now + _SECOND, person, ancestors, place)
        before = self._who.get(id(owner))
        if before is not None and before[3:] == who[3:]:
            # The same objects: formats remember texts by them.
            who = _Who(owner, who.version, who.due, *before[3:])
        if len(self._who) >= _SIZE:
            self._who.clear()
        self._who[id(owner)] = who
        return who

    def _ancestor(self, one: Ancestor) -> Person:
        uid, gid, names = one.uid, one.gid, self._names
        user = None if uid is None else names.user(uid)
        group = None if gid is None else names.group(gid)
        return Person(one.key.pid, None, one.comm or "", one.exe, uid, user, gid, group)

    def _interface(self, netns: int, ifindex: int) -> str | None:
        known = self._interfaces.get((netns, ifindex))
        if known is not None and self.now < known[1]:
            return known[0]
        # An interface that is gone was called what it was called.
        name = self._names.interface(netns, ifindex) or (known[0] if known is not None else None)
        if len(self._interfaces) >= _SIZE:
            self._interfaces.clear()
        self._interfaces[(netns, ifindex)] = name, self.now + _FRESH
        return name
