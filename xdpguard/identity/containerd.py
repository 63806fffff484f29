"""containerd: the annotations of a running task's OCI configuration, under its state directory.

Keys: containerd ``pkg/cri/annotations``; ``nerdctl/``: nerdctl ``pkg/labels``. containerd's own socket speaks
gRPC and knows nothing more, so it is not asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from xdpguard.identity.cgroup import CONTAINERD, ContainerRef
from xdpguard.identity.container import Container, Place, mapping, text
from xdpguard.identity.files import names, read_json

_STATES = (
    "run/containerd",
    "run/k3s/containerd",  # RKE2 too
    "run/k0s/containerd",
    "var/snap/microk8s/common/run/containerd",
)
_TASKS = "io.containerd.runtime.v2.task"
_NAMESPACE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,75}")  # containerd pkg/identifiers
_MOBY = "moby"  # docker's: it has the names
_ID = re.compile("[0-9a-f]{64}")
_CRI = "io.kubernetes.cri."


def find(ref: ContainerRef, place: Place) -> Container | None:
    if place.home is not None:
        return None  # a rootless containerd's state lies in a mount namespace of its own
    for tasks in _namespaces(place):
        notes = _annotations(tasks, ref.id, place)
        if notes is not None:
            return _described(ref.id, notes, _sandbox(tasks, notes, place))
    return None


def _namespaces(place: Place) -> Iterator[Path]:
    for state in _STATES:
        tasks = place.root / state / _TASKS
        for name in names(tasks, CONTAINERD, place.notes):
            if _NAMESPACE.fullmatch(name) and name != _MOBY:
                yield tasks / name


def _annotations(tasks: Path, identity: str, place: Place) -> dict[str, object] | None:
    document = read_json(tasks / identity / "config.json", CONTAINERD, place.notes)
    return mapping(mapping(document).get("annotations")) if isinstance(document, dict) else None


def _sandbox(tasks: Path, annotations: dict[str, object], place: Place) -> dict[str, object]:
    """The pod's own annotations: before containerd 1.6 its containers do not carry the pod's names."""
    identity = text(annotations, _CRI + "sandbox-id")
    if identity is None or not _ID.fullmatch(identity) or text(annotations, _CRI + "sandbox-uid"):
        return annotations
    return {**(_annotations(tasks, identity, place) or {}), **annotations}


def _described(identity: str, own: dict[str, object], pod: dict[str, object]) -> Container:
    container = text(own, _CRI + "container-name")
    return Container(
        id=identity,
        runtime=CONTAINERD,
        name=container or text(own, "nerdctl/name"),
        image=text(own, _CRI + "image-name"),
        pod=text(pod, _CRI + "sandbox-name"),
        namespace=text(pod, _CRI + "sandbox-namespace"),
        container_name=container,
        pod_uid=text(pod, _CRI + "sandbox-uid"),
        sandbox=own.get(_CRI + "container-type") == "sandbox",
    )
