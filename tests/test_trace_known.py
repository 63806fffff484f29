"""Sockets that are older than the tracing: found by their ends, or nobody's."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from trace_samples import ends

from xdpguard.trace.known import KnownSockets
from xdpguard.trace.model import Owner, ProcessKey, Tuple
from xdpguard.trace.seeds import SeededSocket

WEB = ends("192.0.2.1", 443, "198.51.100.7", 5)


def owner(pid: int) -> Owner:
    return Owner(ProcessKey(pid, 10_000_000), pid, 0, 0, None, "x", "procfs")


def socket(where: Tuple, pid: int | None, cookie: int = 1, **more: Any) -> SeededSocket:
    who = None if pid is None else owner(pid)
    return SeededSocket(where.netns, cookie, where.protocol, where, 111, who, "ESTABLISHED", **more)


def known(*sockets: SeededSocket) -> KnownSockets:
    found = KnownSockets()
    found.add(sockets)
    return found


def udp(local: str, port: int = 53, remote: str | None = None, remote_port: int | None = None) -> Tuple:
    return ends(local, port, remote, remote_port, protocol="udp")


def test_a_connection_is_found_by_all_of_its_ends() -> None:
    table = known(socket(WEB, 42))
    assert table.find(WEB) == owner(42)
    assert table.find(ends("192.0.2.1", 443, "198.51.100.7", 6)) is None


def test_the_same_ends_in_another_namespace_are_another_socket() -> None:
    table = known(socket(WEB, 42), socket(ends("192.0.2.1", 443, "198.51.100.7", 5, netns=9), 43, 2))
    assert table.find(ends("192.0.2.1", 443, "198.51.100.7", 5, netns=9)) == owner(43)


def test_a_listener_is_not_who_has_its_connections() -> None:
    assert known(socket(ends("192.0.2.1", 443, None, None), 42)).find(WEB) is None


def test_a_udp_socket_answers_for_every_peer() -> None:
    table = known(socket(udp("0.0.0.0"), 42))
    assert table.find(udp("192.0.2.1", 53, "198.51.100.7", 5)) == owner(42)
    assert table.find(udp("192.0.2.1", 54, "198.51.100.7", 5)) is None


def test_a_connected_udp_socket_comes_before_a_bound_one_and_a_bound_address_before_any() -> None:
    table = known(
        socket(udp("0.0.0.0"), 1, 1),
        socket(udp("192.0.2.1"), 2, 2),
        socket(udp("192.0.2.1", 53, "198.51.100.7", 5), 3, 3),
    )
    peers = (("192.0.2.1", 5), ("192.0.2.1", 6), ("192.0.2.2", 5))
    found = [table.find(udp(local, 53, "198.51.100.7", port)) for local, port in peers]
    assert found == [owner(3), owner(2), owner(1)]


def test_a_socket_of_both_families_is_found_by_an_ipv4_peer() -> None:
    table = known(socket(udp("::"), 42, dual=True))
    assert table.find(udp("192.0.2.1", 53, "198.51.100.7", 5)) == owner(42)
    assert known(socket(udp("::"), 42)).find(udp("192.0.2.1", 53, "198.51.100.7", 5)) is None


def test_two_owners_of_one_place_are_nobody() -> None:
    table = known(socket(udp("0.0.0.0"), 42, 1), socket(udp("0.0.0.0"), 43, 2), socket(udp("0.0.0.0"), 42, 3))
    assert table.find(udp("0.0.0.0")) is None


def test_two_sockets_of_one_process_are_its_own() -> None:
    table = known(socket(udp("0.0.0.0"), 42, 1), socket(udp("0.0.0.0"), 42, 2))
    assert table.find(udp("0.0.0.0")) == owner(42)


def test_a_socket_that_strangers_share_or_nobody_holds_is_nobody_s() -> None:
    assert known(socket(WEB, 42, shared=True)).find(WEB) is None
    assert known(socket(WEB, None)).find(WEB) is None


def test_a_closed_connection_is_forgotten() -> None:
    table = known(socket(WEB, 42))
    table.gone(WEB)
    assert table.find(WEB) is None
    assert len(table) == 0


def test_the_same_socket_again_changes_nothing() -> None:
    table = known(socket(WEB, 42))
    table.gone(WEB)
    table.add([socket(WEB, 42)])
    assert table.find(WEB) is None


def test_an_event_without_a_local_address_finds_nothing() -> None:
    table = known(socket(WEB, 42))
    assert table.find(Tuple(WEB.netns, 4, "tcp", None, 0, ip_address("198.51.100.7"), 5)) is None
