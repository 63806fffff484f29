"""The search for network namespaces, without privilege. With it: tests/live/test_sock_diag.py."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from xdpguard.errors import PrivilegeError
from xdpguard.kernel import namespaces, netns


def test_each_namespaces_own_is_seen_without_privilege_and_a_refused_one_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: int, name: str) -> None:
        raise PrivilegeError(f"network namespace {name}: entering it needs CAP_SYS_ADMIN; nothing changed")

    monkeypatch.setattr(netns, "enter", refuse)
    home = netns.CURRENT.stat().st_ino
    visit = namespaces.each(lambda: "seen")
    assert visit.results == {home: "seen"}
    assert all("/proc/" not in note.partition(": ")[2] for note in visit.notes)


def test_a_namespace_that_is_asked_for_and_not_there_is_said() -> None:
    visit = namespaces.each(lambda: "seen", only={1})
    assert visit.results == {}
    assert "network namespace with the inode 1 not seen: no process is in it, it has no name" in visit.notes


def test_the_search_ends_with_the_last_namespace_that_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = netns.CURRENT.stat().st_ino
    (tmp_path / "not-a-folder").touch()
    monkeypatch.setattr(namespaces, "FOLDERS", (tmp_path / "not-a-folder",))  # reading it would give a note
    assert namespaces.each(lambda: "seen", only={home}) == namespaces.Visit({home: "seen"}, ())


def test_a_leftover_file_among_the_names_is_no_namespace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "left").touch()
    (tmp_path / "home").symlink_to(netns.CURRENT)
    monkeypatch.setattr(namespaces, "PROC", tmp_path / "nobody")
    monkeypatch.setattr(namespaces, "FOLDERS", (tmp_path, tmp_path / "absent"))
    (tmp_path / "nobody").mkdir()
    home = netns.CURRENT.stat().st_ino
    assert namespaces.each(lambda: "seen") == namespaces.Visit({home: "seen"}, ())


def test_a_failure_of_one_namespace_is_a_note_and_a_mistake_of_ours_is_raised() -> None:
    home = netns.CURRENT.stat().st_ino

    def refuse() -> None:
        raise OSError(errno.EPERM, "no")

    visit = namespaces.each(refuse, only={home})
    assert visit.results == {}
    assert "1 network namespace(s) not seen, the first is /proc/thread-self/ns/net: no" in visit.notes
    with pytest.raises(ZeroDivisionError):
        namespaces.each(lambda: 1 // 0, only={home})


def test_processes_that_may_not_be_looked_into_are_said_unless_all_that_was_asked_for_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = Path("/proc/self/ns/uts")  # no network namespace, but of the same file system
    secret = tmp_path / "proc/1/ns/net"
    secret.parent.mkdir(parents=True)
    secret.touch()
    (tmp_path / "named").mkdir()
    (tmp_path / "named/other").symlink_to(other)
    monkeypatch.setattr(namespaces, "PROC", tmp_path / "proc")
    monkeypatch.setattr(namespaces, "FOLDERS", (tmp_path / "named",))
    monkeypatch.setattr(netns, "enter", lambda *_: None)
    opened = os.open

    def refuse(path: Path, flags: int) -> int:
        if path == secret:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return opened(path, flags)

    monkeypatch.setattr(os, "open", refuse)
    wanted = other.stat().st_ino
    assert namespaces.each(lambda: "seen", only={wanted}) == namespaces.Visit({wanted: "seen"}, ())
    note = "network namespaces of 1 process(es) not seen: permission denied"
    assert namespaces.each(lambda: "seen").notes == (note,)
