"""The bpf(2) system call, and its commands that make maps and programs and read and write maps.

Owns the layout of ``union bpf_attr`` (uapi/linux/bpf.h) and nothing else: no paths, no policy, no printing.
Every function raises ``OSError`` with the kernel's errno; the callers turn it into a sentence. Attributes are
zeroed to their end, since the kernel refuses unknown non-zero bytes with E2BIG.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import platform
import resource
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_SYSCALL = {"x86_64": 321, "aarch64": 280, "riscv64": 280, "s390x": 351, "ppc64le": 361}

_MAP_CREATE, _MAP_LOOKUP, _MAP_UPDATE, _MAP_DELETE, _MAP_NEXT_KEY = 0, 1, 2, 3, 4
_PROG_LOAD = 5

# enum bpf_map_type and bpf_prog_type
MAP_HASH, MAP_ARRAY, MAP_PERCPU_ARRAY, MAP_LRU_HASH, MAP_LPM_TRIE = 1, 2, 6, 9, 11
MAP_ARRAY_OF_MAPS, MAP_DEVMAP_HASH, MAP_RINGBUF = 12, 25, 27
PROG_KPROBE, PROG_SCHED_CLS, PROG_TRACEPOINT, PROG_XDP, PROG_RAW_TRACEPOINT = 2, 3, 5, 6, 17

F_NO_PREALLOC = 1 << 0  # BPF_F_NO_PREALLOC
F_MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
F_XDP_HAS_FRAGS = 1 << 5  # BPF_F_XDP_HAS_FRAGS, Linux 5.18

_LOG_BYTES = 1 << 24

_libc = ctypes.CDLL(None, use_errno=True)


class VerifierError(OSError):
    """The kernel refused a program. ``log`` is the verifier's whole text."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


def call(command: int, attributes: bytearray) -> int:
    """One bpf(2) call; ``attributes`` is a whole ``union bpf_attr``. Returns the call's result."""
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"bpf(2) is not known for {platform.machine()}")
    while True:
        result: int = _libc.syscall(number, command, buffer, ctypes.c_int(len(attributes)))
        if result >= 0:
            return result
        code = ctypes.get_errno()
        # The verifier gives EAGAIN when a signal interrupts it; libbpf tries again too.
        if code != errno.EAGAIN or command != _PROG_LOAD:
            raise OSError(code, os.strerror(code))


@cache
def _raise_memlock() -> None:
    """Before Linux 5.11 maps and programs count against RLIMIT_MEMLOCK, and the refusal is EPERM.

    Where the limit cannot be raised, the refusal comes with the map or program.
    """
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (ValueError, OSError):
        return


def map_create(
    kind: int,
    key_bytes: int,
    value_bytes: int,
    entries: int,
    *,
    flags: int = 0,
    inner: int = 0,
    name: str = "",
) -> int:
    """Create a map; return its fd. ``inner`` is the template's fd of a map of maps."""
    _raise_memlock()
    attributes = bytearray(72)
    struct.pack_into(
        "=IIIIIII16s", attributes, 0,
        kind, key_bytes, value_bytes, entries, flags, inner, 0, name.encode()[:15],
    )  # fmt: skip
    return call(_MAP_CREATE, attributes)


def _element(command: int, fd: int, key: bytes, value: bytes | bytearray, flags: int = 0) -> bytes:
    key_buffer = ctypes.create_string_buffer(key, len(key))
    value_buffer = ctypes.create_string_buffer(bytes(value), len(value))
    attributes = bytearray(32)
    struct.pack_into(
        "=IIQQQ", attributes, 0,
        fd, 0, ctypes.addressof(key_buffer), ctypes.addressof(value_buffer), flags,
    )  # fmt: skip
    call(command, attributes)
    return value_buffer.raw


def map_lookup(fd: int, key: bytes, value_bytes: int) -> bytes:
    """The value at ``key``. For a map of maps it is the inner map's id, not an fd. ENOENT: no such key."""
    return _element(_MAP_LOOKUP, fd, key, bytes(value_bytes))


def map_update(fd: int, key: bytes, value: bytes, *, flags: int = 0) -> None:
    """Set one element. For a map of maps ``value`` is the inner fd and the call waits for a grace period."""
    _element(_MAP_UPDATE, fd, key, value, flags)


def map_delete(fd: int, key: bytes) -> None:
    """Remove one key. ENOENT: no such key."""
    key_buffer = ctypes.create_string_buffer(key, len(key))
    attributes = bytearray(32)
    struct.pack_into("=IIQ", attributes, 0, fd, 0, ctypes.addressof(key_buffer))
    call(_MAP_DELETE, attributes)


def map_keys(fd: int, key_bytes: int) -> list[bytes]:
    """Every key of a hash map, in no order."""
    keys: list[bytes] = []
    current = ctypes.create_string_buffer(key_bytes)
    following = ctypes.create_string_buffer(key_bytes)
    attributes = bytearray(32)
    struct.pack_into("=IIQQQ", attributes, 0, fd, 0, 0, ctypes.addressof(following), 0)
    while True:
        try:
            call(_MAP_NEXT_KEY, attributes)
        except OSError as error:
            if error.errno == errno.ENOENT:
                return keys
            raise
        keys.append(following.raw)
        current.raw = following.raw
        struct.pack_into(
            "=IIQQQ", attributes, 0, fd, 0, ctypes.addressof(current), ctypes.addressof(following), 0
        )


def map_memory(fd: int, size: int, *, writable: bool = True) -> mmap.mmap:
    """The values of a BPF_F_MMAPABLE array as shared memory; ``size`` bytes, rounded up to whole pages."""
    pages = -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
    protection = mmap.PROT_READ | (mmap.PROT_WRITE if writable else 0)
    return mmap.mmap(fd, pages, mmap.MAP_SHARED, protection)


@dataclass(frozen=True, slots=True)
class LoadedProgram:
    fd: int
    log: str  # verifier log; empty unless asked for


def prog_load(kind: int, code: bytes, name: str, *, flags: int = 0, log_level: int = 0) -> LoadedProgram:
    """Verify and load ``code``. On refusal run again with the full log and raise VerifierError.

    ``log_level`` 4 gives only the statistics ("processed N insns").
    """
    _raise_memlock()
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")

    def attempt(level: int) -> tuple[int, str]:
        log = ctypes.create_string_buffer(_LOG_BYTES if level else 1)
        attributes = bytearray(144)
        struct.pack_into(
            "=IIQQIIQII16sII", attributes, 0,
            kind, len(code) // 8, ctypes.addressof(instructions), ctypes.addressof(licence),
            level, len(log) if level else 0, ctypes.addressof(log) if level else 0,
            0, flags, name.encode()[:15], 0, 0,
        )  # fmt: skip
        try:
            return call(_PROG_LOAD, attributes), log.value.decode(errors="replace")
        except OSError as error:
            raise VerifierError(error.errno or 0, log.value.decode(errors="replace")) from None

    try:
        return LoadedProgram(*attempt(log_level))
    except VerifierError as refused:
        if refused.errno in (errno.EPERM, errno.ENOMEM):
            raise
        return LoadedProgram(*attempt(1))  # raises again, with the log


@cache
def possible_cpus() -> int:
    """How many CPUs the kernel may ever use: the highest number in the "possible" list, plus one."""
    text = Path("/sys/devices/system/cpu/possible").read_text().strip()
    return int(text.replace(",", "-").split("-")[-1]) + 1
