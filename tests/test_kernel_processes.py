"""Whose /proc it is, and what this process may do: files of a folder stand for /proc."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xdpguard.errors import PrivilegeError
from xdpguard.kernel import processes

KTHREADD = "2 (kthreadd) S 0 0 0 0 -1 2129984 0 0 0 0"
SHELL = "2 (kthreadd) S 1 2 2 0 -1 4194560 0 0 0 0"  # whatever it is called
ALL = (1 << 41) - 1
ADMIN, PERFMON, BPF = 1 << 21, 1 << 38, 1 << 39


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """We are in the first pid namespace."""
    mine = tmp_path / str(os.getpid())
    (mine / "ns").mkdir(parents=True)
    (mine / "ns/pid").touch()
    (tmp_path / "self").symlink_to(mine.name)
    monkeypatch.setattr(processes, "_FIRST_PID_NAMESPACE", (mine / "ns/pid").stat().st_ino)
    return tmp_path


def second(proc: Path, stat: str) -> None:
    (proc / "2").mkdir()
    (proc / "2/stat").write_text(stat)


def test_in_the_first_pid_namespace_proc_is_the_hosts(proc: Path) -> None:
    processes.require_hosts(proc)


def test_a_proc_where_we_have_another_number_is_not_the_hosts(
    proc: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "getpid", lambda: 1)
    assert not processes.is_hosts(proc)


@pytest.mark.parametrize(
    ("stat", "hosts"), [(KTHREADD, True), (SHELL, False), ("", False), ("2 (x) S 1", False)]
)
def test_elsewhere_the_kernels_threads_tell_whose_proc_it_is(
    proc: Path, monkeypatch: pytest.MonkeyPatch, stat: str, hosts: bool
) -> None:
    monkeypatch.setattr(processes, "_FIRST_PID_NAMESPACE", 1)
    second(proc, stat)
    assert processes.is_hosts(proc) is hosts


def test_no_proc_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(PrivilegeError, match=r"is not the host's: .*--pid=host\); nothing changed$") as told:
        processes.require_hosts(tmp_path)
    assert "\n" not in str(told.value)


@pytest.mark.parametrize(
    ("have", "lacking"),
    [
        (ALL, ()),
        (BPF | PERFMON, ()),
        (ADMIN, ()),
        (ALL & ~ADMIN & ~BPF, ("CAP_BPF",)),
        (BPF, ("CAP_PERFMON",)),
        (0, ("CAP_BPF", "CAP_PERFMON")),
    ],
)
def test_the_capabilities_that_are_lacking_are_named(
    tmp_path: Path, have: int, lacking: tuple[str, ...]
) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(
        f"Name:\tx\nCapPrm:\t{ALL:016x}\nCapEff:\t{have:016x}\nCapBnd:\t0\n"
    )
    assert processes.lacking("CAP_BPF", "CAP_PERFMON", proc=tmp_path) == lacking


def test_the_administrators_capability_does_not_include_all_others(tmp_path: Path) -> None:
    (tmp_path / "self").mkdir()
    (tmp_path / "self/status").write_text(f"CapEff:\t{ADMIN:016x}\n")
    wanted = ("CAP_NET_ADMIN", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "CAP_SYS_ADMIN", "CAP_BPF")
    assert processes.lacking(*wanted, proc=tmp_path) == wanted[:3]


def test_a_refusal_names_what_is_lacking_and_all_where_that_is_not_known(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    held = {"CAP_BPF"}
    monkeypatch.setattr(processes, "lacking", lambda *wanted: tuple(one for one in wanted if one not in held))
    words = r"^x: not permitted: needs root \(CAP_PERFMON\); nothing changed$"
    with pytest.raises(PrivilegeError, match=words):
        processes.require("x", "CAP_BPF", "CAP_PERFMON")
    processes.require("x", "CAP_BPF")
    assert processes.needs("CAP_BPF") == "needs root (CAP_BPF)"
    assert processes.denied("CAP_PERFMON") == "permission denied (lacking CAP_PERFMON)"
    assert processes.denied("CAP_BPF") == "permission denied"


def test_where_proc_does_not_tell_the_kernel_is_left_to_refuse(tmp_path: Path) -> None:
    assert processes.lacking("CAP_BPF", proc=tmp_path) == ()
