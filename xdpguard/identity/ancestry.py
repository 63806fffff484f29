"""Who started whom: a table of processes by (pid, start time), fed by fork, exec and exit.

A parent is the process that forked, which /proc stops telling when it exits; so lineages are right for
processes that are gone. Events may arrive in another order than they happened (each CPU has its queue).
Bounded: exited processes are kept by count, those without descendants go first; live ones by count too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from xdpguard.identity.process import Key, Process

NO_PARENT = Key(0, 0)
"""The parent of pid 1, of kthreadd, and of what entered our pid namespace from outside."""
_DEEP = 256  # a longer lineage is cut and not complete


@dataclass(frozen=True, slots=True)
class Forked:
    """A process (never a mere thread) was made. ``comm``, ``uid``, ``gid``: of the child at that moment."""

    key: Key
    parent: Key
    comm: str
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Executed:
    key: Key
    comm: str
    exe: str | None
    uid: int
    gid: int


@dataclass(frozen=True, slots=True)
class Exited:
    key: Key


Event = Forked | Executed | Exited


@dataclass(frozen=True, slots=True)
class Ancestor:
    """One process of a lineage, as last seen. ``parent`` None: not known."""

    key: Key
    parent: Key | None
    comm: str | None = None
    exe: str | None = None
    uid: int | None = None
    gid: int | None = None
    exited: bool = False


@dataclass(frozen=True, slots=True)
class Lineage:
    """The process first, its oldest ancestor last. ``complete``: the last one has no parent."""

    processes: tuple[Ancestor, ...]
    complete: bool


@dataclass(slots=True)
class Losses:
    """``evicted``: exited processes given up for room. ``refused``: new ones not taken, too many live.
    ``unseen``: processes first met by an exec or exit. ``overdue``: exits found by a scan only."""

    evicted: int = 0
    refused: int = 0
    unseen: int = 0
    overdue: int = 0


@dataclass(slots=True)
class Ancestry:
    exited: int = 8192
    live: int = 65536
    losses: Losses = field(init=False, default_factory=Losses)
    _table: dict[Key, Ancestor] = field(init=False, default_factory=dict)
    _children: dict[Key, int] = field(
        init=False, default_factory=dict
    )  # how many in the table call this key parent
    _gone: dict[Key, None] = field(init=False, default_factory=dict)  # exited, oldest first
    _leaves: dict[Key, None] = field(
        init=False, default_factory=dict
    )  # exited and nobody's parent, oldest first

    def __len__(self) -> int:
        return len(self._table)

    def apply(self, event: Event) -> None:
        known = self._table.get(event.key)
        if isinstance(event, Forked):
            self._forked(event, known)
            return
        if known is None:
            self.losses.unseen += 1
            known = Ancestor(event.key, None)
        if isinstance(event, Exited):
            self._put(replace(known, exited=True))
        else:
            self._put(replace(known, comm=event.comm, exe=event.exe, uid=event.uid, gid=event.gid))

    def seed(self, processes: Iterable[Process], began: int | None = None) -> None:
        """What /proc shows now. A parent that an event told stays: /proc forgets it when it exits.

        ``began``: when the scan began, in ticks since boot. Live processes that are older and were not found
        have exited without an event: to be given after events were lost.
        """
        scan = {one.pid: one for one in processes}
        for one in scan.values():
            known = self._table.get(one.key) or Ancestor(one.key, None)
            parent = known.parent or _parent(one, scan)
            self._put(
                replace(
                    known, parent=parent, comm=one.comm, exe=one.exe or known.exe, uid=one.uid, gid=one.gid
                )
            )
        if began is not None:
            self._settle({one.key for one in scan.values()}, began)

    def ancestry(self, key: Key) -> Lineage:
        """From ``key`` up. Nothing and not complete: a process never seen, or evicted."""
        found: list[Ancestor] = []
        at: Key | None = key
        while at is not None and len(found) < _DEEP and (one := self._table.get(at)) is not None:
            found.append(one)
            at = one.parent
        return Lineage(tuple(found), at == NO_PARENT)

    def _forked(self, event: Forked, known: Ancestor | None) -> None:
        if known is not None and known.exited and known.parent not in (None, event.parent):
            self._remove(event.key)  # its number again within one tick: it must not inherit anything
            known = None
        if known is None:
            parent = self._table.get(event.parent)
            exe = parent.exe if parent else None
            self._put(Ancestor(event.key, event.parent, event.comm, exe, event.uid, event.gid))
            return
        # Its exec or exit was faster, or it was found by a scan, perhaps after its parent was gone.
        first = {
            name: getattr(event, name) for name in ("comm", "uid", "gid") if getattr(known, name) is None
        }
        self._put(replace(known, parent=event.parent, **first))

    def _settle(self, found: set[Key], began: int) -> None:
        for one in list(self._table.values()):
            if not one.exited and one.key.start < began and one.key not in found:
                self.losses.overdue += 1
                self._put(replace(one, exited=True))

    def _put(self, one: Ancestor) -> None:
        before = self._table.get(one.key)
        if before is None and not one.exited and len(self._table) - len(self._gone) >= self.live:
            self.losses.refused += 1
            return
        self._table[one.key] = one
        self._count(one.parent, 1)
        self._count(before.parent if before else None, -1)
        if one.exited and one.key not in self._gone:
            self._gone[one.key] = None
            if one.key not in self._children:
                self._leaves[one.key] = None
        while len(self._gone) > self.exited:
            self.losses.evicted += 1
            self._remove(next(iter(self._leaves or self._gone)))

    def _remove(self, key: Key) -> None:
        self._gone.pop(key, None)
        self._leaves.pop(key, None)
        self._count(self._table.pop(key).parent, -1)

    def _count(self, parent: Key | None, change: int) -> None:
        """One child more or less. Only an exited process without children is a leaf."""
        if parent is None:
            return
        self._children[parent] = self._children.get(parent, 0) + change
        if self._children[parent]:
            self._leaves.pop(parent, None)
            return
        del self._children[parent]
        if parent in self._gone:
            self._leaves[parent] = None


def _parent(one: Process, scan: dict[int, Process]) -> Key | None:
    """By number; a parent younger than its child is another process that got the number meanwhile."""
    if not one.ppid:
        return NO_PARENT
    parent = scan.get(one.ppid)
    return parent.key if parent is not None and parent.start <= one.start else None
