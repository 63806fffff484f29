"""The map of socket owners: one for the host, pinned as /sys/fs/bpf/xdpguard/owners.

Owns its pin, its entries as bytes, and the sign that a tracer keeps it. `xdpguard trace` writes it
(bpf/include/owners.h), programs loaded with --account-owners read it (bpf/include/account.h). It is there as
long as either needs it. What must never break: a program and the tracer use one and the same map.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from mmap import mmap
from pathlib import Path

from xdpguard.abi import abi
from xdpguard.errors import ForeignError
from xdpguard.kernel import bpf, lock, objects, pins

_ABI = abi()
NAME = "owners"
ENTRIES = 65536
"""Connections and listeners of the whole host; the one used longest ago makes room."""

_KEPT, _USED = "owners.kept", "owners.used"  # locks: a tracer writes the map; somebody has it open
_MAP_NAME, _CHANGES_NAME = "xg_owners", "xg_changes"
_MAP_LRU_HASH = 9
_NEW_ONLY = 1  # BPF_NOEXIST
_KEY_BYTES, _VALUE_BYTES = _ABI.structs["xg_owner_key"].size, _ABI.structs["xg_owner"].size
_CHANGES_BYTES = _ABI.structs["xg_changes"].size
_KEY = struct.Struct("=16s16sQ4H")
_VALUE = struct.Struct("=QQ5I4x16s")
_ENDED, _BY_KERNEL = _ABI.numbers["XG_ENDED"], _ABI.numbers["XG_BY_KERNEL"]
Address = IPv4Address | IPv6Address


def path() -> Path:
    return pins.FOLDER / NAME


@dataclass(frozen=True, slots=True)
class Remembered:
    """Who an entry says it is. ``start_time``: ns, CLOCK_BOOTTIME. ``kernel``: no process, the kernel itself.

    ``ended``: that connection is closed; only its last packets are still its.
    """

    pid: int
    start_time: int
    kernel: bool
    ended: bool


class Owners:
    """The map of owners and that of its changes (struct xg_changes), open: two fds.

    Whoever remembers an entry looks at the changes: each one here is counted once it is made.
    """

    def __init__(self, fd: int, changes: int) -> None:
        self.fd, self.changes = fd, changes
        self._page: mmap | None = None  # of the changes, once there is one

    def close(self) -> None:
        if self._page is not None:
            self._page.close()
        os.close(self.fd)
        os.close(self.changes)

    def duplicate(self) -> Owners:
        return Owners(os.dup(self.fd), os.dup(self.changes))

    def same(self, other: Owners) -> bool:
        return objects.map_info(self.fd).id == objects.map_info(other.fd).id

    def entries(self) -> Iterator[tuple[bytes, Remembered]]:
        """What is in the map; what comes and goes meanwhile may be missing."""
        for entry in bpf.map_keys(self.fd, _KEY_BYTES):
            try:
                data = bpf.map_lookup(self.fd, entry, _VALUE_BYTES)
            except FileNotFoundError:
                continue
            start_time, _, pid, _, _, _, known, _ = _VALUE.unpack(data)
            by = known & ~_ENDED
            yield entry, Remembered(pid, start_time, by == _BY_KERNEL, bool(known & _ENDED))

    def add(self, entry: bytes, owner: bytes) -> bool:
        """Write an entry unless there is one, which knows better. False: there was one."""
        page = self._changes_page()
        try:
            bpf.map_update(self.fd, entry, owner, flags=_NEW_ONLY)
        except FileExistsError:
            return False
        _mark(page)
        return True

    def remove(self, entry: bytes) -> bool:
        """False: it was gone already."""
        page = self._changes_page()
        try:
            bpf.map_delete(self.fd, entry)
        except FileNotFoundError:
            return False
        _mark(page)
        return True

    def clear(self) -> None:
        """Forget everybody."""
        for entry in bpf.map_keys(self.fd, _KEY_BYTES):
            self.remove(entry)

    def forget_namespaces(self, living: Collection[int]) -> None:
        """Forget all but the sockets of these namespaces (``netns.Identity.key``)."""
        for entry in bpf.map_keys(self.fd, _KEY_BYTES):
            if _ABI.get(entry, "xg_owner_key.netns") not in living:
                self.remove(entry)

    def _changes_page(self) -> mmap:
        """Asked for before a change: one that could not be counted must not be made."""
        if self._page is None:
            self._page = bpf.map_memory(self.changes, _CHANGES_BYTES)
        return self._page


def _mark(page: mmap) -> None:
    _ABI.put(page, "xg_changes.all", int.from_bytes(os.urandom(8), "little"))


def create(entries: int = ENTRIES) -> Owners:
    """Maps that are pinned nowhere: also for a trace where none can be shared."""
    fd = bpf.map_create(_MAP_LRU_HASH, _KEY_BYTES, _VALUE_BYTES, entries, name=_MAP_NAME)
    try:
        changes = bpf.map_create(
            bpf.MAP_ARRAY, 4, _CHANGES_BYTES, 1, flags=bpf.F_MMAPABLE, name=_CHANGES_NAME
        )
    except BaseException:
        os.close(fd)
        raise
    return Owners(fd, changes)


def shared(former: Owners | None = None) -> Owners:
    """The host's maps, which are pinned if they are not. ``former``: those in use, if the pins were lost.

    ForeignError: something else is pinned there.
    """
    try:
        return _opened()
    except FileNotFoundError:
        made = create() if former is None else former.duplicate()
    try:
        with ExitStack() as undo:
            undo.callback(made.close)
            pins.make_root()
            beside = _changes_path(made.fd)
            if not beside.exists():
                _pin(made.changes, beside, undo)
            _pin(made.fd, path(), undo)
            undo.pop_all()
    except FileExistsError:  # another command was faster
        return _opened()
    return made


def _pin(fd: int, where: Path, undo: ExitStack) -> None:
    objects.obj_pin(fd, where)
    undo.callback(where.unlink, missing_ok=True)
    where.chmod(0o600)


def _changes_path(fd: int) -> Path:
    """Named by the map that it is of, so that no two maps are taken for a pair that are none."""
    return pins.FOLDER / f"{NAME}-changes-{objects.map_info(fd).id}"


def _opened() -> Owners:
    """FileNotFoundError: nothing is pinned."""
    fd = objects.obj_get(path())
    shapes = [(_MAP_LRU_HASH, _KEY_BYTES, _VALUE_BYTES), (bpf.MAP_ARRAY, 4, _CHANGES_BYTES)]
    fds = [fd]
    try:
        fds.append(objects.obj_get(_changes_path(fd)))
        infos = map(objects.map_info, fds)
        if [(info.kind, info.key_bytes, info.value_bytes) for info in infos] == shapes:
            return Owners(*fds)
    except FileNotFoundError:
        pass  # of another version, which had none
    for one in fds:
        os.close(one)
    raise ForeignError(f"{path()}: no map of owners of this version of xdpguard; remove it; nothing changed")


def exists() -> bool:
    return path().exists()


def release() -> None:
    """Unpin the map if neither a tracer nor an interface loaded with --account-owners needs it."""
    if not exists():
        return
    with lock.alone(_USED) as unused:
        if unused and not needed():
            path().unlink(missing_ok=True)
            for beside in pins.FOLDER.glob(f"{NAME}-changes-*"):
                beside.unlink(missing_ok=True)


def needed() -> bool:
    """Is an interface loaded with --account-owners?"""
    return any(place.accounted() for place in pins.places())


@contextmanager
def in_use() -> Iterator[None]:
    """Inside, ``release`` leaves the map pinned: for whoever opens it until its own pins say so."""
    with lock.shared(_USED):
        yield


@contextmanager
def keeping() -> Iterator[None]:
    """Be known as one who keeps the map, for as long as the block or the process lasts."""
    with in_use(), lock.shared(_KEPT):
        yield


def kept() -> bool:
    """Does a tracer keep the map?"""
    with lock.alone(_KEPT) as unused:
        return not unused


# ---- entries ----------------------------------------------------------------------------------------------


def key(
    netns: int,
    protocol: int,
    local: Address,
    local_port: int,
    remote: Address | None,
    remote_port: int | None,
) -> bytes:
    """struct xg_owner_key in one of the forms of owners.h. An unspecified ``local``: all addresses.

    ``netns``: ``netns.Identity.key``.
    """
    ends = b"" if remote is None else remote.packed
    family = 2 if local.version == 4 else 10  # AF_INET, AF_INET6
    return _KEY.pack(local.packed, ends, netns, local_port, remote_port or 0, family, protocol)


def value(*, start_time: int, cgroup: int | None, pid: int, uid: int, gid: int, comm: str) -> bytes:
    """struct xg_owner, found in /proc."""
    known = _ABI.numbers["XG_BY_PROCFS"]
    name = os.fsencode(comm)[:15]
    return _VALUE.pack(start_time, cgroup or 0, pid, pid, uid, gid, known, name)
