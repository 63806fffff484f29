"""Where containers/storage, the library below podman and CRI-O, keeps its containers. storage.conf(5)."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from pathlib import Path

from xdpguard.identity.container import Place, mapping, text
from xdpguard.identity.files import below, read

DRIVERS = ("overlay", "vfs", "btrfs", "zfs")
_SOURCE = "containers/storage"


def folders(place: Place) -> Iterator[Path]:
    """Every ``DRIVER-containers`` folder that there may be, of graph roots first and then of run roots."""
    if place.home is not None:
        conf, graph = place.home / ".config/containers/storage.conf", place.home / ".local/share"
    else:
        conf, graph = place.root / "etc/containers/storage.conf", place.root / "var/lib"
    settings = _settings(conf, place)
    roots = [graph / "containers/storage"]
    roots.append(place.run / ("containers" if place.home is not None else "containers/storage"))
    for key in ("graphroot", "runroot"):
        if (elsewhere := below(place.root, text(settings, key))) is not None:
            roots.append(elsewhere)
    for root in dict.fromkeys(roots):
        yield from (root / f"{driver}-containers" for driver in DRIVERS)


def _settings(conf: Path, place: Place) -> dict[str, object]:
    try:
        return mapping(tomllib.loads(read(conf).decode()).get("storage"))
    except FileNotFoundError:
        pass  # the built-in places it is then
    except (OSError, ValueError, RecursionError) as error:
        place.notes.add(_SOURCE, "conf", f"{_SOURCE}: {conf}: {error}: the usual places only are searched")
    return {}
