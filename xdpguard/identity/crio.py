"""CRI-O: the annotations of an OCI configuration in containers/storage. Keys: cri-o ``pkg/annotations``."""

from __future__ import annotations

from xdpguard.identity.cgroup import CRIO, ContainerRef
from xdpguard.identity.container import Container, Place, mapping, text
from xdpguard.identity.files import read_json
from xdpguard.identity.storage import folders

_CRIO = "io.kubernetes.cri-o."


def find(ref: ContainerRef, place: Place) -> Container | None:
    for folder in folders(place):
        document = read_json(folder / ref.id / "userdata" / "config.json", CRIO, place.notes)
        own = mapping(mapping(document).get("annotations"))
        if own.get("io.container.manager") == "cri-o":  # podman's lie at the same places
            return Container(
                id=ref.id,
                runtime=CRIO,
                name=text(own, _CRIO + "Name", _CRIO + "ContainerName"),
                image=text(own, _CRIO + "ImageName", _CRIO + "Image"),
                pod=text(own, "io.kubernetes.pod.name"),
                namespace=text(own, "io.kubernetes.pod.namespace"),
                container_name=text(own, "io.kubernetes.container.name"),
                pod_uid=text(own, "io.kubernetes.pod.uid"),
                sandbox=own.get(_CRIO + "ContainerType") == "sandbox",
            )
    return None
