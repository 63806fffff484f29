"""Reads what QEMU's filter-dump has written so far: the classic pcap format, Ethernet frames.

https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from vmlab.errors import LabError

_MAGIC = 0xA1B2C3D4  # microseconds, in the byte order of the host that wrote it
_ETHERNET = 1
_header = struct.Struct("=IHHiIII")
_record = struct.Struct("=IIII")

START = _header.size
"""The position of the first frame."""


def end(path: Path) -> int:
    """The position of the next frame to come. LabError: not such a file."""
    position = START
    for frame in frames(path):
        position += _record.size + len(frame)
    return position


def frames(path: Path, position: int = START) -> list[bytes]:
    """The frames from ``position`` on, of both directions, in their order. LabError: not such a file."""
    data = path.read_bytes()
    if len(data) < _header.size:
        raise LabError(f"{path.name}: {len(data)} bytes, a pcap header has {_header.size}")
    magic, _, _, _, _, _, link = _header.unpack_from(data)
    if (magic, link) != (_MAGIC, _ETHERNET):
        raise LabError(
            f"{path.name}: magic {magic:#x}, link type {link}: not Ethernet frames in classic pcap"
        )
    return list(_records(path.name, data, position))


def _records(name: str, data: bytes, position: int) -> Iterator[bytes]:
    """A record at the end that is not whole is still being written: it belongs to the next reading."""
    while len(data) - position >= _record.size:
        _, _, kept, length = _record.unpack_from(data, position)
        if kept != length:
            raise LabError(f"{name}: the frame at {position} is cut: {kept} of {length} bytes")
        position += _record.size + kept
        if position > len(data):
            return
        yield data[position - kept : position]
