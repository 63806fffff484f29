"""podman: the lists of containers that containers/storage keeps, the system's and each user's.

``volatile-containers.json`` holds those of ``--rm``. An entry's ``metadata`` is JSON in a string, written by
podman (or CRI-O, which has the pod's name there). podman's own pods are in its database only.
"""

from __future__ import annotations

from pathlib import Path

from xdpguard.identity.cgroup import PODMAN, ContainerRef
from xdpguard.identity.container import Container, Place, mapping, text
from xdpguard.identity.files import Cached, parsed
from xdpguard.identity.storage import folders

_LISTS = ("containers.json", "volatile-containers.json")
_MOST = 256  # lists kept parsed

Entries = dict[str, dict[str, object]]


class Podman:
    """Keeps the lists parsed while they do not change: one list holds every container."""

    def __init__(self) -> None:
        self._lists: dict[Path, Cached[Entries]] = {}

    def find(self, ref: ContainerRef, place: Place) -> Container | None:
        for folder in folders(place):
            for name in _LISTS:
                entry = self._entries(folder / name, place).get(ref.id)
                if entry is not None:
                    return _described(ref.id, entry)
        return None

    def _entries(self, path: Path, place: Place) -> Entries:
        if path not in self._lists:
            if len(self._lists) >= _MOST:
                self._lists.clear()
            self._lists[path] = Cached(path, _entries, PODMAN, place.notes)
        return self._lists[path].value()


def _entries(data: bytes) -> Entries:
    """Id -> entry. A list that is none has no entries: it is being written, or not podman's."""
    try:
        entries = parsed(data)
    except ValueError:
        return {}
    found = [mapping(entry) for entry in entries] if isinstance(entries, list) else []
    return {str(entry["id"]): entry for entry in found if isinstance(entry.get("id"), str)}


def _described(identity: str, entry: dict[str, object]) -> Container | None:
    metadata: dict[str, object] = {}
    try:
        metadata = mapping(parsed((text(entry, "metadata") or "{}").encode("utf-8", "surrogatepass")))
    except ValueError:
        pass  # the name is in the entry itself too
    if text(metadata, "pod-name") is not None:
        return None  # CRI-O's
    names = entry.get("names")
    name = next((one for one in names if isinstance(one, str)), None) if isinstance(names, list) else None
    return Container(
        id=identity,
        runtime=PODMAN,
        name=text({"name": name}, "name") or text(metadata, "name"),
        image=text(metadata, "image-name"),
    )
