"""Accounts -> rows by process, user and container. Every view of a hook adds up to what the hook has seen.

Pure but for who is asked for names. What the accounts lack of what was seen, passed before the accounting
began (or in the moment between two readings), and is nobody's.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from xdpguard.identity.cgroupfs import CgroupPaths
from xdpguard.identity.container import Container
from xdpguard.identity.files import Notes
from xdpguard.identity.process import Process, ticks
from xdpguard.kernel import offsets
from xdpguard.kernel.accounts import Account
from xdpguard.stats.model import Count, HookOwners, OwnedCount

KERNEL, UNKNOWN, NO_CONTAINER = "(kernel)", "(unknown)", "(no container)"
REASONS = ("no_owner", "no_ports", "no_process", "no_room", "not_accounted")
"""Why the process is not known: none for this socket; not TCP or UDP, or no ports; only its socket's user is;
no account was free for it; it was counted before the accounting began."""
_Pair = tuple[Count, Count]


class Resolver(Protocol):
    """The part of ``identity.resolver.Resolver`` that is asked here."""

    def process(self, pid: int) -> Process | None: ...

    def container(self, cgroup_path: str) -> Container | None: ...

    def user(self, uid: int) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs: the name of a container, or what can be said instead."""

    name: str
    container: str | None = None  # id


@dataclass(slots=True)
class Names:
    """What accounts are called, asked once each. ``path``: of a cgroup's id; None: it is gone."""

    resolver: Resolver
    path: Callable[[int], str | None]
    _alive: dict[tuple[int, int], Process | None] = field(default_factory=dict)
    _places: dict[str, Place] = field(default_factory=dict)

    def process(self, one: Account) -> str:
        """Its name of today; of a process that is gone, that at its first packet."""
        found = self.alive(one)
        return (found.comm if found is not None else one.comm) or "?"

    def user(self, uid: int) -> str:
        return self.resolver.user(uid) or str(uid)

    def place(self, one: Account) -> Place | None:
        """None: nobody knows."""
        found = self.alive(one)
        path = found.cgroup if found is not None else None
        if path is None and one.cgroup is not None:
            path = self.path(one.cgroup)
        if path is not None:
            return self._at(path)
        return None if one.cgroup is None else Place(f"cgroup {one.cgroup}")

    def alive(self, one: Account) -> Process | None:
        if one.pid is None:
            return None
        key = one.pid, ticks(one.start_time)
        if key not in self._alive:
            found = self.resolver.process(one.pid)
            self._alive[key] = found if found is not None and found.start == key[1] else None
        return self._alive[key]

    def _at(self, path: str) -> Place:
        if path not in self._places:
            found = self.resolver.container(path)
            self._places[path] = (
                Place(NO_CONTAINER) if found is None else Place(found.name or found.id[:12], found.id)
            )
        return self._places[path]


def paths(unified: Callable[[int], str | None]) -> Callable[[int], str | None]:
    """Cgroup ids -> paths: of v2 (``unified``), or of that v1 hierarchy whose ids the tracer tells."""
    controller = offsets.cgroup_controller()
    if not controller:
        return unified
    top = offsets.cgroup_root(controller)
    if top is None:
        return lambda _: None
    return CgroupPaths(Path("/"), Notes(), time.monotonic, top=top).path


def of_hook(accounts: Iterable[Account], hook: int, seen: Count, dropped: Count, names: Names) -> HookOwners:
    """One direction. ``seen``, ``dropped``: all of its packets, read after the accounts."""
    mine = [one for one in accounts if one.hook == hook]
    processes, users, containers = _View(seen, dropped), _View(seen, dropped), _View(seen, dropped)
    reasons = {name: (Count(), Count()) for name in REASONS}
    for one in mine:
        if one.kind == "kernel":
            for view in (processes, users, containers):
                view.add(KERNEL, one)
            continue
        if one.pid is not None:
            key = one.pid, ticks(one.start_time)
            processes.add(key, one, OwnedCount(names.process(one), pid=one.pid, uid=one.uid))
        else:
            why = "no_process" if one.kind == "owner" else one.kind
            reasons[why] = _plus(reasons[why], one)
        if one.uid is not None:
            users.add(one.uid, one, OwnedCount(names.user(one.uid), uid=one.uid))
        place = names.place(one)
        if place is not None:
            containers.add(place, one, OwnedCount(place.name, container=place.container))
    reasons["not_accounted"] = _rest(mine, seen, dropped)
    return HookOwners(
        processes.rows(),
        users.rows(),
        containers.rows(),
        {name: OwnedCount(name, count=pair[0], dropped=pair[1]) for name, pair in reasons.items()},
    )


class _View:
    """Rows of one view, in no order but that of their packets; what no row has is the unknown's."""

    def __init__(self, seen: Count, dropped: Count) -> None:
        self._left = seen, dropped
        self._rows: dict[object, OwnedCount] = {}
        self._sums: dict[object, _Pair] = {KERNEL: (Count(), Count())}

    def add(self, key: object, one: Account, row: OwnedCount | None = None) -> None:
        if row is not None:
            self._rows.setdefault(key, row)
        self._sums[key] = _plus(self._sums.get(key, (Count(), Count())), one)

    def rows(self) -> tuple[OwnedCount, ...]:
        """Most packets first, then the kernel, then the unknown."""
        found = [row.with_counts(*self._sums[key]) for key, row in self._rows.items()]
        found.sort(key=lambda row: (-row.count.packets, row.name, row.pid or 0))
        kernel = self._sums[KERNEL]
        count, dropped = self._left
        for sums in self._sums.values():
            count, dropped = count - sums[0], dropped - sums[1]
        return (
            *found,
            OwnedCount(KERNEL, count=kernel[0], dropped=kernel[1]),
            OwnedCount(UNKNOWN, count=count, dropped=dropped),
        )


def _plus(pair: _Pair, one: Account) -> _Pair:
    return (
        pair[0] + Count(one.packets, one.bytes),
        pair[1] + Count(one.dropped_packets, one.dropped_bytes),
    )


def _rest(accounts: list[Account], seen: Count, dropped: Count) -> _Pair:
    for one in accounts:
        seen = seen - Count(one.packets, one.bytes)
        dropped = dropped - Count(one.dropped_packets, one.dropped_bytes)
    return seen, dropped
