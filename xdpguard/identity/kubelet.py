"""kubelet: the log links of a node's containers, POD_NAMESPACE_CONTAINER-ID.log, whatever the runtime is.

The last resort for a container of a pod whose runtime keeps its files elsewhere. Kubernetes
``pkg/kubelet/kuberuntime/legacy.go``; no part but the container's name may hold ``_``.
"""

from __future__ import annotations

import re

from xdpguard.identity.cgroup import ContainerRef
from xdpguard.identity.container import Container, Place
from xdpguard.identity.files import names

_LINK = re.compile(r"([^_]{1,253})_([^_]{1,63})_(.{1,63})-([0-9a-f]{64})\.log")


def find(ref: ContainerRef, place: Place) -> Container | None:
    if place.home is not None or ref.pod_uid is None:
        return None
    for name in names(place.root / "var/log/containers", "kubelet", place.notes):
        match = _LINK.fullmatch(name)
        if match and match[4] == ref.id:
            pod, namespace, container = match.group(1, 2, 3)
            return Container(ref.id, ref.runtime, container, None, pod, namespace, container)
    return None
