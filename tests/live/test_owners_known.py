"""Whose a flow is, is remembered: a change counts from the next packet on; no flow is taken for another."""

from __future__ import annotations

import socket
from collections.abc import Callable

import pytest
from lab import inside
from packets import V4_DST, V4_SRC, eth, ipv4, ipv6, tcp, udp
from test_lifecycle_support import Site, frame
from test_owners_stale import PORT, bound
from test_owners_support import FIRST, SECOND, THIRD, Book, by_pid, send, side

from xdpguard.abi import abi
from xdpguard.trace.live import Live
from xdpguard.trace.model import Filter

pytestmark = pytest.mark.usefixtures("own_owners", "no_leaks")
ENDED, LINES = abi().numbers["XG_ENDED"], abi().numbers["XG_KNOWN_LINES"]
REMOTE = 5000


def packets(site: Site, hook: str = "ingress") -> dict[int | str, int]:
    return {pid: row[0] for pid, row in by_pid(side(site, hook)).items()}


def datagram(local: int = PORT, remote: int = REMOTE) -> bytes:
    return bytes(eth() / ipv4() / udp(sport=remote, dport=local))


def segment(flags: str) -> bytes:
    return bytes(eth() / ipv4() / tcp(REMOTE, PORT, flags))


def of_port(book: Book, pid: int) -> None:
    book.add(pid, PORT)


def of_address(book: Book, pid: int) -> None:
    book.add(pid, PORT, local=V4_DST)


def of_connection(book: Book, pid: int) -> None:
    book.add(pid, PORT, local=V4_DST, remote=V4_SRC, remote_port=REMOTE)


FORMS = [of_port, of_address, of_connection]


@pytest.mark.parametrize("form", FORMS)
def test_a_new_owner_is_told_from_the_next_packet_on(
    site: Site, book: Book, form: Callable[[Book, int], None]
) -> None:
    form(book, FIRST)
    send(site, *[datagram()] * 3)
    form(book, SECOND)
    send(site, *[datagram()] * 2)
    assert packets(site) == {FIRST: 3, SECOND: 2, "(unknown)": 2}


def test_what_is_nearer_to_the_packet_is_told_as_soon_as_it_is_there(site: Site, book: Book) -> None:
    for pid, form in zip((FIRST, SECOND, THIRD), FORMS, strict=True):
        form(book, pid)
        send(site, *[datagram()] * 2)
    assert packets(site) == {FIRST: 2, SECOND: 2, THIRD: 2, "(unknown)": 3}


def test_who_is_forgotten_is_not_told_any_more(site: Site, book: Book) -> None:
    book.add(FIRST, PORT)
    send(site, *[datagram()] * 3)
    book.map.clear()
    send(site, datagram())
    assert packets(site) == {FIRST: 3, "(unknown)": 3}


def test_a_closed_connection_is_still_its_owners_but_for_a_syn(site: Site, book: Book) -> None:
    book.add(FIRST, PORT, protocol=6)
    book.add(SECOND, PORT, local=V4_DST, remote=V4_SRC, remote_port=REMOTE, protocol=6, flags=ENDED)
    send(site, segment("A"), segment("S"), segment("A"), segment("S"), segment("A"))
    assert packets(site) == {SECOND: 3, FIRST: 2, "(unknown)": 1}


def test_the_same_flow_of_both_directions_protocols_and_families_is_four(site: Site, book: Book) -> None:
    book.add(FIRST, PORT)
    book.add(SECOND, PORT, protocol=6)
    book.add(THIRD, PORT, local="::")
    six = bytes(eth() / ipv6() / udp(sport=REMOTE, dport=PORT))
    send(site, *[datagram(), segment("A"), six] * 3)
    assert packets(site) == {FIRST: 3, SECOND: 3, THIRD: 3, "(unknown)": 1}
    send(site, *[datagram(REMOTE, PORT)] * 2, hook="egress")
    assert packets(site, "egress") == {FIRST: 2, "(unknown)": 1}


def test_more_flows_than_are_remembered_are_each_their_owners(site: Site, book: Book) -> None:
    for index, pid in enumerate((FIRST, SECOND, THIRD)):
        book.add(pid, PORT + index)
    flows = [datagram(PORT + number % 3, 10000 + number) for number in range(3 * LINES)]
    for _ in range(2):
        send(site, *flows)
    assert packets(site) == {FIRST: 2 * LINES, SECOND: 2 * LINES, THIRD: 2 * LINES, "(unknown)": 2}


def test_a_port_that_another_process_takes_is_its_from_the_next_datagram_on(site: Site, book: Book) -> None:
    """With a tracer, which tells who binds; the one before has ended."""
    with Live(Filter()):
        with bound(site.end.name) as first:
            send(site, *[frame(PORT)] * 3)
        with bound(site.end.name) as second:
            send(site, *[frame(PORT)] * 2)
    told = packets(site)
    assert (told[first.pid], told[second.pid]) == (3, 2)


def test_no_packet_of_a_traced_connection_is_unknown(site: Site, book: Book) -> None:
    with (
        Live(Filter()),
        inside(site.end.name, socket.socket) as listener,
        inside(site.peer.name, socket.socket) as near,
    ):
        listener.bind((site.end.ipv4, PORT))
        listener.listen()
        near.bind((site.peer.ipv4, REMOTE))
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        with far:
            near.sendall(b"x")
            assert far.recv(9) == b"x"
    assert "(unknown)" not in packets(site)
