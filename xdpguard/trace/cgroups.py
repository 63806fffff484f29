"""cgroup ids -> path and container, kept past the end of short-lived ones. Pure but for its callables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from xdpguard.identity.container import Container
from xdpguard.trace.model import ContainerName, ProcessKey
from xdpguard.trace.processes import Processes

_SECOND = 1_000_000_000
FRESH = 5 * _SECOND  # until a path and its container are asked for again
SOON = 1 * _SECOND  # the same for those without a path or a name
RETAINED = 60 * _SECOND  # after a cgroup was last seen
SIZE = 4096


@dataclass(frozen=True, slots=True)
class Place:
    """Where a process runs. ``container`` None: in none, as far as the path tells."""

    path: str | None
    container: ContainerName | None


NOWHERE = Place(None, None)


@dataclass(slots=True)
class _Entry:
    place: Place
    due: int  # when to ask again
    seen: int  # when it was last there


class Cgroups:
    """``path``: id -> path, None: no such cgroup. ``container``: path -> container; None: do not ask.

    ``lies_at``: has the cgroup of that path that id? /proc tells where a process is, an event where it was:
    two places for one that a runtime moves into its container.
    ``ids_tell``: the ids are of the hierarchy that holds the containers, and ``path`` knows that one. Else a
    cgroup may hold processes of many containers, and /proc/PID/cgroup of the process is asked first.
    """

    def __init__(
        self,
        path: Callable[[int], str | None],
        lies_at: Callable[[int, str], bool],
        container: Callable[[str], Container | None] | None,
        processes: Processes,
        ids_tell: bool,
    ) -> None:
        self.evicted = 0
        self._ids_tell = ids_tell
        self._path, self._lies_at = path, lies_at
        self._container, self._processes = container, processes
        self._places: dict[int | str, _Entry] = {}

    def of(self, process: ProcessKey, identity: int | None, now: int, refresh: bool = False) -> Place:
        """Where a process of that cgroup runs. ``now``: ns, any clock that only goes forward.

        ``refresh``: it is there now, so that /proc, where it is needed, is to be asked again.
        """
        place = NOWHERE if identity is None else self.of_id(identity, now)
        if self._ids_tell and place.path is not None:
            return place
        path = self._processes.cgroup(process, refresh)
        if path is None:
            return place
        if not self._ids_tell or identity is None:
            return self._at(path, path, now)
        # What one process tells of an id that nobody else knows is kept with the id, if it is true of it.
        return self._at(identity, path, now) if self._lies_at(identity, path) else place

    def home(self, process: ProcessKey, identity: int, now: int) -> Place:
        """What is true of every process with that cgroup id. Without a path: nothing is known to be."""
        if self._ids_tell:
            return self.of(process, identity, now)
        place = self.of_id(identity, now)
        return place if place.container is not None else NOWHERE

    def of_path(self, path: str, now: int) -> Place:
        return self._at(path, path, now)

    def of_id(self, identity: int, now: int) -> Place:
        entry = self._places.get(identity)
        if entry is not None and now < entry.due:
            return entry.place
        path = self._path(identity)
        if path is not None:
            return self._at(identity, path, now)
        if entry is not None and entry.place.path is not None and now - entry.seen < RETAINED:
            entry.due = now + SOON
            return entry.place
        self._keep(identity, _Entry(NOWHERE, now + SOON, now))
        return NOWHERE

    def _at(self, key: int | str, path: str, now: int) -> Place:
        entry = self._places.get(key)
        if entry is not None and now < entry.due and entry.place.path == path:
            return entry.place
        found = self._container(path) if self._container is not None else None
        name = named(found) if found is not None else None
        # A container that is gone has no name any more: what it was called stays true.
        if name is not None and name.name is None and entry is not None and _same(entry.place, name):
            name = entry.place.container
        patience = SOON if name is not None and name.name is None else FRESH
        place = Place(path, name)
        if entry is not None and entry.place == place:
            place = entry.place  # the same object: formats remember texts by it
        self._keep(key, _Entry(place, now + patience, now))
        return place

    def _keep(self, key: int | str, entry: _Entry) -> None:
        self._places.pop(key, None)
        self._places[key] = entry
        if len(self._places) > SIZE:
            self.evicted += 1
            del self._places[next(iter(self._places))]


def named(found: Container) -> ContainerName:
    return ContainerName(
        found.id, found.runtime, found.name, found.image, found.pod, found.namespace, found.container_name
    )


def _same(place: Place, name: ContainerName) -> bool:
    return place.container is not None and place.container.id == name.id
