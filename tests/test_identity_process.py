"""/proc/PID -> Process, on a fake /proc and on this process itself."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from identity_support import A, put, put_process

from xdpguard.identity import process
from xdpguard.identity.process import Key, everyone, read, thread_name, ticks

PROC = Path("/proc")


def test_every_field_is_read(tmp_path: Path) -> None:
    put_process(tmp_path, 42, ppid=7, start=900, uid=1000, gid=100, cgroup=f"0::/docker/{A}\n")
    found = read(tmp_path, 42)
    assert found == process.Process(
        pid=42, tgid=42, comm="sh", exe="/bin/dash", uid=1000, gid=100, ppid=7, start=900,
        netns=4026531840, cgroup=f"/docker/{A}",
    )  # fmt: skip


@pytest.mark.parametrize("comm", ["a) S 1 (b", "((", "))", " ", "tmux: server", "x\ny"])
def test_a_name_may_hold_parentheses_and_spaces(comm: str, tmp_path: Path) -> None:
    put_process(tmp_path, 42, comm=comm, ppid=7)
    found = read(tmp_path, 42)
    assert found is not None
    assert (found.comm, found.ppid) == (comm, 7)


def test_a_name_with_a_line_break_cannot_pose_as_a_status_line(tmp_path: Path) -> None:
    place = put_process(tmp_path, 42, uid=1000)
    # Linux writes the line break of a name as \n in status: what a process calls itself stays one line.
    put(place, "status", "Name:\tx\\nUid:\t0\nTgid:\t42\nUid:\t1000\t0\t0\t0\nGid:\t1000\t0\t0\t0\n")
    found = read(tmp_path, 42)
    assert found is not None
    assert found.uid == 1000


def test_a_name_that_is_not_utf_8_is_kept(tmp_path: Path) -> None:
    place = put_process(tmp_path, 42)
    (place / "stat").write_bytes((place / "stat").read_bytes().replace(b"(sh)", b"(\xff)"))
    found = read(tmp_path, 42)
    assert found is not None
    assert os.fsencode(found.comm) == b"\xff"


def test_a_process_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert read(tmp_path, 42) is None


@pytest.mark.parametrize("missing", ["stat", "status", "cgroup"])
def test_a_process_that_vanishes_while_it_is_read_is_none(missing: str, tmp_path: Path) -> None:
    (put_process(tmp_path, 42) / missing).unlink()
    assert read(tmp_path, 42) is None


@pytest.mark.parametrize("name", ["stat", "status"])
@pytest.mark.parametrize("text", ["", "42", "42 (sh", "42 (sh) S", "Uid:\tx\n"])
def test_a_file_cut_short_is_none(name: str, text: str, tmp_path: Path) -> None:
    put(put_process(tmp_path, 42), name, text)
    assert read(tmp_path, 42) is None


def test_a_number_used_again_while_it_is_read_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put_process(tmp_path, 42, start=900, uid=0)
    original = process._text

    def replaced(path: Path) -> str:
        text = original(path)
        if path.name == "status":  # between the two readings of the start time
            stat = tmp_path / "42/stat"
            stat.write_text(stat.read_text().replace(" 900 ", " 901 "))
        return text

    monkeypatch.setattr(process, "_text", replaced)
    assert read(tmp_path, 42) is None


def test_a_kernel_thread_has_no_executable(tmp_path: Path) -> None:
    put_process(tmp_path, 2, comm="kthreadd", exe=None, netns=None, ppid=0)
    found = read(tmp_path, 2)
    assert found is not None
    assert (found.exe, found.netns) == (None, None)


def test_everyone_is_every_process_that_stays(tmp_path: Path) -> None:
    put_process(tmp_path, 1, ppid=0)
    put_process(tmp_path, 42)
    put(tmp_path, "43/stat", "half of one")
    put(tmp_path, "meminfo", "")
    put(tmp_path, "sys/x", "")
    assert sorted(one.pid for one in everyone(tmp_path)) == [1, 42]


def test_a_tracer_s_nanoseconds_give_the_key_that_proc_shows() -> None:
    hertz = os.sysconf("SC_CLK_TCK")
    assert ticks(10**9 * 5 + 10**9 // hertz - 1) == 5 * hertz
    found = read(PROC, os.getpid())
    assert found is not None
    assert found.key == Key(os.getpid(), found.start)
    assert ticks(found.started) == found.start


# ---- the real /proc ---------------------------------------------------------------------------------
def test_this_process_is_who_it_is() -> None:
    found = read(PROC, os.getpid())
    assert found is not None
    assert (found.tgid, found.ppid) == (os.getpid(), os.getppid())
    assert (found.uid, found.gid) == (os.getuid(), os.getgid())
    assert found.exe == str(Path("/proc/self/exe").readlink())
    assert found.netns == Path("/proc/self/ns/net").stat().st_ino


def test_a_thread_is_told_from_its_process_and_has_its_own_name() -> None:
    named, done = threading.Event(), threading.Event()
    tids: list[int] = []

    def run() -> None:
        Path(f"/proc/self/task/{threading.get_native_id()}/comm").write_text("the-thread")
        tids.append(threading.get_native_id())
        named.set()
        done.wait()

    thread = threading.Thread(target=run)
    thread.start()
    named.wait()
    try:
        found = read(PROC, tids[0])
        assert found is not None
        assert (found.pid, found.tgid, found.comm) == (tids[0], os.getpid(), "the-thread")
        assert thread_name(PROC, os.getpid(), tids[0]) == "the-thread"
        assert thread_name(PROC, os.getpid(), os.getpid()) != "the-thread"
    finally:
        done.set()
        thread.join()


def test_a_thread_of_another_process_has_no_name_here() -> None:
    assert thread_name(PROC, os.getpid(), os.getppid()) is None
