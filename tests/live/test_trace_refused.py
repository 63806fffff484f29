"""``xdpguard trace`` where something is lacking: one line names it, and nobody is named who did not do it."""

from __future__ import annotations

import errno
import os
import shlex
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Lab, inside
from test_lifecycle_support import patched, run
from trace_command import COMMAND, traced

from xdpguard.errors import KernelError, PrivilegeError
from xdpguard.kernel import netns, objects, offsets
from xdpguard.kernel.tracefilter import KernelFilter
from xdpguard.kernel.tracing import Tracing

CONTAINER = "ab" * 32
# Connects to the port given, in the network namespace given, and says which process it is.
CONNECT = """
import os, socket, sys
print(os.getpid(), flush=True)
sys.stdin.readline()
socket.create_connection(("127.0.0.1", int(sys.argv[1]))).close()
"""


def mounted(script: str) -> list[str]:
    """A command in a mount namespace of its own, prepared by ``script``."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-euc", f'{script}\nexec "$@"', "sh"]


def without(*capabilities: str) -> list[str]:
    return ["setpriv", "--bounding-set=" + ",".join(f"-{name}" for name in capabilities)]


NO_TRACEFS = """
mount -t tmpfs none /sys/kernel/tracing
[ ! -d /sys/kernel/debug ] || mount -t tmpfs none /sys/kernel/debug
"""


# ---- what is refused ---------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("before", "code", "line"),
    [
        (without("bpf", "sys_admin"), 3, "trace: not permitted: needs root (CAP_BPF)"),
        (without("perfmon", "sys_admin"), 3, "trace: not permitted: needs root (CAP_PERFMON)"),
        (without("bpf", "perfmon", "sys_admin"), 3, "needs root (CAP_BPF, CAP_PERFMON)"),
        (["unshare", "--pid", "--fork", "--mount-proc"], 3, "/proc is not the host's"),
        (mounted("mount -t tmpfs none /sys/kernel/btf"), 7, "no BTF of the kernel: /sys/kernel/btf/vmlinux"),
        (mounted("mount -t tmpfs none /proc"), 7, "/proc is needed"),
    ],
    ids=["CAP_BPF", "CAP_PERFMON", "both", "pid namespace", "BTF", "/proc"],
)
def test_what_is_lacking_is_named_in_one_line(before: list[str], code: int, line: str) -> None:
    said = run(*before, *COMMAND, "--duration", "1").refusal(code)
    assert line in said
    assert said.endswith("; nothing changed")


def test_who_is_root_in_a_user_namespace_only_is_refused() -> None:
    """What is imported later cannot be read any more where the project belongs to another user."""
    imports = "import ctypes, xdpguard.trace.live, xdpguard.trace.wanted, xdpguard.ui.trace_text"
    unshare = "assert not ctypes.CDLL(None).unshare(0x10000000)"
    said = patched(f"{imports}\n{unshare}", ["trace", "--duration", "1"])
    assert "not permitted: needs root (CAP_BPF, CAP_PERFMON); nothing changed" in said.refusal(3)


def refusing(error: OSError) -> Callable[[str, int], int]:
    """A kernel where no raw tracepoint can be opened."""

    def refuse(name: str, program: int) -> int:
        raise error

    return refuse


def test_a_kernel_without_kprobes_and_tracepoints_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    none = refusing(FileNotFoundError(errno.ENOENT, "No such file or directory"))
    monkeypatch.setattr(objects, "raw_tracepoint_open", none)
    told = r"this kernel does not tell: raw tracepoint \w+: No such file or directory; nothing changed$"
    with pytest.raises(KernelError, match=told):
        Tracing(KernelFilter(), kprobes=False)


def test_a_kernel_in_lockdown_is_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    locked = refusing(PermissionError(errno.EPERM, "Operation not permitted"))
    monkeypatch.setattr(objects, "raw_tracepoint_open", locked)
    with pytest.raises(PrivilegeError, match=r"not permitted: .* no kernel lockdown; nothing changed$"):
        Tracing(KernelFilter(), kprobes=False)


# ---- what goes on with less --------------------------------------------------------------------------------
@contextmanager
def connecting(ns: str, port: int, cgroup: Path | None = None) -> Iterator[int]:
    """The pid of a process that connects within ``ns`` when the block is over."""
    argv = ["nsenter", f"--net={netns.FOLDER / ns}", sys.executable, "-S", "-c", CONNECT, str(port)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        if cgroup is not None:
            (cgroup / "cgroup.procs").write_text(str(pid))
        yield pid
        process.communicate("now\n")
        assert process.returncode == 0


@contextmanager
def listening(ns: str) -> Iterator[int]:
    with inside(ns, socket.socket) as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def test_without_tracefs_the_warning_says_so_and_connections_are_told(lab: Lab) -> None:
    """Neither mounted nor to be mounted: that takes CAP_SYS_ADMIN."""
    ns = lab.namespace("only")
    entered = ["nsenter", f"--net={netns.FOLDER / ns}"]
    command = [*mounted(NO_TRACEFS), *entered, *without("sys_admin"), *COMMAND]
    with listening(ns) as port, traced(command=command) as said, connecting(ns, port) as pid:
        pass
    assert "tracefs cannot be had (Operation not permitted): no tracepoints of system calls" in said.errors
    [told] = [one for one in said.events if one["event"] == "connect"]
    assert (told["process.pid"], told["attribution"]) == (pid, "exact")


def test_without_leave_to_look_into_processes_their_older_sockets_are_unknown(lab: Lab) -> None:
    ns = lab.namespace("only")
    command = [*without("sys_ptrace"), *COMMAND]
    with listening(ns) as port, traced("--netns", ns, command=command) as said, connecting(ns, port) as pid:
        pass
    assert "process(es) not seen: permission denied" in said.errors
    assert [one["process.pid"] for one in said.events if one["event"] == "connect"] == [pid]


def test_in_a_pid_namespace_with_the_hosts_proc_processes_have_the_hosts_numbers(lab: Lab) -> None:
    ns = lab.namespace("only")
    command = ["unshare", "--pid", "--fork", "--kill-child", *COMMAND]
    with (
        listening(ns) as port,
        traced("--netns", ns, "-to", "--count", "1", command=command) as said,
        connecting(ns, port) as pid,
    ):
        pass
    [told] = said.events
    assert (told["process.pid"], told["attribution"]) == (pid, "exact")
    assert told["process.parent_pid"] == os.getpid()


# ---- a container's name that cannot be asked for -----------------------------------------------------------
@pytest.fixture
def cgroup() -> Iterator[Path]:
    """Of a container that no Docker knows."""
    top = offsets.cgroup_root(offsets.cgroup_controller())
    assert top is not None, "no cgroup file system"
    place = top / "docker" / CONTAINER
    new = not place.parent.exists()
    place.mkdir(parents=True)
    yield place
    place.rmdir()
    if new:
        place.parent.rmdir()


@pytest.mark.parametrize("hangs", [True, False], ids=["hanging", "refusing"])
def test_a_docker_that_does_not_answer_is_noted_and_the_container_has_its_id(
    lab: Lab, cgroup: Path, tmp_path: Path, hangs: bool
) -> None:
    ns, path = lab.namespace("only"), tmp_path / "docker.sock"
    command = mounted(
        "mount -t tmpfs none /run && touch /run/docker.sock"
        f" && mount --bind {shlex.quote(str(path))} /run/docker.sock"
    )
    with socket.socket(socket.AF_UNIX) as docker, listening(ns) as port:
        docker.bind(str(path))
        if hangs:
            docker.listen()  # who asks is never answered
        with (
            traced("--netns", "all", "-to", "--port", str(port), command=[*command, *COMMAND]) as said,
            connecting(ns, port, cgroup) as pid,
        ):
            pass
    [told] = [one for one in said.events if one["event"] == "connect"]
    assert (told["process.pid"], told["container.id"], told["container.name"]) == (pid, CONTAINER, None)
    reason = "timed out" if hangs else "Connection refused"
    assert f"docker: /run/docker.sock: {reason}: names from files only" in said.errors
