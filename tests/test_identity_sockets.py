"""Socket inodes -> processes, on a fake /proc."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from identity_support import put, put_process

from xdpguard.identity import process, sockets
from xdpguard.identity.process import Process
from xdpguard.identity.sockets import Held, Holder, responsible, scan

WANTED = frozenset({111, 222})


def put_files(root: Path, pid: int, *targets: str, task: int | None = None, **given: object) -> Path:
    """A process with open files, numbered from 0."""
    place = put_process(root / "proc", pid, **given) if task is None else root / "proc" / str(pid)
    folder = place / "fd" if task is None else place / "task" / str(task) / "fd"
    folder.mkdir(parents=True)
    for number, target in enumerate(targets):
        (folder / str(number)).symlink_to(target)
    return place


def found(held: Held) -> dict[int, list[int]]:
    return {inode: [one.process.pid for one in holders] for inode, holders in held.holders.items()}


# ---- the scan -----------------------------------------------------------------------------------------
def test_only_the_sockets_asked_for_are_found_each_once(tmp_path: Path) -> None:
    put_files(tmp_path, 42, "/dev/null", "socket:[111]", "pipe:[222]", "socket:[333]", "socket:[111]")
    held = scan(tmp_path, WANTED)
    assert found(held) == {111: [42]}
    assert held.holders[111][0].process.key == (42, 500)
    assert (held.vanished, held.denied, held.notes()) == (0, 0, ())


def test_every_process_that_has_a_socket_open_is_found(tmp_path: Path) -> None:
    for pid in (41, 42, 43):
        put_files(tmp_path, pid, "socket:[111]")
    assert sorted(found(scan(tmp_path, WANTED))[111]) == [41, 42, 43]


@pytest.mark.parametrize("target", ["socket:[]", "socket:[x]", "socket:[111", "/tmp/socket:[111]", "socket:"])
def test_what_only_looks_like_a_socket_is_none(target: str, tmp_path: Path) -> None:
    put_files(tmp_path, 42, target)
    assert found(scan(tmp_path, frozenset({11, 111}))) == {}


def test_processes_without_sockets_are_given_too_for_the_ancestry(tmp_path: Path) -> None:
    put_files(tmp_path, 41, "/dev/null")
    put_files(tmp_path, 42, "socket:[111]", ppid=41)
    assert sorted(scan(tmp_path, WANTED).processes) == [41, 42]


def test_sockets_of_a_process_whose_main_thread_has_ended_are_found(tmp_path: Path) -> None:
    put_files(tmp_path, 42)
    put_files(tmp_path, 42, task=42)
    put_files(tmp_path, 42, "socket:[111]", task=43)
    assert found(scan(tmp_path, WANTED)) == {111: [42]}


def test_a_process_that_ends_before_its_files_are_read_has_vanished(tmp_path: Path) -> None:
    put_process(tmp_path / "proc", 42)  # no fd folder: what is left of one that is being reaped
    held = scan(tmp_path, WANTED)
    assert (found(held), held.vanished) == ({}, 1)


def test_a_number_that_was_used_again_during_the_scan_has_no_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put_files(tmp_path, 42, "socket:[111]", start=500)
    after(monkeypatch, lambda: put(place, "stat", (place / "stat").read_text().replace(" 500 ", " 501 ")))
    held = scan(tmp_path, WANTED)
    assert (found(held), held.vanished) == ({}, 1)


def test_a_process_that_is_reaped_during_the_scan_has_no_sockets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put_files(tmp_path, 42, "socket:[111]")
    after(monkeypatch, lambda: (place / "stat").unlink())
    held = scan(tmp_path, WANTED)
    assert (found(held), held.vanished) == ({}, 1)


def test_a_file_that_is_closed_during_the_scan_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = put_files(tmp_path, 42, "socket:[111]", "socket:[222]")
    readlink = os.readlink

    def closing(name: str, *, dir_fd: int | None = None) -> str:
        if dir_fd is not None:  # what follows a listing, not process.read
            (place / "fd" / "0").unlink(missing_ok=True)
        return readlink(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "readlink", closing)
    assert found(scan(tmp_path, WANTED)) == {222: [42]}


def test_a_process_that_was_forked_during_the_scan_is_found_by_a_second_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(tmp_path, 42, "/dev/null")
    after(monkeypatch, lambda: put_files(tmp_path, 43, "socket:[111]", "socket:[222]"))
    assert found(scan(tmp_path, WANTED)) == {111: [43], 222: [43]}


def test_the_looks_end_while_new_processes_go_on_coming(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(tmp_path, 42, "/dev/null")
    coming = iter(range(43, 1000))
    after(monkeypatch, lambda: put_files(tmp_path, next(coming), "/dev/null"), times=1000)
    assert len(scan(tmp_path, WANTED).processes) == 3


def test_a_process_that_may_not_be_looked_into_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_files(tmp_path, 42, "socket:[111]")

    def refuse(place: Path) -> set[int]:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))

    monkeypatch.setattr(sockets, "_open_sockets", refuse)
    held = scan(tmp_path, WANTED)
    assert (found(held), held.denied, held.vanished) == ({}, 1, 0)
    assert held.notes() == ("open files of 1 process(es) not seen: permission denied",)


def test_without_a_proc_the_scan_fails_aloud(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        scan(tmp_path, WANTED)


def after(monkeypatch: pytest.MonkeyPatch, happens: Callable[[], object], times: int = 1) -> None:
    """Something happens after the files of a process have been read, the first ``times`` times."""
    original, left = sockets._open_sockets, [times]

    def reading(place: Path) -> set[int]:
        result = original(place)
        if left[0]:
            left[0] -= 1
            happens()
        return result

    monkeypatch.setattr(sockets, "_open_sockets", reading)


# ---- cgroups ------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("mount", "mark"), [("", "cgroup.controllers"), ("unified/", "cgroup.procs")])
def test_a_holders_cgroup_is_the_inode_of_its_v2_directory(mount: str, mark: str, tmp_path: Path) -> None:
    put_files(tmp_path, 42, "socket:[111]", cgroup="1:pids:/elsewhere\n0::/user.slice/a b\n")
    put(tmp_path, f"sys/fs/cgroup/{mount}{mark}", "")
    folder = tmp_path / f"sys/fs/cgroup/{mount}user.slice/a b"
    folder.mkdir(parents=True)
    assert scan(tmp_path, WANTED).holders[111][0].cgroup == folder.stat().st_ino


@pytest.mark.parametrize("lines", ["1:pids:/user.slice\n", "0::/gone\n", ""])
def test_a_cgroup_that_cannot_be_known_is_none(lines: str, tmp_path: Path) -> None:
    put_files(tmp_path, 42, "socket:[111]", cgroup=lines)
    put(tmp_path, "sys/fs/cgroup/cgroup.controllers", "")
    assert scan(tmp_path, WANTED).holders[111][0].cgroup is None


def test_without_a_v2_hierarchy_a_cgroup_has_no_id(tmp_path: Path) -> None:
    put_files(tmp_path, 42, "socket:[111]", cgroup="0::/user.slice\n")
    (tmp_path / "sys/fs/cgroup/unified/user.slice").mkdir(parents=True)  # an empty folder, nothing mounted
    assert scan(tmp_path, WANTED).holders[111][0].cgroup is None


# ---- who is responsible -------------------------------------------------------------------------------
def made(pid: int, ppid: int = 1, start: int = 500, comm: str = "nginx") -> Process:
    return process.Process(pid, pid, comm, None, 0, 0, ppid, start, None, None)


def chosen(holders: list[Process], *others: Process) -> tuple[int, bool]:
    table = {one.pid: one for one in (made(1, 0, 1, "systemd"), *others, *holders)}
    holder, uncertain = responsible([Holder(one, None) for one in holders], table)
    return holder.process.pid, uncertain


def test_the_only_holder_is_responsible() -> None:
    assert chosen([made(42)]) == (42, False)


def test_of_a_master_and_its_workers_the_master_is_responsible() -> None:
    assert chosen([made(44, 43, 502), made(43, 42, 501), made(42)]) == (42, False)


def test_a_family_may_have_members_in_between_that_closed_the_socket() -> None:
    assert chosen([made(44, 43, 502), made(42)], made(43, 42, 501)) == (42, False)


def test_a_family_of_one_clock_tick_is_told_by_descent() -> None:
    assert chosen([made(42, 50, 500), made(50, 1, 500)]) == (50, False)


def test_of_strangers_it_is_the_oldest_and_uncertain() -> None:
    assert chosen([made(42, start=600), made(50, start=550), made(60, start=700)]) == (50, True)


def test_siblings_whose_parent_has_closed_the_socket_are_strangers() -> None:
    assert chosen([made(43, 42, 501), made(44, 42, 502)], made(42)) == (43, True)


def test_a_family_and_a_stranger_are_no_family() -> None:
    assert chosen([made(42), made(43, 42, 501), made(99, 1, 502)]) == (42, True)


def test_a_parent_whose_number_was_used_again_is_no_parent() -> None:
    assert chosen([made(44, 43, 600), made(42, start=500)], made(43, 42, 700)) == (42, True)


def test_a_circle_of_parents_ends() -> None:
    assert chosen([made(42, 43, 500), made(44, 42, 500)], made(43, 42, 500)) == (42, False)
    assert chosen([made(42, 43, 500), made(44, 1, 500)], made(43, 42, 500)) == (42, True)


def test_systemd_that_keeps_a_services_socket_is_not_its_user() -> None:
    systemd = made(1, 0, 1, "systemd")
    assert chosen([systemd, made(42)]) == (42, False)
    assert chosen([systemd]) == (1, False)


def test_any_other_first_process_is_responsible_for_what_its_children_inherit() -> None:
    assert chosen([made(1, 0, 1, "nginx"), made(42)]) == (1, False)
