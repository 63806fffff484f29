"""Reading a rule file or set file from disk, with the checks that make its bytes trustworthy.

Owns the file checks. Opens once and checks the open file, so that nothing can be swapped in between. Must
never look into the content.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from xdpguard.errors import Problem

from .report import Mark, Report

MAX_SIZE = 64 * 1024 * 1024
"""Largest rule file or set file, in bytes."""


def shown_path(path: str | os.PathLike[str]) -> str:
    """A path as it can be printed: bytes that are no text are shown as escapes."""
    name = os.fspath(path).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


class Sources:
    """The files of one command. Each is read once: what is hashed is what is parsed.

    ``held``: what they are taken to hold, whatever is on the disk; no other file is then read.
    """

    def __init__(self, held: Mapping[str, bytes] | None = None) -> None:
        self._held = dict(held or {})
        self._complete = held is not None

    def read(self, path: str | os.PathLike[str], report: Report, named: Mark | None = None) -> bytes | None:
        """As ``read_source``."""
        name = os.fspath(path)
        if name not in self._held:
            if self._complete:
                _refuse(report, path, "is not among the files that were kept", named)
                return None
            data = read_source(path, report, named)
            if data is None:
                return None
            self._held[name] = data
        return self._held[name]

    def held(self) -> dict[str, bytes]:
        """Path -> bytes of every file that was read, the rule file first."""
        return dict(self._held)

    def digests(self) -> dict[str, str]:
        """Path -> SHA-256 of every file that was read, in that order."""
        return {name: hashlib.sha256(data).hexdigest() for name, data in self._held.items()}


class Base(NamedTuple):
    """Where the files lie that a rule file names, and who reads them."""

    folder: Path
    sources: Sources


def read_source(path: str | os.PathLike[str], report: Report, named: Mark | None = None) -> bytes | None:
    """The bytes of the file, or None when the reason is in ``report``, at the place that ``named`` it."""
    try:
        # O_NONBLOCK: opening a FIFO must give the error below and not wait for a writer.
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError) as error:  # ValueError: a NUL character in the name
        why = error.strerror if isinstance(error, OSError) else str(error)
        _refuse(report, path, f"cannot be read: {why}", named)
        return None
    try:
        data, why = _read(handle)
    except OSError as error:
        data, why = b"", f"cannot be read: {error.strerror}"
    finally:
        os.close(handle)
    if why:
        _refuse(report, path, why, named)
        return None
    return data


def _read(handle: int) -> tuple[bytes, str]:
    """The content, or b"" and why it is refused. Raises OSError."""
    why = _distrust(os.fstat(handle))
    if why:
        return b"", why
    with os.fdopen(handle, "rb", closefd=False) as stream:
        data = stream.read(MAX_SIZE + 1)
    return (data, "") if len(data) <= MAX_SIZE else (b"", f"is larger than {MAX_SIZE >> 20} MiB")


def _distrust(status: os.stat_result) -> str:
    """Why the open file is refused, or "". As root, a file that others can write could hold their rules."""
    if stat.S_ISDIR(status.st_mode):
        return "is a folder, not a file"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file"
    if os.geteuid() != 0:
        return ""
    mode = stat.S_IMODE(status.st_mode)
    if mode & stat.S_IWOTH:
        return f"can be written by every user (mode {mode:04o}) and is not read as root; chmod o-w it first"
    if mode & stat.S_IWGRP and status.st_gid != 0:
        group = f"can be written by group {status.st_gid} (mode {mode:04o})"
        return f"{group} and is not read as root; chmod g-w it first"
    return ""


def _refuse(report: Report, path: str | os.PathLike[str], message: str, named: Mark | None) -> None:
    if named is None:
        report.add(Problem(shown_path(path), 0, 0, "error", message))
    else:
        report.error(named, f"{shown_path(path)} {message}")
