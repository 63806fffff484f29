"""Sockets that are there already, listed by this kernel and joined with the processes that have them open."""

from __future__ import annotations

import ctypes
import os
import socket
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

import pytest
from lab import Lab, inside
from open_sockets import (
    DGRAM,
    HOST,
    ME,
    STREAM,
    Keep,
    child,
    connected,
    inode,
    listening,
    one,
    opened,
    own,
    owner,
    seen,
)

from xdpguard.identity import process
from xdpguard.kernel import netns, sock_diag
from xdpguard.trace import existing

pytestmark = pytest.mark.usefixtures("no_leaks")


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
