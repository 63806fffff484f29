"""Real connections and datagrams between two namespaces, as this kernel's probes tell them."""

from __future__ import annotations

import errno
import os
import platform
import socket
import struct
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from lab import Veth, run
from test_trace_support import FORMS, PATIENCE, Seen, addresses, client, inode, listener, tracing

from xdpguard.trace.model import Event, Owner


def me(owner: Owner | None) -> bool:
    """Is it this very thread?"""
    assert owner is not None
    told = (owner.process.pid, owner.tid, owner.uid, owner.gid, owner.attribution)
    return told == (os.getpid(), threading.get_native_id(), os.getuid(), os.getgid(), "exact")


def started() -> float:
    """When this process began, in seconds since boot, to one clock tick (proc_pid_stat(5), field 22)."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def ends(event: Event) -> tuple[str, int | None, str, int | None]:
    known = event.tuple
    return str(known.local), known.local_port, str(known.remote), known.remote_port


@pytest.mark.parametrize("form", FORMS)
def test_a_connection_is_told_at_both_ends_with_its_processes(veth: Veth, form: str) -> None:
    family, to, here, there, version = addresses(form, veth)
    with (
        tracing(veth.client, veth.server) as seen,
        listener(veth.server, "::" if family == 10 else there, family) as wait,
    ):
        port = wait.getsockname()[1]
        with client(veth.client, family) as asks:
            asks.connect((to, port))
            with wait.accept()[0]:
                (connect,), (accept,) = seen.until(kind="connect"), seen.until(kind="accept")
                mine = asks.getsockname()[1]
                assert ends(connect) == (here, mine, there, port)
                assert ends(accept) == (there, port, here, mine)
    for event, end in ((connect, veth.client), (accept, veth.server)):
        assert (event.tuple.family, event.tuple.protocol, event.tuple.netns) == (version, "tcp", inode(end))
        assert me(event.owner)
        assert event.ifindex == end.ifindex
        assert event.opened is not None
        assert event.opened <= event.time
    assert (connect.incoming, accept.incoming) == (False, True)
    assert connect.handshake_ns is not None
    assert 0 < connect.handshake_ns <= connect.time - (connect.opened or 0)
    assert accept.handshake_ns is not None  # the SYN-ACK's round trip


def test_the_owner_has_the_start_time_and_the_cgroup_that_proc_tells(veth: Veth) -> None:
    with tracing(veth.server) as seen, listener(veth.server, veth.server.ipv4):
        (told,) = seen.until(kind="listen")
        assert told.owner is not None
        assert abs(told.owner.process.start_time / 1e9 - started()) <= 2 / os.sysconf("SC_CLK_TCK")
        root = seen.tracing.cgroup_root
        assert root is not None
        controller = seen.tracing.cgroup_controller
        lines = (line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines())
        path = next(path for _, names, path in lines if controller in names.split(","))
        assert told.owner.cgroup == (root / path.lstrip("/")).stat().st_ino
        assert me(told.owner)
        assert told.tuple.remote is None


def test_a_socket_that_does_not_wait_for_its_connection_has_the_whole_handshake_time(veth: Veth) -> None:
    with (
        tracing(veth.client, veth.server) as seen,
        listener(veth.server, veth.server.ipv4) as wait,
        client(veth.client) as asks,
    ):
        asks.setblocking(False)
        to = wait.getsockname()
        assert asks.connect_ex(to) == errno.EINPROGRESS
        assert asks.connect_ex(to) in (0, errno.EALREADY, errno.EISCONN)
        (connect,) = seen.until(kind="connect")
        assert me(connect.owner)
        assert connect.handshake_ns is not None
        assert 0 < connect.handshake_ns <= connect.time - (connect.opened or 0)
        assert len(seen.until(kind="connect")) == 1


def test_a_connection_that_is_refused_says_so_and_is_not_closed(veth: Veth) -> None:
    with tracing(veth.client, veth.server) as seen:
        with listener(veth.server, veth.server.ipv4) as wait:
            to = wait.getsockname()
        with client(veth.client) as asks:
            assert asks.connect_ex(to) == errno.ECONNREFUSED
        (failed,) = seen.until(kind="connect-failed")
        assert failed.error == "ECONNREFUSED"
        assert me(failed.owner)
        assert ends(failed)[2:] == to
        again(seen, veth)
        assert not [
            one
            for one in seen.events
            if one.kind in ("connect", "close") and one.sock == failed.sock and one.time < failed.time
        ]


def again(seen: Seen, veth: Veth) -> None:
    """A whole connection: what came before it is told before it."""
    with listener(veth.server, veth.server.ipv4) as wait, client(veth.client) as asks:
        asks.connect(wait.getsockname())
        with wait.accept()[0]:
            seen.until(kind="accept", local_port=wait.getsockname()[1])


def test_giving_up_before_the_answer_is_told_as_aborted(veth: Veth) -> None:
    run(veth.server.name, "ip", "link", "set", veth.server.dev, "down")
    with tracing(veth.client) as seen:
        with client(veth.client) as asks:
            asks.setblocking(False)
            assert asks.connect_ex((veth.server.ipv4, 9)) == errno.EINPROGRESS
        (failed,) = seen.until(kind="connect-failed")
        assert failed.error == "aborted"
        assert me(failed.owner)


def test_a_connection_that_fails_before_a_packet_is_sent_says_why(veth: Veth) -> None:
    with tracing(veth.client) as seen, client(veth.client) as asks:
        assert asks.connect_ex(("203.0.113.9", 9)) == errno.ENETUNREACH
        if "kprobe" not in seen.tracing.sources["connect-failed"]:
            assert any(line.startswith("connect-failed: without kprobes") for line in seen.tracing.missing)
            pytest.skip("this kernel has no kprobes, and nothing else tells of it")
        (failed,) = seen.until(kind="connect-failed")
        assert failed.error == "ENETUNREACH"
        assert ends(failed)[2:] == ("203.0.113.9", 9)
        assert me(failed.owner)


def test_a_connection_for_which_there_is_no_port_fails_once(veth: Veth) -> None:
    with (
        tracing(veth.client, veth.server) as seen,
        listener(veth.server, veth.server.ipv4) as wait,
        client(veth.client) as first,
        client(veth.client) as second,
    ):
        first.connect(wait.getsockname())
        second.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        first.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        second.bind(first.getsockname())
        assert second.connect_ex(wait.getsockname()) == errno.EADDRNOTAVAIL
        (failed,) = seen.until(kind="connect-failed")
        assert me(failed.owner)
        assert ends(failed)[2:] == wait.getsockname()
        if "kprobe" in seen.tracing.sources["connect-failed"]:
            assert failed.error == "EADDRNOTAVAIL"
        again(seen, veth)
        assert len([one for one in seen.events if one.kind == "connect-failed"]) == 1


def test_a_close_has_the_counts_of_both_directions(veth: Veth) -> None:
    sent, answered = 300_000, 70_000
    with tracing(veth.client, veth.server) as seen, listener(veth.server, veth.server.ipv4) as wait:
        with client(veth.client) as asks, ThreadPoolExecutor(1) as pool:
            asks.connect(wait.getsockname())
            mine = asks.getsockname()[1]
            with wait.accept()[0] as takes:
                takes.settimeout(PATIENCE)
                sending = pool.submit(asks.sendall, bytes(sent))
                assert received(takes, sent) == sent
                sending.result(PATIENCE)
                takes.sendall(bytes(answered))
                assert received(asks, answered) == answered
        (here,) = seen.until(kind="close", local_port=mine)
        (there,) = seen.until(kind="close", remote_port=mine)
    assert here.counts is not None
    assert there.counts is not None
    assert (here.counts.bytes_sent, here.counts.bytes_received) == (sent, answered)
    assert (there.counts.bytes_sent, there.counts.bytes_received) == (answered, sent)
    assert here.counts.packets_sent > 1
    assert here.counts.packets_received > 1
    assert here.counts.rtt_us
    assert (here.incoming, there.incoming) == (False, True)
    for event in (here, there):
        assert me(event.owner)
        assert event.opened is not None
        assert event.opened < event.time
        assert event.ifindex


def received(one: socket.socket, wanted: int) -> int:
    count = 0
    while count < wanted and (data := one.recv(1 << 16)):
        count += len(data)
    return count


def test_a_reset_is_a_close_with_its_owner(veth: Veth) -> None:
    with (
        tracing(veth.client, veth.server) as seen,
        listener(veth.server, veth.server.ipv4) as wait,
        client(veth.client) as asks,
    ):
        asks.connect(wait.getsockname())
        takes, _ = wait.accept()
        takes.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        takes.close()
        closes = seen.until(kind="close", count=2)
        assert {one.incoming for one in closes} == {False, True}
        assert all(me(one.owner) for one in closes)


def test_what_is_sent_again_is_told_with_the_sockets_owner(veth: Veth) -> None:
    with (
        tracing(veth.client, kinds="CONNECT RETRANSMIT") as seen,
        listener(veth.server, veth.server.ipv4) as wait,
        client(veth.client) as asks,
    ):
        asks.connect(wait.getsockname())
        (connect,) = seen.until(kind="connect")
        run(veth.server.name, "ip", "link", "set", veth.server.dev, "down")
        asks.send(b"nobody answers")
        first = seen.until(kind="retransmit")[0]
        assert (first.sock, first.tuple) == (connect.sock, connect.tuple)
        assert me(first.owner)


def test_two_threads_that_connect_at_once_are_told_apart(veth: Veth) -> None:
    count, start = 50, threading.Barrier(2)

    def connects(port: int) -> tuple[int, set[int]]:
        mine = set()
        start.wait(PATIENCE)
        for _ in range(count):
            with client(veth.client) as asks:
                asks.connect((veth.server.ipv4, port))
                mine.add(asks.getsockname()[1])
        return threading.get_native_id(), mine

    with tracing(veth.client, kinds="CONNECT") as seen, listener(veth.server, veth.server.ipv4) as wait:
        wait.listen(2 * count)
        with ThreadPoolExecutor(2) as pool:
            done = [
                one.result(PATIENCE)
                for one in [pool.submit(connects, wait.getsockname()[1]) for _ in range(2)]
            ]
        told = seen.until(kind="connect", count=2 * count)
    for thread, ports in done:
        assert {one.tuple.local_port for one in told if one.owner and one.owner.tid == thread} == ports
        assert len(ports) == count


def test_an_accept_that_was_waiting_before_the_trace_began_is_exact(veth: Veth) -> None:
    with listener(veth.server, veth.server.ipv4) as wait, ThreadPoolExecutor(1) as pool:
        wait.settimeout(None)
        thread = pool.submit(threading.get_native_id).result()
        accepting = pool.submit(wait.accept)
        await_accept(thread)
        with tracing(veth.server) as seen, client(veth.client) as asks:
            asks.connect(wait.getsockname())
            accepting.result(PATIENCE)[0].close()
            (accept,) = seen.until(kind="accept")
    assert accept.owner is not None
    assert (accept.owner.tid, accept.owner.attribution) == (thread, "exact")


def await_accept(thread: int) -> None:
    """Until a thread of this process waits in accept4()."""
    number = {"x86_64": "288", "aarch64": "242"}[platform.machine()]
    state = Path(f"/proc/self/task/{thread}/syscall")
    deadline = time.monotonic() + PATIENCE
    while state.read_text().split()[0] != number:
        assert time.monotonic() < deadline


def test_an_older_connection_is_attributed_to_whom_uses_it_first(veth: Veth) -> None:
    with listener(veth.server, veth.server.ipv4) as wait, client(veth.client) as asks:
        asks.connect(wait.getsockname())
        mine = asks.getsockname()[1]
        with wait.accept()[0] as takes, tracing(veth.client, veth.server, kinds="CLOSE") as seen:
            asks.send(b"x")
            assert takes.recv(1) == b"x"
            takes.close()
            asks.close()
            told = [
                *seen.until(kind="close", local_port=mine),
                *seen.until(kind="close", remote_port=mine),
            ]
    for close in told:
        assert close.owner is not None
        assert (close.owner.process.pid, close.owner.attribution) == (os.getpid(), "late")
        assert close.opened is None
