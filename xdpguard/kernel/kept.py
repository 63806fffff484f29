"""Files that are believed only where nobody else can have written them.

Owns their frame, whose digest tells damage, and the folder of those that spare work: what cannot be kept
there is made again each time, which is only slower. Files that must outlive a power cut are written by
``write_lasting``, wherever their owner wants them. Must never know what the files hold.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

FOLDER = Path("/var/cache/xdpguard")
_DIGEST_BYTES = hashlib.sha256().digest_size
_LENGTH_BYTES = 4
_UNFINISHED = "unfinished-"
_ABANDONED = 3600
"""A temporary file is finished, or left by a process that died, after so many seconds."""


class Distrusted(Exception):
    """Why a file is not used. ``there``: false if there is none."""

    def __init__(self, path: Path, why: str, *, there: bool = True) -> None:
        self.path, self.why, self.there = path, why, there
        super().__init__(f"{path}: {why}: not used")


def read(path: Path, most: int) -> memoryview:
    """What was written under this name, at most ``most`` bytes. Raises Distrusted."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        there = not isinstance(error, FileNotFoundError)
        raise Distrusted(path, f"cannot be read: {error.strerror}", there=there) from None
    try:
        status = os.fstat(handle)
        why = _distrust(path.parent.stat()) or _distrust(status, stat.S_ISREG)
        room = min(most + _DIGEST_BYTES, status.st_size) + 1  # as much is allocated before anything is read
        with open(handle, "rb", closefd=False) as file:
            data = memoryview(b"" if why else file.read(room))
    except OSError as error:
        raise Distrusted(path, f"cannot be read: {error.strerror}") from None
    finally:
        os.close(handle)
    content, digest = data[_DIGEST_BYTES:], data[:_DIGEST_BYTES]
    if not why and len(content) > most:
        why = f"is larger than {most} bytes"
    if not why and hashlib.sha256(content).digest() != digest:
        why = "is damaged"
    if why:
        raise Distrusted(path, why)
    return content


def _distrust(status: os.stat_result, kind: Callable[[int], bool] = stat.S_ISDIR) -> str:
    if status.st_uid != os.geteuid():
        return f"it, or its folder, is of user {status.st_uid}"
    if status.st_mode & 0o022:
        return f"it, or its folder, can be written by others (mode {stat.S_IMODE(status.st_mode):04o})"
    if not kind(status.st_mode):
        return "is not a folder" if kind is stat.S_ISDIR else "is not a regular file"
    return ""


def write(path: Path, *parts: bytes | memoryview) -> None:
    """Keep these parts, joined, if the folder can be had: the file is whole or not there."""
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write(path, parts, lasting=False)


def write_lasting(path: Path, *parts: bytes | memoryview) -> None:
    """The same, in a folder that is there, and on the disk when it returns. OSError: it cannot be kept."""
    _write(path, parts, lasting=True)
    sync(path.parent)


def make_folder(folder: Path, top: Path) -> None:
    """A folder at or below ``top`` and those between, on the disk when it returns.

    OSError: it cannot be made. Distrusted: one of them is not the caller's alone.
    """
    if folder != top:
        make_folder(folder.parent, top)
    try:
        folder.mkdir(mode=0o700, parents=folder == top)
    except FileExistsError:
        check_folder(folder)
    else:
        sync(folder.parent)


def check_folder(folder: Path) -> None:
    """Distrusted: it is not a folder, or not the caller's alone. OSError: it is not there."""
    why = _distrust(folder.stat())
    if why:
        raise Distrusted(folder, why)


def sync(folder: Path) -> None:
    """The names in a folder are on the disk when it returns."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _write(path: Path, parts: Sequence[bytes | memoryview], *, lasting: bool) -> None:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=_UNFINISHED, delete=False) as file:
        try:
            file.writelines((digest.digest(), *parts))
            file.flush()
            if lasting:
                os.fsync(file.fileno())
            Path(file.name).rename(path)
        except BaseException:
            Path(file.name).unlink()
            raise


def headed(head: object, *parts: bytes | memoryview) -> list[bytes | memoryview]:
    """Parts of a file that begins with a JSON document: its length, the document, then ``parts``."""
    data = json.dumps(head).encode()
    return [len(data).to_bytes(_LENGTH_BYTES, "little"), data, *parts]


def parted(data: memoryview) -> tuple[Any, memoryview]:
    """The document, and all that follows it. ValueError: it is not what ``headed`` makes."""
    at = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    return json.loads(bytes(data[_LENGTH_BYTES:at])), data[at:]


def is_unfinished(path: Path) -> bool:
    """Was it being written? If nobody writes now, who did so is dead."""
    return path.name.startswith(_UNFINISHED)


def renew(path: Path) -> None:
    """It counts as the newest for ``trim``."""
    with contextlib.suppress(OSError):
        os.utime(path)


def trim(suffix: str, files: int, most: int) -> None:
    """Of the files whose names end so, leave the newest: at most ``files``, of ``most`` bytes together."""
    found = sorted(_entries(), key=lambda entry: entry[1].st_mtime, reverse=True)
    for path, status in found:
        if is_unfinished(path):
            gone = status.st_mtime < time.time() - _ABANDONED
        elif path.name.endswith(suffix):
            files, most = files - 1, most - status.st_size
            gone = files < 0 or most < 0
        else:
            continue
        if gone:
            with contextlib.suppress(OSError):
                path.unlink()


def _entries() -> Iterator[tuple[Path, os.stat_result]]:
    with contextlib.suppress(OSError):
        for path in FOLDER.iterdir():
            with contextlib.suppress(FileNotFoundError):
                yield path, path.lstat()
