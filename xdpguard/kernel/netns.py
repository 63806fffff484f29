"""Network namespaces: run a function inside a named one, and say which one the current thread is in.

Owns setns(2) and /run/netns. A socket belongs to the namespace of the thread that opens it and stays there,
and a program fd in a netlink message means the sender's own fd table; so all work for a namespace happens
in one short-lived thread of this process that has entered it. Must never change the namespace of the
calling thread, and never use ``ip netns exec``, which hides the bpf file system behind a new mount
namespace.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, ParamSpec, TypeVar

from xdpguard.errors import KernelError, NotLoadedError, PrivilegeError

FOLDER = Path("/run/netns")
_CURRENT = Path("/proc/thread-self/ns/net")
_CLONE_NEWNET = 0x40000000  # uapi/linux/sched.h
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


class _Outcome(Generic[R]):
    """What a function running in another thread came to."""

    def __init__(self) -> None:
        self.result: list[R] = []
        self.error: BaseException | None = None


def inside(name: str | None, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call ``function`` in the namespace /run/netns/``name``; None: in the caller's own. Return its result.

    Exceptions arrive as they were raised, traceback included. An exception that interrupts the wait
    (Ctrl-C) is raised inside the function, and the wait goes on until the function has cleaned up. Raises
    NotLoadedError when there is no such namespace, PrivilegeError without CAP_SYS_ADMIN.
    """
    if name is None:
        return function(*args, **kwargs)
    namespace = _open(name)
    outcome: _Outcome[R] = _Outcome()

    def work() -> None:
        try:
            _enter(namespace, name)
            outcome.result.append(function(*args, **kwargs))
        except BaseException as error:
            outcome.error = error

    try:
        _run(work, outcome)
    finally:
        os.close(namespace)
    return outcome.result[0]


def _run(work: Callable[[], None], outcome: _Outcome[R]) -> None:
    thread = threading.Thread(target=work, name="netns")
    thread.start()
    interruption: BaseException | None = None
    while thread.is_alive():
        try:
            thread.join()
        except BaseException as error:
            # Signals reach the main thread only; the function must hear of the first one and nothing may
            # return while it still works. Later ones wait, so that its clean-up runs whole.
            if interruption is None:
                interruption = error
                _raise_in(thread, type(error))
    if interruption is not None and (outcome.error is None or type(outcome.error) is type(interruption)):
        raise interruption
    if outcome.error is not None:
        raise outcome.error


def _raise_in(thread: threading.Thread, kind: type[BaseException]) -> None:
    if thread.ident is not None:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), ctypes.py_object(kind))


def _open(name: str) -> int:
    missing = NotLoadedError(f"no such network namespace: {name} (ip netns list shows them); nothing changed")
    if "/" in name or "\0" in name or name in ("", ".", ".."):
        raise missing
    try:
        return os.open(FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError as error:
        raise PrivilegeError(f"network namespace {name}: may not be opened; root is needed") from error
    except OSError as error:
        raise missing from error


def _enter(namespace: int, name: str) -> None:
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
    """The namespace that the current thread is in."""
    status = _CURRENT.stat()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as probe:
        try:
            cookie = int.from_bytes(probe.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), "little")
        except OSError as error:
            if error.errno != errno.ENOPROTOOPT:
                raise
            cookie = 0
    return Identity(status.st_dev, status.st_ino, cookie)


def names() -> dict[int, str]:
    """Inode -> name of every namespace in /run/netns; of several names the first in sorted order."""
    found: dict[int, str] = {}
    device = _CURRENT.stat().st_dev
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
