"""Sockets that are there already, listed by this kernel and joined with the processes that have them open."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from lab import Lab, inside

from xdpguard.identity import process, sockets
from xdpguard.kernel import netns, sock_diag
from xdpguard.trace import existing
from xdpguard.trace.seeds import SeededSocket

pytestmark = pytest.mark.usefixtures("no_leaks")

HOST = "127.0.0.1"
ME = os.getpid()
STREAM, DGRAM = socket.SOCK_STREAM, socket.SOCK_DGRAM
Keep = Callable[[socket.socket], socket.socket]


@pytest.fixture
def keep() -> Iterator[Keep]:
    """``keep(socket)`` closes it after the test."""
    with ExitStack() as stack:
        yield stack.enter_context


def opened(keep: Keep, ns: str, kind: int = STREAM, family: int = socket.AF_INET) -> socket.socket:
    return keep(inside(ns, socket.socket, family, kind))


def listening(keep: Keep, ns: str, port: int) -> socket.socket:
    listener = opened(keep, ns)
    listener.bind((HOST, port))
    listener.listen()
    return listener


def connected(keep: Keep, ns: str, server: int, client: int) -> tuple[socket.socket, socket.socket]:
    """(client's end, server's end) of a connection between two ports."""
    listener, one = listening(keep, ns, server), opened(keep, ns)
    one.bind((HOST, client))
    one.connect((HOST, server))
    return one, keep(listener.accept()[0])


@contextmanager
def child(work: Callable[[], object]) -> Iterator[int]:
    """A forked process that has done ``work`` and keeps what that returned until the block ends."""
    ready, done = os.pipe()
    resume, stay = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.close(stay)
            kept = work()  # noqa: F841
            os.write(done, b"+")
            os.read(resume, 1)
        finally:
            os._exit(0)
    os.close(done)
    try:
        assert os.read(ready, 1) == b"+", "the child failed"
        yield pid
    finally:
        for fd in (ready, resume, stay):
            os.close(fd)
        with suppress(ChildProcessError):  # a test has waited for it
            os.waitpid(pid, 0)


def inode(ns: str) -> int:
    return (netns.FOLDER / ns).stat().st_ino


def seen(*names: str) -> list[SeededSocket]:
    return list(existing.look(only={inode(name) for name in names}).sockets)


def one(found: list[SeededSocket], port: int) -> SeededSocket:
    """The only socket with this local port."""
    (match,) = [each for each in found if each.tuple.local_port == port]
    return match


def own(opened: socket.socket) -> sock_diag.TcpInfo:
    return sock_diag.tcp_info(opened.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 255))


def owner(found: SeededSocket) -> int | None:
    return found.owner.process.pid if found.owner is not None else None


# ---- the list -------------------------------------------------------------------------------------------
def test_a_listener_and_both_ends_of_a_connection_are_known(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    connected(keep, ns, 5000, 6000)
    found = seen(ns)
    client = one(found, 6000)
    listener, server = sorted((each for each in found if each is not client), key=lambda each: each.state)[
        ::-1
    ]
    assert [(each.state, owner(each), each.shared) for each in (listener, server, client)] == [
        ("LISTEN", ME, False),
        ("ESTABLISHED", ME, False),
        ("ESTABLISHED", ME, False),
    ]
    assert (listener.tuple.local, listener.tuple.local_port) == (IPv4Address(HOST), 5000)
    assert (listener.tuple.remote, listener.tuple.remote_port) == (None, None)
    assert (server.tuple.local_port, server.tuple.remote_port) == (5000, 6000)
    assert (client.tuple.remote, client.tuple.remote_port) == (IPv4Address(HOST), 5000)
    assert len({each.cookie for each in found}) == 3


def test_an_owner_is_this_process_with_all_that_names_it(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    holder = listening(keep, ns, 5000)
    found = one(seen(ns), 5000)
    me = process.read(Path("/proc"), ME)
    assert me is not None
    assert found.inode == os.fstat(holder.fileno()).st_ino
    assert found.owner is not None
    assert (found.owner.process.pid, found.owner.process.start_time) == (ME, me.started)
    assert (found.owner.uid, found.owner.gid, found.owner.comm) == (me.uid, me.gid, me.comm)
    assert found.owner.attribution == "procfs"


def test_the_same_tuple_in_two_namespaces_has_two_owners(lab: Lab, keep: Keep) -> None:
    first, second = lab.namespace("a"), lab.namespace("b")
    connected(keep, first, 5000, 6000)
    with child(lambda: connected(lambda each: each, second, 5000, 6000)) as other:
        found = [each for each in seen(first, second) if each.tuple.local_port == 6000]
    mine, others = sorted(found, key=lambda each: each.netns != inode(first))
    assert (mine.netns, owner(mine)) == (inode(first), ME)
    assert (others.netns, owner(others)) == (inode(second), other)
    assert mine.tuple.remote_port == others.tuple.remote_port == 5000


def test_a_connection_that_nobody_has_accepted_is_nobodys(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    listening(keep, ns, 5000)
    client = opened(keep, ns)
    client.connect((HOST, 5000))
    (waiting,) = [each for each in seen(ns) if each.tuple.local_port == 5000 and each.state == "ESTABLISHED"]
    assert (waiting.inode, waiting.owner) == (0, None)


def test_bound_and_connected_udp_sockets_are_known(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    opened(keep, ns, DGRAM).bind((HOST, 5000))
    peer = opened(keep, ns, DGRAM)
    peer.bind((HOST, 6000))
    peer.connect((HOST, 5000))
    found = seen(ns)
    bound, talks = one(found, 5000), one(found, 6000)
    assert {each.protocol for each in found} == {"udp"}
    assert (bound.state, bound.tuple.remote, owner(bound)) == ("CLOSE", None, ME)
    assert (talks.state, talks.tuple.remote, talks.tuple.remote_port, owner(talks)) == (
        "ESTABLISHED",
        IPv4Address(HOST),
        5000,
        ME,
    )


@pytest.mark.parametrize(
    ("v6only", "address", "family", "dual"),
    [(0, "::", 6, True), (1, "::", 6, False), (0, "::1", 6, False), (0, "::ffff:127.0.0.1", 4, False)],
)
@pytest.mark.parametrize("kind", [STREAM, DGRAM])
def test_an_ipv6_socket_is_known_for_what_it_takes(
    v6only: int, address: str, family: int, dual: bool, kind: int, lab: Lab, keep: Keep
) -> None:
    ns = lab.namespace("a")
    bound = opened(keep, ns, kind, socket.AF_INET6)
    bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, v6only)
    bound.bind((address, 5000))
    if kind == STREAM:
        bound.listen()
    found = one(seen(ns), 5000)
    mapped = IPv6Address(address).ipv4_mapped
    assert (found.tuple.family, found.dual) == (family, dual)
    assert found.tuple.local == (mapped or ip_address(address))


def test_an_ipv6_socket_that_is_connected_to_ipv4_is_ipv4(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    listening(keep, ns, 5000)
    client = opened(keep, ns, STREAM, socket.AF_INET6)
    client.bind(("::", 6000))
    client.connect((f"::ffff:{HOST}", 5000))
    ends = one(seen(ns), 6000).tuple
    assert (ends.family, ends.local, ends.remote) == (4, IPv4Address(HOST), IPv4Address(HOST))


def test_tcp_info_and_the_bound_device_are_what_the_socket_itself_says(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    client, server = connected(keep, ns, 5000, 6000)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
    client.sendall(bytes(1234))
    server.recv(1234, socket.MSG_WAITALL)
    before = own(client)
    listed, notes = inside(ns, sock_diag.listed, info=True)
    (found,) = [each for each in listed if each.local_port == 6000]
    assert notes == ()
    assert found.ifindex == 1
    assert found.info is not None
    assert found.info.bytes_sent == own(client).bytes_sent == 1234
    # A delayed acknowledgement may have come meanwhile.
    assert found.info.rtt_us in {before.rtt_us, own(client).rtt_us} - {None}
    plain, _ = inside(ns, sock_diag.listed)
    assert {each.info for each in plain} == {None}


# ---- namespaces -----------------------------------------------------------------------------------------
def test_all_namespaces_are_seen_and_the_caller_stays_where_it_is(lab: Lab, keep: Keep) -> None:
    names = [lab.namespace("a"), lab.namespace("b")]
    for name in names:
        listening(keep, name, 5000)
    before, files = netns.identity(), sorted(os.listdir("/proc/self/fd"))  # noqa: PTH208
    found = sock_diag.everywhere().sockets
    for name in names:
        assert [each.local_port for each in found[inode(name)]] == [5000]
    assert before.inode in found
    assert netns.identity() == before
    assert sorted(os.listdir("/proc/self/fd")) == files  # noqa: PTH208


def test_a_namespace_without_a_name_is_found_by_its_process() -> None:
    def work() -> socket.socket:
        assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET
        bound = socket.socket(socket.AF_INET, DGRAM)
        bound.bind(("0.0.0.0", 5000))
        return bound

    with child(work) as pid:
        namespace = Path(f"/proc/{pid}/ns/net").stat().st_ino
        found = existing.look(only={namespace})
    (bound,) = found.sockets
    assert (bound.netns, owner(bound)) == (namespace, pid)


def test_a_namespace_that_was_not_asked_for_is_not_entered(lab: Lab, keep: Keep) -> None:
    first, second = lab.namespace("a"), lab.namespace("b")
    listening(keep, second, 5000)
    assert seen(first) == []


# ---- who has it open --------------------------------------------------------------------------------------
def test_a_listener_that_a_fork_inherited_belongs_to_the_parent(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    listening(keep, ns, 5000)
    with child(lambda: 0) as worker:
        found = one(seen(ns), 5000)
    assert (owner(found), found.shared) == (ME, False)
    assert {each.pid for each in found.holders} == {ME, worker}


def test_a_socket_that_siblings_share_is_the_older_ones_and_uncertain(lab: Lab, keep: Keep) -> None:
    ns = lab.namespace("a")
    listener = listening(keep, ns, 5000)
    with child(lambda: 0) as older, child(lambda: 0) as younger:
        listener.close()
        found = one(seen(ns), 5000)
    assert (owner(found), found.shared) == (older, True)
    assert {each.pid for each in found.holders} == {older, younger}


def test_a_process_that_ends_during_the_scan_owns_nothing(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    ns = lab.namespace("a")
    original = sockets._open_sockets
    with child(lambda: listening(lambda each: each, ns, 5000)) as pid:
        survey = sock_diag.everywhere({inode(ns)})

        def ending(place: Path) -> set[int]:
            result = original(place)
            if place.name == str(pid):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            return result

        monkeypatch.setattr(sockets, "_open_sockets", ending)
        held = sockets.scan(Path("/"), {each.inode for each in survey.sockets[inode(ns)]})
    (found,) = existing.joined(survey, held)
    assert (found.state, found.owner) == ("LISTEN", None)
    assert held.vanished >= 1
    assert seen(ns) == []


MAIN_THREAD_ENDS = """
import ctypes, platform, socket, sys, threading
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("127.0.0.1", 5000))
main = f"/proc/self/task/{threading.get_native_id()}/stat"
def stay():
    while open(main).read().rpartition(")")[2].split()[0] != "Z": pass
    print("ready", flush=True); sys.stdin.read(); ctypes.CDLL(None)._exit(0)
threading.Thread(target=stay).start()
ctypes.CDLL(None).syscall({"x86_64": 60}.get(platform.machine(), 93), 0)  # exit(2): this thread alone
"""


def test_a_process_whose_main_thread_has_ended_still_owns_its_sockets(lab: Lab) -> None:
    ns = lab.namespace("a")
    command = ["nsenter", f"--net={netns.FOLDER / ns}", sys.executable, "-c", MAIN_THREAD_ENDS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        assert program.stdin is not None
        try:
            assert program.stdout.readline() == b"ready\n"
            found = one(seen(ns), 5000)
        finally:
            program.stdin.close()
    assert owner(found) == program.pid
