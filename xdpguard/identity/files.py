"""Reading files that others may write: bounded, regular files only, no waiting but for the file system.

A user's own directory is among what is read, so a name there may be a link to a device, a fifo or endless.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Generic, TypeVar

T = TypeVar("T")
LIMIT = 4 << 20  # bytes; an inspected container or an OCI configuration has a few thousand
NAMES = 10_000  # entries of a directory that are looked at
_PATH = re.compile(r"[^\x00\ud800-\udfff]+")
_ABSENT = (errno.ENOENT, errno.ENOTDIR)


class Notes:
    """What could not be read, as lines to show: one per source and reason, however often it happens."""

    _MOST = 64

    def __init__(self) -> None:
        self._lines: dict[tuple[str, str], str] = {}

    def add(self, source: str, reason: str, line: str) -> None:
        if len(self._lines) < self._MOST:
            self._lines.setdefault((source, reason), line)

    def lines(self) -> tuple[str, ...]:
        return tuple(self._lines.values())


def below(root: Path, path: str | None) -> Path | None:
    """An absolute path of a configuration, as seen from ``root``. None: it is none that a file can have."""
    if not path or not path.startswith("/") or not _PATH.fullmatch(path):
        return None
    return root / path.lstrip("/")


def read(path: Path, limit: int = LIMIT) -> bytes:
    """A regular file's bytes. OSError: absent, not readable, not a regular file, or larger than ``limit``."""
    place = os.open(path, os.O_PATH | os.O_CLOEXEC)  # opening a device or a fifo itself could do something
    try:
        if not stat.S_ISREG(os.fstat(place).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        with Path(f"/proc/self/fd/{place}").open("rb") as file:
            data = file.read(limit + 1)
    finally:
        os.close(place)
    if len(data) > limit:
        raise OSError(errno.EFBIG, f"larger than {limit} bytes", str(path))
    return data


def parsed(data: bytes) -> object:
    """JSON as Python data. ValueError: it is none, or nested beyond what Python follows."""
    try:
        value: object = json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return value


def read_json(path: Path, source: str, notes: Notes) -> object:
    """The file's content, None if there is none to be had; anything but its absence is noted."""
    try:
        return parsed(read(path))
    except OSError as error:
        if error.errno not in _ABSENT:
            notes.add(source, str(error.strerror), f"{source}: {path}: {error.strerror}: not used for names")
    except ValueError as error:
        notes.add(source, "JSON", f"{source}: {path}: not JSON ({error}): not used for names")
    return None


def names(directory: Path, source: str, notes: Notes) -> list[str]:
    """The first NAMES entries of a directory, sorted; none if it is absent or, noted, not readable."""
    found: list[str] = []
    try:
        with os.scandir(directory) as entries:
            for entry in entries:
                if len(found) == NAMES:
                    notes.add(
                        source, "many", f"{source}: {directory}: more than {NAMES} names: rest not read"
                    )
                    break
                found.append(entry.name)
    except OSError as error:
        if error.errno not in _ABSENT:
            notes.add(
                source, str(error.strerror), f"{source}: {directory}: {error.strerror}: not used for names"
            )
    return sorted(found)


class Cached(Generic[T]):
    """A file parsed again only when it was replaced or changed (inode, size, time)."""

    def __init__(self, path: Path, parse: Callable[[bytes], T], source: str, notes: Notes) -> None:
        self._path, self._parse, self._source, self._notes = path, parse, source, notes
        self._seen: tuple[int, int, int] | None = None
        self._value = parse(b"")

    def value(self) -> T:
        """What ``parse`` makes of the content; of nothing if the file is absent or, noted, not readable."""
        try:
            now = self._path.stat()
            seen = now.st_ino, now.st_size, now.st_mtime_ns
            if seen != self._seen:
                self._value, self._seen = self._parse(read(self._path)), seen
        except OSError as error:
            self._value, self._seen = self._parse(b""), None
            if error.errno not in _ABSENT:
                line = f"{self._source}: {self._path}: {error.strerror}: not used for names"
                self._notes.add(self._source, str(error.strerror), line)
        return self._value
