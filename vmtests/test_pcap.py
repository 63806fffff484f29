"""The reader of QEMU's dumps, on files made by hand."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from vmlab import pcap
from vmlab.errors import LabError

HEADER = struct.pack("=IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65536, 1)
FRAMES = [bytes(60), b"\x01" * 1514, b"\x02"]


def record(frame: bytes, length: int | None = None) -> bytes:
    return struct.pack("=IIII", 1, 2, len(frame), len(frame) if length is None else length) + frame


@pytest.fixture
def dump(tmp_path: Path) -> Path:
    path = tmp_path / "made.pcap"
    path.write_bytes(HEADER + b"".join(map(record, FRAMES)))
    return path


def test_all_frames_are_read_in_their_order(dump: Path) -> None:
    assert pcap.frames(dump) == FRAMES


def test_what_is_written_after_a_position_is_read_from_there(dump: Path) -> None:
    position = pcap.end(dump)
    with dump.open("ab") as file:
        file.write(record(b"later"))
    assert pcap.frames(dump, position) == [b"later"]


@pytest.mark.parametrize("written", [1, 15, 16, 20])
def test_a_record_that_is_not_whole_yet_is_left_for_later(dump: Path, written: int) -> None:
    late = record(b"later")
    with dump.open("ab") as file:
        file.write(late[:written])
    position = pcap.end(dump)
    assert pcap.frames(dump) == FRAMES
    with dump.open("ab") as file:
        file.write(late[written:])
    assert pcap.frames(dump, position) == [b"later"]


def test_a_dump_without_a_frame_is_empty(dump: Path) -> None:
    dump.write_bytes(HEADER)
    assert (pcap.frames(dump), pcap.end(dump)) == ([], len(HEADER))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        HEADER[:-1],
        HEADER[:-4] + struct.pack("=I", 101),  # raw IP
        struct.pack("=I", 0x0A0D0D0A) + HEADER[4:],  # pcapng
        HEADER + record(b"cut", 4),
    ],
    ids=["empty", "half a header", "not Ethernet", "pcapng", "a cut frame"],
)
def test_what_is_not_a_whole_dump_of_ethernet_frames_is_refused(dump: Path, data: bytes) -> None:
    dump.write_bytes(data)
    with pytest.raises(LabError, match=r"made\.pcap: "):
        pcap.frames(dump)
