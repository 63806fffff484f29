"""One lock per interface, so that two commands never change the same interface at once.

Owns /run/xdpguard. The lock is flock(2) on a file named after namespace and interface; the kernel drops it
with its holder, so a dead process leaves none behind. The file's text names the holder for the one who
waits. The files stay until /run is emptied at boot. Commands that see another /run, as in a container with
the host's network, do not see these locks.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from xdpguard.errors import KernelError, PrivilegeError
from xdpguard.kernel import netns
from xdpguard.kernel.link import Link

FOLDER = Path("/run/xdpguard")
WAIT_SECONDS = 5.0
_POLL_SECONDS = 0.02
_TEXT_BYTES = 200


@contextmanager
def held(
    links: Iterable[Link], command: str, *, wait: float = WAIT_SECONDS, folder: Path = FOLDER
) -> Iterator[None]:
    """Hold the locks of these interfaces of the current thread's namespace.

    ``command``: how a waiting one will call us ("xdpguard load"). They are taken in the order of their
    indexes, so that two commands cannot wait for each other; ``wait`` is in seconds and counts for all of
    them. Raises KernelError when another holder does not let go in time, PrivilegeError without root.
    """
    deadline = time.monotonic() + wait
    inode = netns.identity().inode
    with ExitStack() as stack:
        directory = _open_folder(folder)
        stack.callback(os.close, directory)
        for ifindex, name in sorted({(link.ifindex, link.name) for link in links}):
            file = _locked(directory, folder, f"{inode}-{ifindex}.lock", name, wait, deadline)
            stack.callback(os.close, file)  # closing also unlocks
            stack.callback(_tell, file, "")
            _tell(file, f"{os.getpid()} {command}\n")
        yield


@contextmanager
def shared(name: str, folder: Path = FOLDER) -> Iterator[None]:
    """Hold a lock that several may hold at once: a sign for ``alone``, gone with its holder.

    Raises KernelError or PrivilegeError as ``held`` does.
    """
    directory = _open_folder(folder)
    try:
        file = _open_file(directory, folder, f"{name}.lock")
    finally:
        os.close(directory)
    try:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield
    finally:
        os.close(file)


@contextmanager
def alone(name: str, folder: Path = FOLDER) -> Iterator[bool]:
    """Inside, nobody can begin to hold it. False: somebody does. True also where nobody ever did."""
    try:
        file = os.open(folder / f"{name}.lock", os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield True
        return
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        yield False
        return
    try:
        yield True
    finally:
        os.close(file)


def _open_folder(folder: Path) -> int:
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        directory = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except PermissionError as error:
        raise PrivilegeError(f"{folder}: {error.strerror}; run as root; nothing changed") from error
    except OSError as error:
        raise KernelError(f"{folder}: cannot keep locks there: {error.strerror}; nothing changed") from error
    status = os.fstat(directory)
    if status.st_uid != os.geteuid() or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        os.close(directory)
        raise PrivilegeError(
            f"{folder}: must belong to the caller and be writable by nobody else (mode 0700): run as root; "
            "nothing changed"
        )
    return directory


def _open_file(directory: int, folder: Path, name: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(name, flags, 0o600, dir_fd=directory)
    except OSError as error:
        message = f"{folder / name}: cannot open the lock file: {error.strerror}; nothing changed"
        raise KernelError(message) from error


def _locked(directory: int, folder: Path, name: str, interface: str, wait: float, deadline: float) -> int:
    """The file, locked, and still the one of that name: whoever empties /run parts those who wait from those
    who come.
    """
    while True:
        file = _open_file(directory, folder, name)
        try:
            _acquire(file, interface, wait, deadline)
            if _is_named(file, directory, name):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _is_named(file: int, directory: int, name: str) -> bool:
    try:
        there = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(file), there)


def _tell(file: int, text: str) -> None:
    """Who holds it. A full /run must not keep anybody from a confirmation: then nobody is named."""
    with suppress(OSError):
        os.ftruncate(file, 0)
        os.pwrite(file, text.encode(), 0)


def _acquire(file: int, interface: str, wait: float, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            left = deadline - time.monotonic()
            if left <= 0:
                message = f"{_holder(file)} holds the lock of {interface}; waited {wait:g} s; nothing changed"
                raise KernelError(message) from None
            time.sleep(min(_POLL_SECONDS, left))


def _holder(file: int) -> str:
    pid, _, command = os.pread(file, _TEXT_BYTES, 0).decode(errors="replace").strip().partition(" ")
    # Between locking and writing the file is empty.
    return f"{command} (pid {pid})" if pid and command else "another xdpguard command"
