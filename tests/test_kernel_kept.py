"""Kept files: what is believed, what is not, and how many there are."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpguard.kernel import kept

CONTENT = bytes(range(200))


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that is kept, in a folder of this test's own."""
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "cache")
    path = kept.FOLDER / "a.rules"
    kept.write(path, CONTENT[:50], memoryview(CONTENT)[50:])
    return path


def refusal(path: Path, most: int = 1 << 20) -> kept.Distrusted:
    with pytest.raises(kept.Distrusted) as caught:
        kept.read(path, most)
    return caught.value


def test_what_is_kept_is_read_again(file: Path) -> None:
    assert kept.read(file, len(CONTENT)) == CONTENT


def test_a_small_file_needs_no_room_for_the_largest(file: Path) -> None:
    tracemalloc.start()
    try:
        kept.read(file, 1 << 30)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_nothing_is_also_something(file: Path) -> None:
    kept.write(file)
    assert len(kept.read(file, 0)) == 0


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_else_may_read_or_write_it(mask: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        kept.write(tmp_path / "cache" / "file", CONTENT)
    finally:
        os.umask(before)
    modes = [path.stat().st_mode & 0o777 for path in (tmp_path / "cache" / "file", tmp_path / "cache")]
    assert modes == [0o600, 0o700]


def test_a_change_anywhere_is_seen(file: Path) -> None:
    whole = file.read_bytes()
    for at in range(len(whole)):
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        assert str(refusal(file)) == f"{file}: is damaged: not used"


def test_a_cut_anywhere_is_seen(file: Path) -> None:
    whole = file.read_bytes()
    for length in range(len(whole)):
        file.write_bytes(whole[:length])
        assert "is damaged" in str(refusal(file))
    file.write_bytes(whole + b"\0")
    assert "is damaged" in str(refusal(file))


def fifo(file: Path) -> None:
    file.unlink()
    os.mkfifo(file, 0o600)


def linked(file: Path) -> None:
    file.rename(file.with_name("elsewhere"))
    file.symlink_to("elsewhere")


def folder(file: Path) -> None:
    file.unlink()
    file.mkdir(0o700)


SPOILED: dict[str, tuple[Callable[[Path], object], str]] = {
    "writable by the group": (lambda file: file.chmod(0o620), r"can be written by others \(mode 0620\)"),
    "writable by others": (lambda file: file.chmod(0o602), r"can be written by others \(mode 0602\)"),
    "in a folder for a group": (lambda file: file.parent.chmod(0o730), r"by others \(mode 0730\)"),
    "in a folder for others": (lambda file: file.parent.chmod(0o703), r"by others \(mode 0703\)"),
    "a FIFO": (fifo, "is not a regular file"),
    "a link": (linked, "cannot be read: Too many levels of symbolic links"),
    "a folder": (folder, "cannot be read: Is a directory"),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_file_that_others_may_have_made_is_not_believed(what: str, file: Path) -> None:
    spoil, words = SPOILED[what]
    spoil(file)
    with pytest.raises(kept.Distrusted, match=words) as caught:
        kept.read(file, 1 << 20)
    assert caught.value.there


def test_a_file_of_another_user_is_not_believed(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own, other = os.geteuid(), os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    assert f"is of user {own}" in str(refusal(file))


def test_a_file_that_is_larger_than_allowed_is_not_read(file: Path) -> None:
    assert f"is larger than {len(CONTENT) - 1} bytes" in str(refusal(file, len(CONTENT) - 1))


def test_a_file_that_is_not_there_is_no_news(file: Path) -> None:
    file.unlink()
    assert not refusal(file).there


def test_what_cannot_be_kept_is_let_go(file: Path, tmp_path: Path) -> None:
    (tmp_path / "plain").touch()
    kept.write(tmp_path / "plain" / "file", CONTENT)
    file.unlink()
    file.mkdir()
    kept.write(file, CONTENT)  # cannot take that name
    assert names() == {file.name}


# ---- what must last --------------------------------------------------------------------------------------
def test_a_lasting_file_is_read_again_and_replaced_whole(file: Path) -> None:
    kept.write_lasting(file, b"other")
    assert bytes(kept.read(file, 5)) == b"other"
    assert names() == {file.name}


def test_a_lasting_file_that_cannot_be_written_is_an_error_and_the_one_before_stays(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="Input/output error"):
        kept.write_lasting(file, b"other")
    assert kept.read(file, len(CONTENT)) == CONTENT
    assert names() == {file.name}


def test_folders_that_must_last_are_made_for_the_caller_alone(tmp_path: Path) -> None:
    top = tmp_path / "new" / "top"
    for _ in range(2):
        kept.make_folder(top / "a" / "b", top)
    assert [one.stat().st_mode & 0o777 for one in (top, top / "a", top / "a" / "b")] == [0o700] * 3


def test_a_file_in_the_way_of_a_folder_is_told(tmp_path: Path) -> None:
    (tmp_path / "top").touch(0o600)
    with pytest.raises(kept.Distrusted, match="is not a folder"):
        kept.make_folder(tmp_path / "top", tmp_path / "top")


# ---- how many -------------------------------------------------------------------------------------------
def aged(name: str, age: float, size: int = 1) -> Path:
    path = kept.FOLDER / name
    path.write_bytes(bytes(size))
    when = time.time() - age
    os.utime(path, (when, when))
    return path


def names() -> set[str]:
    return {path.name for path in kept.FOLDER.iterdir()}


def test_the_oldest_of_too_many_go_first(file: Path) -> None:
    for age in (40, 20, 30):
        aged(f"{age}.rules", age)
    aged("50.bpf", 50)
    kept.trim(".rules", 3, 1 << 20)
    assert names() == {file.name, "20.rules", "30.rules", "50.bpf"}


def test_the_oldest_of_too_large_ones_go_first(file: Path) -> None:
    for age in (40, 20, 30):
        aged(f"{age}.rules", age, 100)
    kept.trim(".rules", 10, file.stat().st_size + 100)
    assert names() == {file.name, "20.rules"}


def test_what_was_used_is_not_old(file: Path) -> None:
    used = aged("40.rules", 40)
    aged("30.rules", 30)
    kept.renew(used)
    kept.trim(".rules", 2, 1 << 20)
    assert names() == {file.name, "40.rules"}


def test_what_a_killed_process_left_goes_once_it_is_old(file: Path) -> None:
    aged("unfinished-old", 7200)
    aged("unfinished-new", 60)
    kept.trim(".rules", 10, 1 << 20)
    assert names() == {file.name, "unfinished-new"}


def test_without_a_folder_there_is_nothing_to_trim(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "none")
    kept.trim(".rules", 0, 0)
    kept.renew(kept.FOLDER / "a.rules")
