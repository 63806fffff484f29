"""cgroup paths -> the container they name. Pure: text in, data out; no text raises.

A path is read from left to right and the innermost container wins; the ones around it stay reachable as
``outer``. The supervisors that runtimes keep beside a container (conmon, nspawn's ``supervisor``, LXC's
monitor) run on the host and are not the container. An id is returned only if it is 64 hex digits, or for LXC
and nspawn, whose containers have no other id, a plain name. Formats: cgroups(7), the ``cgroup_parent`` and
``CgroupsPath`` code of moby, containerd, CRI-O and podman, kubelet's ``cgroup_manager_linux.go``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

DOCKER, CONTAINERD, CRIO, PODMAN, LXC, NSPAWN = "docker", "containerd", "cri-o", "podman", "lxc", "nspawn"


@dataclass(frozen=True, slots=True)
class ContainerRef:
    """What a path alone says. ``runtime`` None: the path names none (kubelet's cgroupfs driver).

    ``owner``: uid of the user whose service manager the container runs under (rootless), None for the
    system's. That user may create cgroups of any name there: look such an id up in that user's files only.
    ``outer``: the container around this one. ``pod_uid``: with dashes, or 32 hex digits for a static pod.
    """

    runtime: str | None
    id: str
    pod_uid: str | None = None
    owner: int | None = None
    outer: ContainerRef | None = None


@dataclass(frozen=True, slots=True)
class Membership:
    """One process's place. ``unit``: innermost systemd unit that is not itself the container, or None."""

    path: str
    container: ContainerRef | None
    unit: str | None


_ID = "[0-9a-f]{64}"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_PREFIXES = {
    "docker": DOCKER,
    "cri-containerd": CONTAINERD,
    "nerdctl": CONTAINERD,
    "crio": CRIO,
    "libpod": PODMAN,
    "libpod-payload": PODMAN,  # --cgroups=split, which is what Quadlet units use
}
_PARENTS = {
    "docker": DOCKER,
    "k8s.io": CONTAINERD,  # containerd's namespaces
    "default": CONTAINERD,
    "libpod_parent": PODMAN,
}
_PREFIXED = re.compile(rf"({'|'.join(_PREFIXES)})-({_ID})(?:\.scope)?")
_COLONS = re.compile(rf"[^:]*:([^:]*):({_ID})")  # a systemd path taken literally by the cgroupfs driver
_BARE = re.compile(_ID)
_POD = re.compile(
    r"(?:pod|(?:.*-)?kubepods(?:-burstable|-besteffort)?-pod)"
    r"([0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32})(?:\.slice)?"
)
_OWNER = re.compile(r"user@([0-9]{1,10})\.service")
_LXC = re.compile(r"lxc\.payload\.(.+)")
_NSPAWN = re.compile(
    r"machine-(?!qemu\\x2d|lxc\\x2d)(.+)\.scope|systemd-nspawn@(.+)\.service"
)  # not libvirt's
_ESCAPE = re.compile(r"\\x([0-9a-f]{2})")  # systemd-escape(1)
_SUPERVISED = (PODMAN, NSPAWN)
_UNIT = re.compile(r".+\.(?:service|scope|socket|mount|swap)")
_DELETED = " (deleted)"  # what the kernel adds to the path of a removed cgroup
_LINES, _NESTED = 64, 16  # more are not looked at; a path has 4,096 bytes at most
_PREFERRED = ("memory", "pids", "name=systemd", "")


def membership(text: str) -> Membership | None:
    """The text of /proc/PID/cgroup -> the place that says most. None: no line has a path.

    v1 has a line per hierarchy, v2 one, a hybrid host both, and a process may sit at the root of some.
    """
    best: tuple[tuple[int, int, int], str] | None = None
    for controllers, path in _lines(text):
        ranks = [_PREFERRED.index(name) for name in controllers.split(",") if name in _PREFERRED]
        rank = (_depth(of_path(path)), len(_components(path)), -min(ranks, default=len(_PREFERRED)))
        if best is None or rank > best[0]:
            best = rank, path
    return None if best is None else Membership(best[1], of_path(best[1]), unit(best[1]))


@lru_cache(maxsize=4096)
def of_path(path: str) -> ContainerRef | None:
    """One cgroup path -> the innermost container in it. None: not in a container as far as the path tells.

    ``/`` says nothing: the process is at the top of the reader's cgroup namespace.
    """
    owner: int | None = None
    pod: str | None = None
    found: list[tuple[str | None, str, str | None]] = []
    components = _components(path)
    for index, component in enumerate(components):
        if not found and (
            match := _OWNER.fullmatch(component)
        ):  # inside a container its number means another
            owner = int(match[1]) or None  # uid 0's containers are the system's
        if match := _POD.fullmatch(component.partition(":")[0]):
            pod = match[1].replace("_", "-")
        if (one := _container(components, index)) is not None:
            found.append((*one, pod))
            pod = None
    ref: ContainerRef | None = None
    for runtime, identity, pod_uid in found[-_NESTED:]:
        ref = ContainerRef(runtime, identity, pod_uid, owner, ref)
    return ref


def unit(path: str) -> str | None:
    """``sshd.service`` of ``/system.slice/sshd.service``: the innermost unit that is not a container."""
    components = _components(path)
    for index in reversed(range(len(components))):
        if _UNIT.fullmatch(components[index]) and _container(components, index) is None:
            return components[index]
    return None


def _lines(text: str) -> Iterator[tuple[str, str]]:
    for line in text.split("\n")[:_LINES]:
        parts = line.split(":", 2)
        if len(parts) == 3 and parts[2].startswith("/"):
            yield parts[1], parts[2].removesuffix(_DELETED)


def _components(path: str) -> list[str]:
    """Without the leading ``..`` of a path that lies outside of the reader's cgroup namespace."""
    return [part for part in path.removesuffix(_DELETED).split("/") if part not in ("", ".", "..")]


def _depth(ref: ContainerRef | None) -> int:
    return 0 if ref is None else 1 + _depth(ref.outer)


def _container(components: list[str], index: int) -> tuple[str | None, str] | None:
    """(runtime, id) if the component at ``index`` is a container and the path does not end beside it."""
    parent = components[index - 1] if index else ""
    one = _named(components[index], parent)
    after = components[index + 1] if index + 1 < len(components) else ""
    if one is None or (one[0] in _SUPERVISED and after == "supervisor"):
        return None
    if parent == "libpod_parent" and _named(after, components[index]) is not None:
        return None  # a pod of podman's: a group of containers, not one
    return one


def _named(component: str, parent: str) -> tuple[str | None, str] | None:
    if match := _PREFIXED.fullmatch(component):
        return _PREFIXES[match[1]], match[2]
    if match := _COLONS.fullmatch(component):
        return _PREFIXES.get(match[1]), match[2]
    if match := _NSPAWN.fullmatch(component):
        return _plain(NSPAWN, _ESCAPE.sub(_unescaped, match[1] or match[2]))
    if match := _LXC.fullmatch(component):
        return _plain(LXC, match[1])
    if parent in ("lxc", "lxc.payload"):
        return _plain(LXC, component)
    if _BARE.fullmatch(component):
        return _PARENTS.get(parent), component
    return None


def _unescaped(match: re.Match[str]) -> str:
    return chr(int(match[1], 16))


def _plain(runtime: str, name: str) -> tuple[str, str] | None:
    return (runtime, name) if _NAME.fullmatch(name) else None
