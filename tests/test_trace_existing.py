"""The kernel's list of sockets joined with /proc's: who had what before the tracing."""

from __future__ import annotations

from ipaddress import IPv4Address

from xdpguard.identity.process import Process
from xdpguard.identity.sockets import Held, Holder
from xdpguard.kernel.sock_diag import Socket, Survey
from xdpguard.trace.existing import joined
from xdpguard.trace.model import Owner, ProcessKey, Tuple

A, B = 4026531840, 4026532999
LOCAL, REMOTE = IPv4Address("192.0.2.1"), IPv4Address("192.0.2.2")


def made(pid: int, ppid: int = 1, start: int = 500) -> Process:
    return Process(pid, pid, f"p{pid}", None, 1000, 100, ppid, start, A, None)


def connection(inode: int, cookie: int = 7) -> Socket:
    return Socket(cookie, inode, 1000, "tcp", "ESTABLISHED", 4, LOCAL, 80, REMOTE, 5)


def held(**by_inode: list[Process]) -> Held:
    """``i111=[...]``: who holds the socket with the inode 111."""
    everyone = {one.pid: one for holders in by_inode.values() for one in holders}
    holders = {int(name[1:]): [Holder(one, 99) for one in found] for name, found in by_inode.items()}
    return Held(holders, everyone)


def test_a_socket_has_the_owner_who_has_its_inode_open() -> None:
    (found,) = joined(Survey({A: (connection(111),)}, ()), held(i111=[made(42)]))
    assert found.tuple == Tuple(A, 4, "tcp", LOCAL, 80, REMOTE, 5)
    assert found.owner == Owner(ProcessKey(42, 5_000_000_000), 42, 1000, 100, 99, "p42", "procfs")
    assert (found.netns, found.cookie, found.state, found.shared) == (A, 7, "ESTABLISHED", False)
    assert found.holders == (ProcessKey(42, 5_000_000_000),)


def test_a_socket_that_nobody_has_open_is_nobodys() -> None:
    first, second = joined(Survey({A: (connection(0), connection(222, 8))}, ()), held(i111=[made(42)]))
    assert (first.owner, second.owner) == (None, None)


def test_the_same_tuple_in_two_namespaces_is_two_sockets() -> None:
    survey = Survey({A: (connection(111),), B: (connection(222),)}, ())
    found = list(joined(survey, held(i111=[made(42)], i222=[made(43)])))
    assert [(one.netns, one.owner and one.owner.process.pid) for one in found] == [(A, 42), (B, 43)]


def test_a_socket_of_strangers_is_marked_and_one_of_a_family_is_not() -> None:
    survey = Survey({A: (connection(111), connection(222, 8))}, ())
    strangers, family = joined(survey, held(i111=[made(42), made(43)], i222=[made(50), made(51, 50, 501)]))
    assert (strangers.shared, family.shared) == (True, False)
    assert [one.pid for one in strangers.holders] == [42, 43]
    assert [one.pid for one in family.holders] == [50, 51]
    assert family.owner is not None
    assert family.owner.process.pid == 50
