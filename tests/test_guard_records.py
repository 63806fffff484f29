"""Records of what comes back: what is kept, what is marked, and what is left of a write that fails."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpguard.errors import NotLoadedError, RulesError
from xdpguard.guard import records
from xdpguard.guard.records import Record, Records
from xdpguard.kernel import kept

FILES = {"r.yaml": b"version: 1\n", "\udcff/set": b"", "more.tsv": bytes(range(256))}
RECORD = Record("generic", True, False, FILES)
OTHER = Record("native", False, True, {"other.yaml": b"version: 1\n"})


@pytest.fixture
def eth0(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Records:
    monkeypatch.setattr(records, "FOLDER", tmp_path / "state")
    return Records(None, "eth0")


def names(one: Records) -> set[str]:
    return {path.name for path in one.folder.iterdir()}


def test_what_is_marked_is_read_again(eth0: Records) -> None:
    eth0.store(1.5, RECORD)
    assert eth0.mark(1.5)
    assert eth0.read() == RECORD
    assert eth0.read().file == "r.yaml"


def test_what_is_too_large_to_be_read_again_is_not_kept(
    eth0: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = eth0.store(1.5, RECORD).stat().st_size - 32  # but the digest
    monkeypatch.setattr(records, "_MOST", size)
    eth0.store(1.5, RECORD)
    monkeypatch.setattr(records, "_MOST", size - 1)
    with pytest.raises(OSError, match="File too large"):
        eth0.store(2.5, RECORD)
    assert names(eth0) == {"1.5.rules"}


def test_what_is_only_stored_does_not_come_back(eth0: Records) -> None:
    eth0.store(1.5, RECORD)
    with pytest.raises(NotLoadedError, match=r"eth0: no confirmed rules are kept for it in .*; nothing"):
        eth0.read()


def test_the_mark_moves(eth0: Records) -> None:
    eth0.store(1.5, RECORD)
    eth0.store(2.5, OTHER)
    for loaded_at, wanted in ((1.5, RECORD), (2.5, OTHER), (1.5, RECORD)):
        assert eth0.mark(loaded_at)
        assert (eth0.marked(), eth0.read()) == (loaded_at, wanted)


def test_what_is_not_kept_cannot_be_marked_and_the_mark_stays(eth0: Records) -> None:
    assert not eth0.mark(1.5)
    eth0.store(1.5, RECORD)
    eth0.mark(1.5)
    assert not eth0.mark(2.5)
    assert eth0.marked() == 1.5


def test_nobody_else_may_read_or_write_any_of_it(eth0: Records) -> None:
    before = os.umask(0)
    try:
        path = eth0.store(1.5, RECORD)
    finally:
        os.umask(before)
    folders = [eth0.folder, eth0.folder.parent, records.FOLDER]
    assert [one.stat().st_mode & 0o777 for one in (path, *folders)] == [0o600, 0o700, 0o700, 0o700]


@pytest.mark.parametrize("up", [0, 1, 2])
def test_nothing_is_kept_in_a_folder_that_others_can_write(eth0: Records, up: int) -> None:
    eth0.store(1.5, RECORD)
    [eth0.folder, *eth0.folder.parents][up].chmod(0o770)
    with pytest.raises(kept.Distrusted, match="can be written by others"):
        eth0.store(2.5, OTHER)
    assert names(eth0) == {"1.5.rules"}


def test_a_record_is_on_the_disk_before_it_has_its_name_and_then_the_name(
    eth0: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    fsync, rename = os.fsync, Path.rename

    def synced(handle: int) -> None:
        steps.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name.partition('-')[0]}")
        fsync(handle)

    def renamed(path: Path, target: Path) -> Path:
        steps.append(f"name {target.name}")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "rename", renamed)
    eth0.store(1.5, RECORD)
    above = ["sync " + folder.name for folder in reversed(eth0.folder.parents[:3])]
    assert steps == [*above, "sync unfinished", "name 1.5.rules", "sync eth0"]
    steps.clear()
    eth0.mark(1.5)
    eth0.mark(1.5)
    assert steps == ["name confirmed", "sync eth0"]
    steps.clear()
    eth0.unmark()
    assert steps == ["sync eth0"]


@pytest.mark.parametrize("spoil", [Path.touch, lambda mark: mark.symlink_to("/etc/passwd")])
def test_a_mark_of_another_hand_is_no_news_but_replaced(eth0: Records, spoil: Callable[[Path], None]) -> None:
    eth0.store(1.5, RECORD)
    spoil(eth0.folder / "confirmed")
    assert list(records.every()) == [eth0]
    with pytest.raises(RulesError):
        eth0.read()
    assert eth0.marked() == 0.0
    assert eth0.mark(1.5)
    assert eth0.read() == RECORD


@pytest.mark.parametrize("call", ["rename", "symlink_to"])
def test_a_mark_that_cannot_be_moved_stays(eth0: Records, call: str, monkeypatch: pytest.MonkeyPatch) -> None:
    eth0.store(1.5, RECORD)
    eth0.store(2.5, OTHER)
    eth0.mark(1.5)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, call, full)
        with pytest.raises(OSError, match="No space left"):
            eth0.mark(2.5)
    assert eth0.read() == RECORD
    assert eth0.mark(2.5)  # whatever was left is not in the way
    assert eth0.read() == OTHER


def test_what_a_killed_command_left_goes_and_what_is_not_ours_stays(eth0: Records) -> None:
    for loaded_at in (1.5, 2.5, 3.5):
        eth0.store(loaded_at, RECORD)
    eth0.mark(1.5)
    for name in ("unfinished-x", "confirmed.new", "4.5.rules", "notes.txt"):
        (eth0.folder / name).touch()
    eth0.prune([2.5])
    assert names(eth0) == {"confirmed", "1.5.rules", "2.5.rules", "notes.txt"}


def test_forgotten_is_all_but_what_is_of_others(eth0: Records) -> None:
    other = Records("blue", "eth0")
    for one in (eth0, other):
        one.store(1.5, RECORD)
        one.mark(1.5)
    assert eth0.unmark()
    eth0.remove()
    assert not eth0.folder.parent.exists()
    assert other.read() == RECORD
    assert not eth0.unmark()
    eth0.remove()
    eth0.store(2.5, RECORD)
    assert not eth0.unmark()  # it would not have come back
    eth0.remove()
    assert not eth0.folder.exists()


def test_every_interface_with_a_mark_is_listed(eth0: Records) -> None:
    assert list(records.every()) == []
    wanted = [Records(None, "a"), Records(None, "b"), Records("-", "a"), Records("blue", "host")]
    for one in wanted:
        one.store(1.5, RECORD)
        one.mark(1.5)
    eth0.store(1.5, RECORD)
    assert list(records.every()) == wanted


@pytest.mark.parametrize("name", ["", ".", "..", "../../x", "/etc/udev/rules.d", "a/b", "a\0b", "x" * 256])
def test_what_is_no_name_leads_to_no_folder(name: str) -> None:
    with pytest.raises(NotLoadedError, match="no such interface"):
        Records(None, name)
    with pytest.raises(NotLoadedError, match="no such network namespace"):
        Records(name, "eth0")


def test_a_name_like_a_folder_of_ours_is_no_other_one(eth0: Records) -> None:
    folders = {Records(netns, name).folder for netns in (None, "host", "netns") for name in ("host", "netns")}
    assert len(folders) == 6
