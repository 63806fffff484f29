"""Network namespaces: run a function inside a named one, and say which one the current thread is in.

Owns setns(2) and /run/netns. setns changes the calling thread only, and ``inside`` always brings it back. A
helper thread would do too, but Python raises Ctrl-C in the main thread alone: the work would go on unheard,
where it has to undo itself. A socket belongs to the namespace of the thread that opens it and stays there; a
program fd in a netlink message means the fd table of this process. Must never use ``ip netns exec``, which
hides the bpf file system behind a new mount namespace.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from xdpguard.errors import KernelError, NotLoadedError, PrivilegeError

FOLDER = Path("/run/netns")
CURRENT = Path("/proc/thread-self/ns/net")
_CLONE_NEWNET = 0x40000000  # uapi/linux/sched.h
_MOUNTED = re.compile(rb"\S+ \S+ \S+ net:\[(\d+)\] .* - nsfs ")
_SO_NETNS_COOKIE = 71  # uapi/asm-generic/socket.h, Linux 5.14

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Identity:
    """Which namespace this is: device and inode of its nsfs file, and the kernel's cookie.

    The cookie is 0 where the kernel has none (before 5.14). Inodes are used again after a namespace is
    gone, cookies are not.
    """

    device: int
    inode: int
    cookie: int

    @property
    def key(self) -> int:
        """What the map of socket owners names it by: the cookie where there is one."""
        return self.cookie or self.inode


def inside(name: str | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``function`` in the namespace /run/netns/``name``; None: in the caller's own. Return its result.

    Raises NotLoadedError when there is no such namespace, PrivilegeError without CAP_SYS_ADMIN, and whatever
    the function raises.
    """
    if name is None:
        return function(*args, **kwargs)
    with _opened(CURRENT) as home, _opened(_path(name), name) as target:
        enter(target, name)
        try:
            return function(*args, **kwargs)
        finally:
            enter(home, "of the caller")


def _path(name: str) -> Path:
    path = FOLDER / name
    if "/" not in name and name not in ("", ".", ".."):
        try:
            path.stat()
            return path
        except (OSError, ValueError):  # missing, or no file name at all: too long, with a NUL
            pass
    raise _missing(name)


def _missing(name: str) -> NotLoadedError:
    return NotLoadedError(f"no such network namespace: {name} (ip netns list shows them); nothing changed")


@contextmanager
def _opened(path: Path, name: str | None = None) -> Iterator[int]:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        if name is not None and isinstance(error, FileNotFoundError):
            raise _missing(name) from error  # deleted since it was looked for
        kind = PrivilegeError if isinstance(error, PermissionError) else KernelError
        raise kind(f"network namespace {path}: cannot open it: {error.strerror}; nothing changed") from error
    try:
        yield opened
    finally:
        os.close(opened)


def enter(namespace: int, name: str) -> None:
    """Bring the calling thread into an open namespace, for good; ``name`` is for the message.

    Raises NotLoadedError: not a network namespace; PrivilegeError; KernelError.
    """
    # os.setns exists from Python 3.12 on only.
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.setns(namespace, _CLONE_NEWNET) == 0:
        return
    code = ctypes.get_errno()
    if code == errno.EINVAL:
        raise NotLoadedError(
            f"{FOLDER / name} is not a network namespace (a leftover file?); nothing changed"
        )
    if code == errno.EPERM:
        raise PrivilegeError(f"network namespace {name}: entering it needs CAP_SYS_ADMIN; nothing changed")
    raise KernelError(f"network namespace {name}: cannot enter it: {os.strerror(code)}; nothing changed")


def identity() -> Identity:
    """The namespace that the current thread is in. KernelError: there is no /proc."""
    try:
        status = CURRENT.stat()
    except OSError as error:
        raise KernelError(f"{CURRENT}: {error.strerror}: /proc is needed; nothing changed") from error
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            cookie = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder)
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            cookie = 0
    return Identity(status.st_dev, status.st_ino, cookie)


def first() -> int | None:
    """The inode of the namespace of the first process: the host's, or the container's; None: closed to us."""
    try:
        return Path("/proc/1/ns/net").stat().st_ino
    except OSError:
        return None


def living() -> set[int]:
    """Inodes of the namespaces that a name, a mount or a process tells of, as far as the caller sees these.

    Others may live: those of other mount and pid namespaces, of processes that may not be looked into, and
    those that only an open file keeps.
    """
    found = {*names(), *_mounted()}
    for entry in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(entry.stat().st_ino)
        except OSError:
            continue  # the process is gone
    return found


def _mounted() -> Iterator[int]:
    """Of those that a mount on a file keeps, wherever it is."""
    for line in Path("/proc/self/mountinfo").read_bytes().splitlines():
        found = _MOUNTED.match(line)
        if found:
            yield int(found[1])


def names() -> dict[int, str]:
    """Inode -> name of every namespace in /run/netns; of several names the first in sorted order."""
    found: dict[int, str] = {}
    device = CURRENT.stat().st_dev
    try:
        entries = sorted(FOLDER.iterdir())
    except FileNotFoundError:
        return found  # the first "ip netns add" makes the folder
    for entry in entries:
        try:
            status = entry.stat()
        except FileNotFoundError:
            continue  # deleted meanwhile
        # A file left over from an unmounted namespace has an inode number of another file system.
        if status.st_dev == device:
            found.setdefault(status.st_ino, entry.name)
    return found
