"""The tracing file system, read only: numbers and layouts of tracepoints.

Where it is mounted nowhere it is opened without being mounted (fsopen(2), Linux 5.2), which nobody else sees.
"""

from __future__ import annotations

import ctypes
import os
import re
from dataclasses import dataclass
from pathlib import Path

_PLACES = (Path("/sys/kernel/tracing"), Path("/sys/kernel/debug/tracing"))
# The same on all machines (asm-generic/unistd.h); uapi/linux/mount.h
_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432
_CLOEXEC, _CMD_CREATE = 1, 6

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True, slots=True)
class Tracepoint:
    """``fields``: name -> offset in what a program of this tracepoint is given."""

    id: int
    fields: dict[str, int]


class Tracefs:
    """Use in a ``with`` block. OSError: it is mounted nowhere, and cannot be opened."""

    def __init__(self) -> None:
        place = next((place for place in _PLACES if (place / "events").is_dir()), None)
        if place is not None:
            self._folder = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        else:
            self._folder = _detached()

    def __enter__(self) -> Tracefs:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._folder)

    def tracepoint(self, name: str) -> Tracepoint:
        """``"syscalls:sys_exit_accept4"``. FileNotFoundError: the kernel has none of that name."""
        folder = f"events/{name.replace(':', '/')}"
        found = re.findall(
            r"^\tfield:.*?(\w+)(?:\[.*?\])?;\toffset:(\d+);", self._read(f"{folder}/format"), re.M
        )
        return Tracepoint(int(self._read(f"{folder}/id")), {field: int(offset) for field, offset in found})

    def _read(self, path: str) -> str:
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._folder)) as file:
            return file.read()


def _detached() -> int:
    context = _call(_FSOPEN, ctypes.c_char_p(b"tracefs"), ctypes.c_uint(_CLOEXEC))
    try:
        _call(_FSCONFIG, ctypes.c_int(context), ctypes.c_uint(_CMD_CREATE), None, None, ctypes.c_int(0))
        return _call(_FSMOUNT, ctypes.c_int(context), ctypes.c_uint(_CLOEXEC), ctypes.c_uint(0))
    finally:
        os.close(context)


def _call(number: int, *arguments: object) -> int:
    result: int = _libc.syscall(ctypes.c_long(number), *arguments)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result
