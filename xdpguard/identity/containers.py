"""Container ids -> names, from the runtimes' files and then their sockets. No program is ever run.

Remembered by id: a name for a while, then asked again since containers can be renamed, and kept if the
container is gone by then, as late events still need it; no name for a shorter while. Waits at most for the
sockets' timeouts.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from xdpguard.identity import containerd, crio, docker, kubelet
from xdpguard.identity.api import Api
from xdpguard.identity.cgroup import CONTAINERD, CRIO, DOCKER, LXC, NSPAWN, PODMAN, ContainerRef
from xdpguard.identity.container import Container, Finder, Place
from xdpguard.identity.files import Notes, below
from xdpguard.identity.podman import Podman
from xdpguard.identity.users import Accounts


@dataclass(frozen=True, slots=True)
class Patience:
    """Seconds until an answer is asked for again, and how many containers are remembered."""

    named: float = 60.0
    unnamed: float = 5.0
    socket: float = 30.0
    size: int = 4096


class Containers:
    def __init__(
        self,
        root: Path,
        accounts: Accounts,
        notes: Notes,
        clock: Callable[[], float],
        docker_socket: Path | None = None,
        patience: Patience = Patience(),
    ) -> None:
        self._root, self._accounts, self._notes = root, accounts, notes
        self._clock, self._patience = clock, patience
        self._docker_socket = docker_socket or root / "run/docker.sock"
        self._api = Api(notes, clock, patience.socket)
        self._finders: dict[str, Finder] = {
            CONTAINERD: containerd.find,
            DOCKER: docker.find,
            CRIO: crio.find,
            PODMAN: Podman().find,
        }
        self._known: OrderedDict[ContainerRef, tuple[Container, float]] = OrderedDict()

    def of(self, ref: ContainerRef) -> Container:
        """Always an answer: without names if nobody knows the id. What the path tells wins over files."""
        known = self._known.get(ref)
        if known is None or self._clock() >= known[1]:
            container = self._described(ref, known[0] if known else Container(ref.id, None))
            patience = self._patience.unnamed if container.name is None else self._patience.named
            self._known[ref] = known = container, self._clock() + patience
            while len(self._known) > self._patience.size:
                self._known.popitem(last=False)
        self._known.move_to_end(ref)
        return known[0]

    def _described(self, ref: ContainerRef, before: Container) -> Container:
        """``before``: what was known, and stays so if nobody knows the id any more."""
        outer = self.of(ref.outer) if ref.outer else None
        if ref.runtime in (LXC, NSPAWN):
            return Container(ref.id, ref.runtime, ref.id, owner=ref.owner, outer=outer)
        found = self._find(ref) or before
        return replace(
            found,
            runtime=found.runtime or ref.runtime,
            pod_uid=ref.pod_uid or found.pod_uid,
            owner=ref.owner,
            outer=outer,
        )

    def _find(self, ref: ContainerRef) -> Container | None:
        place = self._place(ref.owner)
        if place is None:
            return None
        named = self._finders.get(ref.runtime or "")
        finders: Iterable[Finder] = [named] if named else self._finders.values()
        for find in (*finders, kubelet.find):
            if (found := find(ref, place)) is not None:
                return found
        for runtime, path in self._sockets(place):
            if ref.runtime in (None, runtime) and (found := self._api.find(ref.id, runtime, path)):
                return found
        return None

    def _place(self, owner: int | None) -> Place | None:
        """None: a user whose home is not known, so that nobody can be asked."""
        if owner is None:
            return Place(self._root, None, None, self._notes)
        home = below(self._root, self._accounts.home(owner))
        return Place(self._root, owner, home, self._notes) if home else None

    def _sockets(self, place: Place) -> Iterator[tuple[str, Path]]:
        yield DOCKER, self._docker_socket if place.uid is None else place.run / "docker.sock"
        yield PODMAN, place.run / "podman/podman.sock"
