"""Every call by which a command changes the kernel, the maps or the bpf file system, and what each can
answer.

Owns the wrappers around the product's lowest call sites, installed in a child process alone: the bpf(2)
system call, netlink, the file calls and mmap. A call is named as it begins, in order, so a new call of the
product is in every count by itself. Nothing here decides what is right.
"""

from __future__ import annotations

import ctypes
import errno
import os
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

BPF_CHANGES = {
    0: "create map", 2: "update map", 3: "delete element", 5: "load program", 6: "pin",
    17: "open tracepoint", 35: "bind map",
}  # fmt: skip
BPF_READS = {
    1: "read element", 4: "next key", 7: "open pin", 10: "test run", 13: "program by id", 14: "map by id",
    15: "ask for info", 16: "ask for programs",
}  # fmt: skip

ERRNOS: dict[str, tuple[str, ...]] = {
    "create map": ("EPERM", "ENOMEM", "EINVAL", "E2BIG", "EMFILE"),
    "update map": ("EPERM", "ENOMEM", "EINVAL", "E2BIG", "EBUSY", "EEXIST", "ENOSPC", "EAGAIN"),
    "delete element": ("EPERM", "ENOMEM", "EINVAL", "ENOENT", "EBUSY"),
    "load program": ("EPERM", "ENOMEM", "EINVAL", "E2BIG", "EACCES", "EAGAIN", "ENOSPC", "EMFILE"),
    "pin": ("EPERM", "ENOMEM", "EINVAL", "EEXIST", "ENOSPC", "EACCES", "ENOENT"),
    "open tracepoint": ("EPERM", "ENOMEM", "EINVAL", "ENOENT", "EACCES", "E2BIG", "EMFILE"),
    "bind map": ("EPERM", "ENOMEM", "EINVAL", "EEXIST"),
    "read element": ("EPERM", "ENOMEM", "ENOENT"),
    "next key": ("EPERM", "ENOMEM"),  # ENOENT is the end of the list
    "open pin": ("EPERM", "ENOMEM", "ENOENT", "EACCES", "EMFILE"),
    "test run": ("EPERM", "ENOMEM", "EINVAL", "ENOTSUPP"),
    "program by id": ("EPERM", "ENOENT", "EMFILE", "ENOMEM"),
    "map by id": ("EPERM", "ENOENT", "EMFILE", "ENOMEM"),
    "ask for info": ("EPERM", "EINVAL", "E2BIG", "ENOMEM"),
    "ask for programs": ("EPERM", "EINVAL", "ENOMEM", "ENOSPC"),
    "set xdp": ("EPERM", "ENOMEM", "EBUSY", "EEXIST", "EINVAL", "EOPNOTSUPP", "ENOBUFS", "EAGAIN"),
    "tc add clsact": ("EPERM", "ENOMEM", "EBUSY", "EEXIST", "EINVAL", "EOPNOTSUPP", "ENOBUFS"),
    "tc del clsact": ("EPERM", "ENOMEM", "EBUSY", "EINVAL", "ENOENT", "ENOBUFS"),
    "tc add-filter bpf": ("EPERM", "ENOMEM", "EBUSY", "EEXIST", "EINVAL", "ENOSPC", "EAGAIN"),
    "tc change-filter bpf": ("EPERM", "ENOMEM", "EBUSY", "EINVAL", "ENOENT", "ENOSPC", "EAGAIN"),
    "tc del-filter bpf": ("EPERM", "ENOMEM", "EBUSY", "EINVAL", "ENOENT", "EAGAIN"),
    "netlink read": ("EPERM", "ENOMEM", "ENOBUFS", "EINTR", "EBUSY"),
    "map memory": ("EPERM", "ENOMEM", "EACCES", "EAGAIN"),
    "mkdir": ("EPERM", "ENOMEM", "ENOSPC", "EACCES", "EROFS", "EEXIST"),
    "rmdir": ("EPERM", "ENOMEM", "EBUSY", "ENOTEMPTY", "EROFS"),
    "unlink": ("EPERM", "ENOMEM", "EBUSY", "EACCES", "EROFS", "ENOENT"),
    "chmod": ("EPERM", "ENOMEM", "EROFS"),
    "rename": ("EPERM", "ENOMEM", "ENOSPC", "EACCES", "EROFS"),
    "symlink": ("EPERM", "ENOMEM", "ENOSPC", "EACCES", "EROFS", "EEXIST"),
    "fsync": ("EIO", "ENOSPC"),
    "open lock": ("EPERM", "ENOMEM", "ENOSPC", "EACCES", "EROFS", "EMFILE"),
    "write lock": ("EPERM", "ENOSPC", "EINVAL"),
}
"""Call -> the errors that the kernel can give it (uapi/asm/errno.h). Those of no entry are memory stores."""

READS = frozenset({*BPF_READS.values(), "netlink read", "map memory"})
"""What changes nothing: made to fail, but not a place to be killed at."""

_FILES = {"mkdir": "mkdir", "rmdir": "rmdir", "unlink": "unlink", "chmod": "chmod", "rename": "rename"}
_LOCK_CALLS = ("ftruncate", "pwrite")
_ENOTSUPP = 524  # of the kernel alone: no libc knows it


def number_of(name: str) -> int:
    return _ENOTSUPP if name == "ENOTSUPP" else int(getattr(errno, name))


@dataclass(frozen=True, slots=True)
class Harm:
    """What happens at the ``at``-th call of a name (from 1; 0: nothing): SIGKILL or an error.

    By name, since reads come and go with what else is on the host.
    """

    name: str = ""
    at: int = 0
    act: str = ""  # "kill before" | "kill after" | "fail"
    error: int = 0


class Calls:
    """``tell`` hears the name of every call before it is made."""

    def __init__(self, harm: Harm, tell: Callable[[str], None]) -> None:
        self._harm, self._tell = harm, tell
        self._made: Counter[str] = Counter()

    def step(self, name: str, call: Callable[[], Any], fail: Callable[[int], Any]) -> Any:
        self._made[name] += 1
        mine = (name, self._made[name]) == (self._harm.name, self._harm.at)
        if mine and self._harm.act == "kill before":
            os.kill(os.getpid(), signal.SIGKILL)
        self._tell(name)
        if mine and self._harm.act == "fail":
            if (name, self._harm.error) == ("unlink", errno.ENOENT):
                call()  # another was faster: no name is there and yet gone
            return fail(self._harm.error)
        try:
            return call()
        finally:  # also where it fails by itself, as mkdir does where a folder is
            if mine and self._harm.act == "kill after":
                os.kill(os.getpid(), signal.SIGKILL)

    def wrap(self, owner: Any, attribute: str, name: Callable[..., str | None]) -> None:
        """Count the calls of a function that fails by OSError. A name of None: not counted."""
        original = getattr(owner, attribute)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            called = name(*arguments, **options)
            if called is None:
                return original(*arguments, **options)
            return self.step(called, lambda: original(*arguments, **options), refuse)

        setattr(owner, attribute, wrapped)

    def install(self, folders: tuple[str, ...]) -> None:
        """In this process, for good. ``folders``: where file calls are counted."""
        from xdpguard.kernel import bpf, netlink

        bpf._libc = _Libc(bpf._libc, self)  # type: ignore[assignment]
        netlink.session = self._session(netlink.session)
        self.wrap(netlink, "request", lambda *_, **__: "netlink read")
        self.wrap(bpf, "map_memory", lambda *_, **__: "map memory")
        for attribute, name in _FILES.items():
            self.wrap(os, attribute, lambda path, *_, name=name, **__: name if _in(path, folders) else None)
        self.wrap(os, "symlink", lambda _, path, *__, **___: "symlink" if _in(path, folders) else None)
        self.wrap(os, "fsync", lambda *_: "fsync")
        self.wrap(os, "open", _names_lock)
        for attribute in _LOCK_CALLS:
            self.wrap(os, attribute, lambda *_: "write lock")
        self._install_stores()

    def _install_stores(self) -> None:
        """Memory that the programs or the next command read. Nothing can refuse these."""
        from xdpguard.generation import slots
        from xdpguard.kernel import counters, delivery, maps

        self.wrap(maps.Control, "_store", lambda _, field, value: f"store {field}")
        self.wrap(maps.Control, "put", lambda _, field, value: f"put {field}")
        self.wrap(slots, "clear", lambda *_: "clear slot")
        self.wrap(slots, "write", lambda *_: "write slot")
        self.wrap(counters, "zero", lambda *_: "zero counters")
        self.wrap(delivery, "_store", lambda *_: "store delivery")

    def _session(self, original: Callable[[], Any]) -> Callable[[], Any]:
        @contextmanager
        def session() -> Iterator[Any]:
            with original() as opened:
                yield _Session(opened, self)

        return session


def refuse(number: int) -> Any:
    raise OSError(number, os.strerror(number))


def _in(path: object, folders: tuple[str, ...]) -> bool:
    return isinstance(path, str | os.PathLike) and str(path).startswith(folders)


def _names_lock(path: object, *_: object, **__: object) -> str | None:
    return "open lock" if str(path).endswith(".lock") else None


class _Libc:
    """In the place of ctypes' libc in kernel/bpf.py, which uses ``syscall`` for bpf(2) and nothing else."""

    def __init__(self, libc: Any, calls: Calls) -> None:
        self._libc, self._calls = libc, calls

    def syscall(self, number: int, command: int, *rest: Any) -> int:
        def fail(error: int) -> int:
            ctypes.set_errno(error)
            return -1

        name = BPF_CHANGES.get(command) or BPF_READS.get(command) or f"bpf command {command}"
        result: int = self._calls.step(name, lambda: self._libc.syscall(number, command, *rest), fail)
        return result


class _Session:
    """In the place of a pyroute2 socket: the two requests of it that the product uses."""

    def __init__(self, opened: Any, calls: Calls) -> None:
        self._opened, self._calls = opened, calls

    def tc(self, command: str, kind: str, **settings: Any) -> Any:
        return self._step(f"tc {command} {kind}", lambda: self._opened.tc(command, kind, **settings))

    def link(self, command: str, **settings: Any) -> Any:
        return self._step(
            f"{command} {'xdp' if 'xdp' in settings else 'link'}",
            lambda: self._opened.link(command, **settings),
        )

    def _step(self, name: str, call: Callable[[], Any]) -> Any:
        return self._calls.step(name, call, _netlink_error)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._opened, name)


def _netlink_error(number: int) -> Any:
    from pyroute2 import NetlinkError

    raise NetlinkError(number, os.strerror(number))
