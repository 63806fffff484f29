"""What may be read: regular files of a bounded size; all else is refused without waiting, and noted once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity_support import put

from xdpguard.identity import files
from xdpguard.identity.files import Notes, below, names, parsed, read, read_json


def test_a_file_of_the_limit_is_read_and_one_byte_more_is_not(tmp_path: Path) -> None:
    file = put(tmp_path, "x", "12345")
    assert read(file, limit=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read(file, limit=4)


def test_a_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "x")
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / "x")


@pytest.mark.parametrize("target", ["/dev/zero", "/"])
def test_a_link_to_a_device_or_directory_is_refused(target: str, tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(target)
    with pytest.raises(OSError, match="not a regular file"):
        read(tmp_path / "x")


def test_a_link_to_a_file_is_followed(tmp_path: Path) -> None:
    (tmp_path / "x").symlink_to(put(tmp_path, "y", "text"))
    assert read(tmp_path / "x") == b"text"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    put(tmp_path, "file", "{}")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("fifo", "file", "absent"):
        read_json(tmp_path / name, "test", Notes())
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_an_absent_file_is_nothing_to_report(tmp_path: Path) -> None:
    notes = Notes()
    assert read_json(tmp_path / "absent", "test", notes) is None
    assert read_json(put(tmp_path, "file", "{}") / "below", "test", notes) is None
    assert notes.lines() == ()


@pytest.mark.parametrize("text", ["", "{", "nul", "[" * 100_000, '{"a":' * 100_000, "9" * 5000, "\0"])
def test_what_is_no_json_is_noted_and_not_used(text: str, tmp_path: Path) -> None:
    notes = Notes()
    assert read_json(put(tmp_path, "x", text), "docker", notes) is None
    (line,) = notes.lines()
    assert line.startswith(f"docker: {tmp_path}/x: not JSON (")
    assert "\n" not in line


def test_the_same_failure_is_noted_once_per_source(tmp_path: Path) -> None:
    notes = Notes()
    for number in range(5):
        read_json(put(tmp_path, str(number), "{"), "docker", notes)
        read_json(put(tmp_path, str(number), "{"), "cri-o", notes)
    assert len(notes.lines()) == 2


def test_notes_are_bounded() -> None:
    notes = Notes()
    for number in range(1000):
        notes.add("source", str(number), f"line {number}")
    assert len(notes.lines()) == 64


def test_a_directory_s_names_are_bounded_and_that_is_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(files, "NAMES", 3)
    notes = Notes()
    for number in range(5):
        put(tmp_path, str(number), "")
    assert len(names(tmp_path, "kubelet", notes)) == 3
    assert "more than 3 names" in notes.lines()[0]


def test_a_directory_that_is_none_is_noted_only_if_it_is_there(tmp_path: Path) -> None:
    notes = Notes()
    assert names(tmp_path / "absent", "x", notes) == []
    assert notes.lines() == ()


@pytest.mark.parametrize("path", [None, "", "relative", "/a\0b", "/a\ud800", "../x"])
def test_a_configured_path_that_no_file_can_have_is_none(path: str | None) -> None:
    assert below(Path("/root"), path) is None


def test_a_configured_path_is_below_the_root() -> None:
    assert below(Path("/host"), "/var/lib/docker") == Path("/host/var/lib/docker")


@given(st.binary(max_size=200))
def test_any_bytes_are_json_or_a_value_error(data: bytes) -> None:
    try:
        parsed(data)
    except ValueError:
        pass
