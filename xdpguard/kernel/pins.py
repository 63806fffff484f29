"""Where maps are pinned: /sys/fs/bpf/xdpguard/INODE-IFINDEX/EPOCH/NAME, folders 0700, pins 0600.

INODE is the network namespace's, EPOCH names one set of maps for ever. Pins only help to find maps: what
is in force is what the attached programs use, and lost pins are made again from there. Beside the
sets of an interface lies the folder of kernel/delivery.py, and beside all interfaces' folders the map of
kernel/owners.py. Must never remove a folder that it does not own.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from xdpguard.errors import ForeignError, KernelError, PrivilegeError, ReadError
from xdpguard.kernel import link, maps, objects

BPFFS = Path("/sys/fs/bpf")
FOLDER = BPFFS / "xdpguard"
_HOW = f"mount -t bpf bpf {BPFFS}"
_NO_ROOM = (errno.EMFILE, errno.ENFILE, errno.ENOMEM)


@dataclass(frozen=True, slots=True)
class Place:
    """One pinned set of maps."""

    inode: int
    ifindex: int
    epoch: int

    @property
    def folder(self) -> Path:
        return FOLDER / f"{self.inode}-{self.ifindex}" / f"{self.epoch:016x}"

    def accounted(self) -> bool:
        """Does the set have accounts of owners?"""
        return (self.folder / maps.ACCOUNTS).exists()


def mounted() -> bool:
    """Is a bpf file system at /sys/fs/bpf?"""
    for line in _mounts("self"):
        mount, _, source = line.partition(" - ")
        if mount.split()[4] == str(BPFFS) and source.split()[0] == "bpf":
            return True
    return False


def _mounts(process: str) -> list[str]:
    """What a process sees mounted, a line each. Paths may have any bytes."""
    return os.fsdecode(Path("/proc", process, "mountinfo").read_bytes()).split("\n")[:-1]


def ensure_mounted(say: Callable[[str], None]) -> None:
    """Mount the bpf file system where it is missing; say so."""
    if mounted():
        return
    with _mount_point():
        if mounted():
            return  # by another command, which was first
        code = _mount()
    if code == 0:
        say(f"mounted the bpf file system on {BPFFS}{_if_private()}")
        return
    message = (
        f"no bpf file system on {BPFFS} and mounting it failed: {os.strerror(code)} ({_HOW}); nothing changed"
    )
    raise PrivilegeError(message) if code in (errno.EPERM, errno.EACCES) else KernelError(message)


@contextmanager
def _mount_point() -> Iterator[None]:
    """Inside, no other command of ours mounts there: the folder itself is locked. Not if there is none."""
    try:
        folder = os.open(BPFFS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        yield  # mounting will tell why
        return
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _mount() -> int:
    """0, or the errno."""
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.mount(b"bpf", str(BPFFS).encode(), b"bpf", 0, b"mode=0700")
    return 0 if done == 0 else ctypes.get_errno()


def _if_private() -> str:
    """What to know of a new mount that the first process does not see. Nothing is said where it is closed to
    us what that sees.
    """
    try:
        if Path("/proc/self/ns/mnt").samefile("/proc/1/ns/mnt"):
            return ""
        device = BPFFS.stat().st_dev
        number = f"{os.major(device)}:{os.minor(device)}"
        if any(line.split()[2] == number for line in _mounts("1")):
            return ""  # mounts here come there too
    except OSError:
        return ""
    return (
        ", in this mount namespace only: the pins are seen nowhere else and are lost with it (verdicts go "
        f"on); run {_HOW} on the host before, and instead of `ip netns exec` give --netns NAME"
    )


def _check_owner(folder: Path) -> None:
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        raise ForeignError(
            f"{folder}: must be a folder of the caller, writable by nobody else; nothing changed"
        )


def make_folders(innermost: Path) -> None:
    """A folder of an interface's folder, and those above it. ForeignError: others may write one of them."""
    make_root()
    for folder in (innermost.parent, innermost):
        folder.mkdir(mode=0o700, exist_ok=True)
        _check_owner(folder)


def make_root() -> None:
    """The folder of all that is pinned. ForeignError: others may write it."""
    FOLDER.mkdir(mode=0o700, exist_ok=True)
    _check_owner(FOLDER)


def pin(place: Place, found: maps.MapSet) -> None:
    """Pin every map of a set that is not pinned yet."""
    make_folders(place.folder)
    for name in (*maps.NAMES, maps.ACCOUNTS):
        path = place.folder / name
        if name in found.fds and not path.exists():
            objects.obj_pin(found.fds[name], path)
            path.chmod(0o600)


def open_set(place: Place) -> maps.MapSet | None:
    """The maps pinned there; None if some are missing or are not ours.

    PermissionError, ReadError: they are there, but cannot be opened.
    """
    fds = _open(place)
    if not fds.keys() >= set(maps.NAMES):
        for fd in fds.values():
            os.close(fd)
        return None
    try:
        return maps.MapSet(fds)
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise _unreadable(place, error) from error
        return None
    except (ValueError, ForeignError):
        return None


def _open(place: Place) -> dict[str, int]:
    """Those that are there, by name."""
    fds: dict[str, int] = {}
    try:
        for name in (*maps.NAMES, maps.ACCOUNTS) if place.accounted() else maps.NAMES:
            path = place.folder / name
            try:
                fds[name] = objects.map_get(path)
            except (FileNotFoundError, NotADirectoryError):
                continue
            except PermissionError as error:  # also of what is no pin
                if stat.S_ISREG(path.lstat().st_mode):
                    error.filename = str(path)
                    raise
    except OSError as error:
        for fd in fds.values():
            os.close(fd)
        if isinstance(error, PermissionError):
            raise
        raise _unreadable(place, error) from error
    return fds


def _unreadable(place: Place, error: OSError) -> ReadError:
    return link.unreadable(f"the pins in {place.folder}", error)


def map_ids(place: Place) -> set[int]:
    """Of the maps that are pinned there, ours or not."""
    fds = _open(place)
    try:
        return {objects.map_info(fd).id for fd in fds.values()}
    finally:
        for fd in fds.values():
            os.close(fd)


def places() -> Iterator[Place]:
    """Every pinned set. Folders that are not named like ours are passed over."""
    for folder in (inner for outer in listed(FOLDER) for inner in listed(outer)):
        inode, _, ifindex = folder.parent.name.partition("-")
        try:
            place = Place(int(inode), int(ifindex), int(folder.name, 16))
        except ValueError:
            continue
        if place.folder == folder:
            yield place


def listed(folder: Path) -> list[Path]:
    """What is in a folder, sorted; nothing if it is none, if another command removes it meanwhile, or if the
    caller may not read it, who is told so where a map is opened.
    """
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError, PermissionError):
        return []


def of(inode: int, ifindex: int) -> list[Place]:
    """Every pinned set of one interface."""
    return [place for place in places() if (place.inode, place.ifindex) == (inode, ifindex)]


def remove(place: Place) -> None:
    """Unpin a set. What is already gone is fine."""
    for name in (*maps.NAMES, maps.ACCOUNTS):
        (place.folder / name).unlink(missing_ok=True)
    for folder in (place.folder, place.folder.parent):
        try:
            folder.rmdir()
        except OSError:
            return  # missing, or another set is pinned beside it
