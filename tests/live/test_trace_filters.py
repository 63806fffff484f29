"""What the kernel passes on, and that its books add up."""

from __future__ import annotations

import os
import pwd
import signal
import socket
import subprocess
import sys
import threading
from ipaddress import ip_network
from pathlib import Path

import pytest
from lab import Lab, Veth, inside
from test_trace_support import KINDS, Seen, client, inode, listener, tracing

from xdpguard.abi import abi
from xdpguard.kernel.tracing import KernelFilter, Tracing


def connection(veth: Veth, port: int = 0) -> int:
    """A whole connection; the listener's port."""
    with (
        inside(veth.server.name, socket.create_server, (veth.server.ipv4, port)) as wait,
        client(veth.client) as asks,
    ):
        asks.connect(wait.getsockname())
        wait.accept()[0].close()
        asks.recv(1)
        chosen: int = wait.getsockname()[1]
        return chosen


def by_another_user(veth: Veth, to: tuple[str, int]) -> int:
    """A child with another user connects; its pid."""
    child = os.fork()
    if child:
        assert os.waitpid(child, 0)[1] == 0
        return child
    try:
        with client(veth.client) as asks:
            os.setgid(65534)
            os.setuid(65534)
            asks.connect(to)
        os._exit(0)
    finally:
        os._exit(1)


def test_only_the_wanted_process_is_told(veth: Veth) -> None:
    with (
        listener(veth.server, veth.server.ipv4) as wait,
        tracing(veth.client, kinds="CONNECT", pids=frozenset({os.getpid()})) as seen,
    ):
        other = by_another_user(veth, wait.getsockname())
        with client(veth.client) as asks:
            asks.connect(wait.getsockname())
            (told,) = seen.until(kind="connect")
        assert told.owner is not None
        assert told.owner.process.pid == os.getpid() != other
        books(seen, "CONNECT", filtered=1)


def test_only_the_wanted_user_is_told(veth: Veth) -> None:
    with (
        listener(veth.server, veth.server.ipv4) as wait,
        tracing(veth.client, kinds="CONNECT", uids=frozenset({65534})) as seen,
    ):
        with client(veth.client) as asks:
            asks.connect(wait.getsockname())
        child = by_another_user(veth, wait.getsockname())
        (told,) = seen.until(kind="connect")
        assert told.owner is not None
        assert (told.owner.process.pid, told.owner.uid, told.owner.gid) == (child, 65534, 65534)
        books(seen, "CONNECT", filtered=1)


def books(seen: Seen, kind: str, *, filtered: int) -> None:
    """The ledger adds up; at least ``filtered`` were filtered (others connect on this host too)."""
    ledger = seen.ledger(kind)
    lost = ledger["lost_ring"] + ledger["lost_map"]
    assert ledger["seen"] == ledger["emitted"] + ledger["filtered"] + lost
    assert ledger["emitted"] == len(
        [one for one in seen.events if KINDS[one.kind.upper().replace("-", "_")] == KINDS[kind]]
    )
    assert ledger["filtered"] >= filtered


def test_only_the_wanted_port_is_told_whichever_end_it_is_of(veth: Veth) -> None:
    with tracing(veth.client, veth.server, kinds="CONNECT ACCEPT", ports=frozenset({4567})) as seen:
        connection(veth)
        assert connection(veth, 4567) == 4567
        connection(veth)
        (connect,), (accept,) = seen.until(kind="connect"), seen.until(kind="accept")
        assert (connect.tuple.remote_port, accept.tuple.local_port) == (4567, 4567)
        books(seen, "CONNECT", filtered=2)
        books(seen, "ACCEPT", filtered=2)


@pytest.mark.parametrize(
    ("network", "told"),
    [("192.0.2.1/32", 1), ("192.0.2.0/24", 1), ("0.0.0.0/0", 1), ("198.51.100.0/24", 0), ("::/0", 0)],
)
def test_only_the_wanted_network_is_told_whichever_end_it_is_of(veth: Veth, network: str, told: int) -> None:
    with tracing(veth.client, kinds="CONNECT LISTEN", networks=(ip_network(network),)) as seen:
        connection(veth)
        assert seen.ledger("CONNECT")["emitted"] == told
        seen.take()
        assert len([one for one in seen.events if one.kind == "connect"]) == told
        books(seen, "CONNECT", filtered=1 - told)


def test_only_the_wanted_network_namespace_is_told(lab: Lab, veth: Veth) -> None:
    other = lab.veth()
    with tracing(veth.client, kinds="CONNECT") as seen:
        connection(other)
        connection(veth)
        (told,) = seen.until(kind="connect")
        assert told.tuple.netns == inode(veth.client)
        books(seen, "CONNECT", filtered=1)


def test_a_cgroup_is_told_until_it_is_rejected_and_again_when_it_is_wanted(veth: Veth) -> None:
    mine = own_cgroup(veth)
    with tracing(veth.server, kinds="LISTEN", by_cgroup=True) as seen:
        with listener(veth.server, veth.server.ipv4):
            assert seen.ledger("LISTEN")["emitted"] == 1
        for wanted, count in ((False, 1), (False, 1), (True, 2), (True, 3)):
            seen.tracing.select_cgroup(mine, wanted)
            with listener(veth.server, veth.server.ipv4):
                assert seen.ledger("LISTEN")["emitted"] == count
        assert len(seen.until(kind="listen", count=3)) == 3
        books(seen, "LISTEN", filtered=2)


def own_cgroup(veth: Veth) -> int:
    with tracing(veth.server, kinds="LISTEN") as seen, listener(veth.server, veth.server.ipv4):
        (told,) = seen.until(kind="listen")
        assert told.owner is not None
        assert told.owner.cgroup is not None
        return told.owner.cgroup


def test_an_owner_that_is_not_known_passes_a_filter_for_processes(veth: Veth) -> None:
    with listener(veth.server, veth.server.ipv4) as wait, client(veth.client) as asks:
        asks.connect(wait.getsockname())
        with wait.accept()[0] as takes, tracing(veth.client, kinds="CLOSE", pids=frozenset({1})) as seen:
            takes.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            takes.close()
            (told,) = seen.until(kind="close")
            assert told.owner is None
            assert seen.ledger("CLOSE")["unknown"] == 1


def test_kinds_that_are_not_wanted_are_counted_as_filtered(veth: Veth) -> None:
    with tracing(veth.client, veth.server, kinds="CLOSE") as seen:
        connection(veth)
        seen.until(kind="close", count=2)
        assert {one.kind for one in seen.events} == {"close"}
        for kind in ("CONNECT", "ACCEPT", "LISTEN"):
            ledger = seen.ledger(kind)
            assert ledger["seen"] == ledger["filtered"] > 0


def test_a_full_ring_is_counted_as_lost(veth: Veth) -> None:
    wanted = KernelFilter(kinds=frozenset({KINDS["LISTEN"]}), netns=frozenset({inode(veth.server)}))
    with Tracing(wanted, ring_bytes=4096) as session:
        seen = Seen(session)
        size = abi().structs["xg_event"].size + 8
        for _ in range(30):
            listener(veth.server, veth.server.ipv4).close()
        ledger = seen.ledger("LISTEN")
        seen.take()
        assert ledger["emitted"] == len(seen.events) == (4096 - 1) // size
        assert ledger["emitted"] + ledger["lost_ring"] == 30
        listener(veth.server, veth.server.ipv4).close()
        seen.until(kind="listen", count=len(seen.events) + 1)


def test_a_full_flow_table_is_counted_as_lost(veth: Veth, monkeypatch: pytest.MonkeyPatch) -> None:
    from xdpguard.kernel import tracemaps

    monkeypatch.setattr(tracemaps, "_FLOWS", 8)
    with (
        tracing(veth.client, kinds="UDP_SEND") as seen,
        inside(veth.client.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as asks,
    ):
        for port in range(1, 31):
            asks.sendto(b"x", (veth.server.ipv4, port))
        ledger = seen.ledger("UDP_SEND")
        flows = seen.flows()
        assert ledger["emitted"] == len(flows)
        assert ledger["lost_map"] == 30 - len(flows) > 0


# ---- processes ------------------------------------------------------------------------------------------
def test_a_process_is_told_from_its_fork_to_its_end() -> None:
    with Tracing(KernelFilter(kinds=frozenset({KINDS["FORK"], KINDS["EXEC"], KINDS["EXIT"]}))) as session:
        seen = Seen(session)
        child = subprocess.Popen(["/bin/true"], preexec_fn=lambda: os.setuid(65534))
        child.wait()
        fork, run, end = (seen.task(kind, child.pid) for kind in ("fork", "exec", "exit"))
    assert fork.process == run.process == end.process
    assert {one.parent for one in (fork, run, end)} == {fork.parent}
    assert fork.parent is not None
    assert fork.parent.pid == os.getpid()
    assert fork.process.start_time >= fork.parent.start_time
    assert (fork.path, run.path, end.path) == (None, "/bin/true", None)
    assert (run.comm, end.comm) == ("true", "true")
    assert (fork.uid, run.uid) == (os.getuid(), 65534)
    assert fork.time < run.time < end.time
    assert fork.cgroup == run.cgroup is not None
    assert pwd.getpwuid(run.uid)


def test_threads_are_no_processes() -> None:
    script = "import threading; [threading.Thread(target=print).start() for _ in range(5)]"
    with Tracing(KernelFilter(kinds=frozenset({KINDS["FORK"], KINDS["EXIT"]}))) as session:
        seen = Seen(session)
        child = subprocess.Popen([sys.executable, "-S", "-c", script], stdout=subprocess.DEVNULL)
        child.wait()
        seen.task("exit", child.pid)
        mine = [
            one for one in seen.tasks if child.pid in (one.process.pid, one.parent.pid if one.parent else 0)
        ]
    assert [one.kind for one in mine] == ["fork", "exit"]


def test_a_process_whose_first_thread_ended_before_ends_once() -> None:
    """Its last thread tells the end, with the process's number."""
    script = (
        "import ctypes, os, threading\n"
        "main = threading.main_thread()\n"
        "def last():\n"
        "    os.read(0, 1)\n"
        "    os._exit(0)\n"
        "threading.Thread(target=last).start()\n"
        "ctypes.CDLL(None).syscall(60 if os.uname().machine == 'x86_64' else 93, 0)\n"
    )
    with Tracing(KernelFilter(kinds=frozenset({KINDS["EXIT"]}))) as session:
        seen = Seen(session)
        child = subprocess.Popen([sys.executable, "-S", "-c", script], stdin=subprocess.PIPE)
        child.communicate(b"x", timeout=20)
        seen.task("exit", child.pid)
        assert len([one for one in seen.tasks if one.process.pid == child.pid]) == 1


def test_a_trace_that_is_killed_leaves_no_program() -> None:
    script = (
        "import sys\n"
        "from xdpguard.kernel.tracing import KernelFilter, Tracing\n"
        "session = Tracing(KernelFilter())\n"
        "print(session.cost().programs[0].name, flush=True)\n"
        "sys.stdin.read()\n"
    )
    child = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdout.readline().startswith(b"xdpguard_")
    held = [one.readlink() for one in Path(f"/proc/{child.pid}/fd").iterdir()]
    assert [one for one in held if "bpf-prog" in one.name]
    mapped = {line.split()[-1] for line in Path(f"/proc/{child.pid}/maps").read_text().splitlines()}
    assert not [one for one in mapped if "bcc" in Path(one).name]
    child.send_signal(signal.SIGKILL)
    child.communicate()


def test_the_threads_name_is_told(veth: Veth) -> None:
    def listens() -> None:
        Path("/proc/thread-self/comm").write_text("a-listener")
        listener(veth.server, veth.server.ipv4).close()

    with tracing(veth.server, kinds="LISTEN") as seen:
        thread = threading.Thread(target=listens)
        thread.start()
        thread.join()
        (told,) = seen.until(kind="listen")
        assert told.owner is not None
        assert told.owner.comm == "a-listener"


def test_threads_that_are_ended_together_are_one_end() -> None:
    script = (
        "import os, threading, time\n"
        "for _ in range(20):\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "os._exit(0)\n"
    )
    with Tracing(KernelFilter(kinds=frozenset({KINDS["EXIT"]}))) as session:
        seen = Seen(session)
        children = [subprocess.Popen([sys.executable, "-S", "-c", script]) for _ in range(5)]
        for child in children:
            child.wait()
            seen.task("exit", child.pid)
        told = [one.process.pid for one in seen.tasks]
        assert [told.count(child.pid) for child in children] == [1] * 5
