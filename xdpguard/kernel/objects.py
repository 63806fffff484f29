"""Programs and maps that exist in the kernel: found by pin, by id or by interface, and what they are.

The rest of bpf(2), beside ``bpf.py``: every function raises ``OSError`` with the kernel's errno, and for an
interface that is gone NotLoadedError.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from dataclasses import dataclass
from pathlib import Path

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import bpf

_OBJ_PIN, _OBJ_GET = 6, 7
_PROG_NEXT_ID, _PROG_BY_ID, _MAP_BY_ID, _INFO_BY_FD, _PROG_QUERY, _PROG_BIND_MAP = 11, 13, 14, 15, 16, 35
_RAW_TRACEPOINT_OPEN = 17
_F_RDONLY = 1 << 3  # BPF_F_RDONLY

TCX_EGRESS = 47  # enum bpf_attach_type, Linux 6.6


def obj_pin(fd: int, path: Path) -> None:
    text = ctypes.create_string_buffer(os.fsencode(path))
    attributes = bytearray(24)
    struct.pack_into("=QII", attributes, 0, ctypes.addressof(text), fd, 0)
    bpf.call(_OBJ_PIN, attributes)


def obj_get(path: Path) -> int:
    """A new fd of a pinned map or program."""
    return _obj_get(path, 0)


def _obj_get(path: Path, flags: int) -> int:
    text = ctypes.create_string_buffer(os.fsencode(path))
    attributes = bytearray(24)
    struct.pack_into("=QII", attributes, 0, ctypes.addressof(text), 0, flags)
    return bpf.call(_OBJ_GET, attributes)


def map_get(path: Path) -> int:
    """A new fd of a pinned map, to read and write it, also where the bpf file system is mounted read-only."""
    try:
        return obj_get(path)
    except OSError as error:
        if error.errno != errno.EROFS:
            raise
    fd = _obj_get(path, _F_RDONLY)
    try:
        return map_by_id(map_info(fd).id)
    finally:
        os.close(fd)


def _by_id(command: int, number: int) -> int:
    attributes = bytearray(16)
    struct.pack_into("=III", attributes, 0, number, 0, 0)
    return bpf.call(command, attributes)


def prog_by_id(number: int) -> int:
    """A new fd of the program with this id. ENOENT: no such program."""
    return _by_id(_PROG_BY_ID, number)


def map_by_id(number: int) -> int:
    return _by_id(_MAP_BY_ID, number)


def prog_query(ifindex: int, attach_type: int) -> tuple[int, ...]:
    """Ids of the programs attached to an interface in this way; none where the kernel does not know it.

    NotLoadedError: no such interface.
    """
    ids = (ctypes.c_uint32 * 64)()
    attributes = bytearray(64)
    struct.pack_into("=IIIIQI", attributes, 0, ifindex, attach_type, 0, 0, ctypes.addressof(ids), len(ids))
    try:
        bpf.call(_PROG_QUERY, attributes)
    except OSError as error:
        if error.errno in (errno.EINVAL, errno.ENOENT):
            return ()
        if error.errno == errno.ENODEV:
            raise NotLoadedError(f"no such interface: index {ifindex}; nothing changed") from error
        raise
    (count,) = struct.unpack_from("=I", attributes, 24)
    return tuple(ids[:count])


def prog_bind_map(program: int, table: int) -> None:
    """Tie a map's lifetime to a program that does not itself use it (Linux 5.10)."""
    attributes = bytearray(16)
    struct.pack_into("=III", attributes, 0, program, table, 0)
    bpf.call(_PROG_BIND_MAP, attributes)


def raw_tracepoint_open(name: str, program: int) -> int:
    """Attach a program to a tracepoint. The fd is a link, which a pin keeps (Linux 5.7). ENOENT: no such."""
    text = ctypes.create_string_buffer(name.encode())
    attributes = bytearray(16)
    struct.pack_into("=QII", attributes, 0, ctypes.addressof(text), program, 0)
    return bpf.call(_RAW_TRACEPOINT_OPEN, attributes)


def _info(fd: int, size: int, template: bytes = b"") -> bytearray:
    info = bytearray(size)
    info[: len(template)] = template
    anchor = (ctypes.c_char * size).from_buffer(info)
    attributes = bytearray(16)
    struct.pack_into("=IIQ", attributes, 0, fd, size, ctypes.addressof(anchor))
    bpf.call(_INFO_BY_FD, attributes)
    del anchor
    return info


@dataclass(frozen=True, slots=True)
class ProgramInfo:
    kind: int
    id: int
    tag: str
    name: str
    map_ids: tuple[int, ...]


def prog_info(fd: int) -> ProgramInfo:
    ids = (ctypes.c_uint32 * 64)()
    template = bytearray(64)
    struct.pack_into("=I", template, 52, len(ids))
    struct.pack_into("=Q", template, 56, ctypes.addressof(ids))
    info = _info(fd, 128, bytes(template))
    kind, number, tag = struct.unpack_from("=II8s", info, 0)
    (count,) = struct.unpack_from("=I", info, 52)
    name = bytes(info[64:80]).split(b"\0")[0].decode(errors="replace")
    return ProgramInfo(kind, number, tag.hex(), name, tuple(ids[: min(count, len(ids))]))


def prog_info_by_id(number: int) -> ProgramInfo:
    """Of a loaded program. ENOENT: no such program."""
    fd = prog_by_id(number)
    try:
        return prog_info(fd)
    finally:
        os.close(fd)


def maps_of_programs() -> set[int]:
    """Ids of the maps that any program of the host uses."""
    found: set[int] = set()
    number = 0
    while True:
        attributes = bytearray(16)
        struct.pack_into("=I", attributes, 0, number)
        try:
            bpf.call(_PROG_NEXT_ID, attributes)
        except FileNotFoundError:
            return found
        (number,) = struct.unpack_from("=I", attributes, 4)
        try:
            found.update(prog_info_by_id(number).map_ids)
        except FileNotFoundError:
            continue  # gone meanwhile


@dataclass(frozen=True, slots=True)
class RunInfo:
    """``run_ns``, ``runs``: counted while kernel.bpf_stats_enabled is 1. ``missed``: Linux 5.12."""

    name: str
    run_ns: int
    runs: int
    missed: int


def run_info(fd: int) -> RunInfo:
    """What running a program took."""
    info = _info(fd, 216)
    name = bytes(info[64:80]).split(b"\0")[0].decode(errors="replace")
    return RunInfo(name, *struct.unpack_from("=QQQ", info, 192))


@dataclass(frozen=True, slots=True)
class MapInfo:
    kind: int
    id: int
    key_bytes: int
    value_bytes: int
    entries: int
    flags: int
    name: str


def map_info(fd: int) -> MapInfo:
    info = _info(fd, 80)
    name = bytes(info[24:40]).split(b"\0")[0].decode(errors="replace")
    kind, number, key_bytes, value_bytes, entries, flags = struct.unpack_from("=6I", info, 0)
    return MapInfo(kind, number, key_bytes, value_bytes, entries, flags, name)
