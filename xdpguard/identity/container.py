"""What is known of a container, as plain data; and where the runtimes of one user keep their files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from xdpguard.identity.cgroup import ContainerRef
from xdpguard.identity.files import Notes

_LONGEST = 1024  # characters; Kubernetes allows 253 for a name, registries fewer than 512 for an image


@dataclass(frozen=True, slots=True)
class Container:
    """``name``: the runtime's. ``pod``, ``namespace``, ``container_name``: Kubernetes'. None: not known.

    ``sandbox``: the container that only holds the pod's namespaces (pause). ``owner``: see ContainerRef.
    Names come from outside: whoever prints them escapes them.
    """

    id: str
    runtime: str | None
    name: str | None = None
    image: str | None = None
    pod: str | None = None
    namespace: str | None = None
    container_name: str | None = None
    pod_uid: str | None = None
    sandbox: bool = False
    owner: int | None = None
    outer: Container | None = None


@dataclass(frozen=True, slots=True)
class Place:
    """One user's share of the file system, as seen from ``root``. ``uid`` and ``home`` None: the system's."""

    root: Path
    uid: int | None
    home: Path | None
    notes: Notes

    @property
    def run(self) -> Path:
        """Where this user's runtimes keep what lives until the next boot."""
        return self.root / "run" if self.uid is None else self.root / "run" / "user" / str(self.uid)


Finder = Callable[[ContainerRef, Place], Container | None]
"""Looks one container up in the files of one runtime. None: not there. Never raises for what files say."""


def mapping(value: object) -> dict[str, object]:
    """A JSON object, or an empty one for anything else."""
    return value if isinstance(value, dict) else {}


def text(values: dict[str, object], *names: str) -> str | None:
    """The first of ``names`` that has a usable string."""
    for name in names:
        value = values.get(name)
        if isinstance(value, str) and 0 < len(value) <= _LONGEST:
            return value
    return None
