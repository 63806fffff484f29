"""Docker: a container's ``config.v2.json``, and the same facts as its API tells them.

moby ``daemon/container`` (the file: Name, Config.Image, Config.Labels at the same places as in the answer to
GET /containers/ID/json, which podman gives too). cri-dockerd puts Kubernetes' names into labels.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xdpguard.identity.cgroup import DOCKER, ContainerRef
from xdpguard.identity.container import Container, Place, mapping, text
from xdpguard.identity.files import below, names, read_json

_REMAPPED = re.compile(r"[0-9]+\.[0-9]+")  # userns-remap keeps everything in a folder UID.GID


def find(ref: ContainerRef, place: Place) -> Container | None:
    for root in _roots(place):
        document = mapping(read_json(root / "containers" / ref.id / "config.v2.json", DOCKER, place.notes))
        if document.get("ID") == ref.id:
            return described(ref.id, DOCKER, document)
    return None


def described(identity: str, runtime: str, document: dict[str, object]) -> Container:
    config = mapping(document.get("Config"))
    labels = mapping(config.get("Labels"))
    name = text(document, "Name")
    return Container(
        id=identity,
        runtime=runtime,
        name=name.removeprefix("/") if name else None,
        image=text(config, "Image"),
        pod=text(labels, "io.kubernetes.pod.name"),
        namespace=text(labels, "io.kubernetes.pod.namespace"),
        container_name=text(labels, "io.kubernetes.container.name"),
        pod_uid=text(labels, "io.kubernetes.pod.uid"),
        sandbox=labels.get("io.kubernetes.docker.type") == "podsandbox",
    )


def _roots(place: Place) -> Iterator[Path]:
    """Data roots: the default ones, the one configured, and each one's folders of remapped users."""
    if place.home is not None:
        settings, roots = place.home / ".config/docker", [place.home / ".local/share/docker"]
    else:
        settings = place.root / "etc/docker"
        roots = [place.root / "var/lib/docker", place.root / "var/snap/docker/common/var-lib-docker"]
    configured = text(mapping(read_json(settings / "daemon.json", DOCKER, place.notes)), "data-root", "graph")
    if (elsewhere := below(place.root, configured)) is not None:
        roots.insert(0, elsewhere)
    for root in roots:
        yield root
        yield from (root / name for name in names(root, DOCKER, place.notes) if _REMAPPED.fullmatch(name))
