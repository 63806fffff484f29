"""UDP between two namespaces: who sent and received what, counted by socket and peer."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Iterator

import pytest
from lab import Veth
from test_trace_events import ends, me
from test_trace_support import FORMS, Seen, addresses, datagram, tracing

from xdpguard.trace.model import Event

MSG_PEEK = socket.MSG_PEEK


@pytest.fixture
def seen(veth: Veth) -> Iterator[Seen]:
    with tracing(veth.client, veth.server, kinds="UDP_SEND UDP_RECV") as found:
        yield found


def one(flows: list[Event], kind: str) -> Event:
    (found,) = (flow for flow in flows if flow.kind == kind)
    return found


def counted(flow: Event) -> tuple[int, int]:
    """Datagrams and bytes of either direction."""
    assert flow.counts is not None
    sent, received = flow.counts.packets_sent, flow.counts.packets_received
    return sent + received, flow.counts.bytes_sent + flow.counts.bytes_received


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "unconnected"])
@pytest.mark.parametrize("form", FORMS)
def test_both_ends_are_told_with_their_counts(veth: Veth, seen: Seen, form: str, connected: bool) -> None:
    family, to, here, there, version = addresses(form, veth)
    with (
        datagram(veth.server, "::" if family == 10 else there, family) as takes,
        datagram(veth.client, "", family) as asks,
    ):
        port = takes.getsockname()[1]
        if connected:
            asks.connect((to, port))
        for size in (1, 20, 300):
            if connected:
                asks.send(bytes(size))
            else:
                asks.sendto(bytes(size), (to, port))
            takes.recvfrom(1000)
        mine = asks.getsockname()[1]
    flows = seen.flows()
    sent, received = one(flows, "udp-send"), one(flows, "udp-recv")
    assert counted(sent) == counted(received) == (3, 321)
    assert me(sent.owner)
    assert me(received.owner)
    assert ends(sent)[1:] == (mine, there, port)
    assert ends(received)[1:] == (port, here, mine)
    assert (sent.tuple.family, received.tuple.family) == (version, version)
    assert sent.tuple.protocol == received.tuple.protocol == "udp"


def test_each_peer_of_an_unconnected_socket_has_its_own_counts(veth: Veth, seen: Seen) -> None:
    count = 40
    askers = [datagram(veth.client) for _ in range(count)]
    with datagram(veth.server, veth.server.ipv4) as takes:
        for number, asks in enumerate(askers):
            asks.sendto(bytes(number + 1), takes.getsockname())
            data, peer = takes.recvfrom(1000)
            takes.sendto(data + data, peer)
            asks.recv(1000)
        at = takes.getsockname()[1]
    mine = {asks.getsockname()[1]: number + 1 for number, asks in enumerate(askers)}
    for asks in askers:
        asks.close()
    flows = [flow for flow in seen.flows() if flow.tuple.local_port == at]
    for kind, factor in (("udp-recv", 1), ("udp-send", 2)):
        told = {flow.tuple.remote_port: counted(flow) for flow in flows if flow.kind == kind}
        assert told == {port: (1, size * factor) for port, size in mine.items()}


def test_messages_with_a_name_of_their_own_go_to_that_peer(veth: Veth, seen: Seen) -> None:
    with datagram(veth.server, veth.server.ipv4) as takes, datagram(veth.client) as asks:
        asks.sendmsg([b"abc", b"de"], [], 0, takes.getsockname())
        data, _, _, peer = takes.recvmsg(1000)
        assert data == b"abcde"
    flows = seen.flows()
    assert one(flows, "udp-send").tuple.remote_port == takes_port(flows)
    assert one(flows, "udp-recv").tuple.remote_port == peer[1]


def takes_port(flows: list[Event]) -> int | None:
    return one(flows, "udp-recv").tuple.local_port


def test_a_peek_is_not_counted(veth: Veth, seen: Seen) -> None:
    with datagram(veth.server, veth.server.ipv4) as takes, datagram(veth.client) as asks:
        asks.sendto(b"once", takes.getsockname())
        assert takes.recv(100, MSG_PEEK) == takes.recv(100) == b"once"
    assert counted(one(seen.flows(), "udp-recv")) == (1, 4)


def test_what_could_not_be_sent_is_not_counted(veth: Veth, seen: Seen) -> None:
    with datagram(veth.client) as asks:
        with pytest.raises(OSError, match="Message too long"):
            asks.sendto(bytes(70_000), (veth.server.ipv4, 9))
        asks.sendto(b"fits", (veth.server.ipv4, 9))
    assert counted(one(seen.flows(), "udp-send")) == (1, 4)


def test_an_empty_datagram_counts_as_one(veth: Veth, seen: Seen) -> None:
    with datagram(veth.client) as asks:
        asks.sendto(b"", (veth.server.ipv4, 9))
    assert counted(one(seen.flows(), "udp-send")) == (1, 0)


def test_a_peer_that_nobody_asked_for_is_not_guessed(veth: Veth, seen: Seen) -> None:
    if "kprobe" in seen.tracing.sources["udp-recv"]:
        pytest.skip("with kprobes the packet itself tells")
    with datagram(veth.server, veth.server.ipv4) as takes, datagram(veth.client) as asks:
        asks.sendto(b"who", takes.getsockname())
        takes.recv(100)
    told = one(seen.flows(), "udp-recv")
    assert (told.tuple.family, told.tuple.remote, told.tuple.remote_port) == (4, None, None)
    assert any("udp-recv" in line for line in seen.tracing.missing)


def test_sockets_that_follow_one_another_are_told_apart(veth: Veth, seen: Seen) -> None:
    """The kernel gives the next socket the address of the one before, and nothing tells of that one's end."""
    sent: Counter[tuple[int | None, int]] = Counter()
    with datagram(veth.server, veth.server.ipv4) as takes:
        for number in range(2000):
            with datagram(veth.client) as asks:
                asks.sendto(bytes(number % 7), takes.getsockname())
                port = asks.getsockname()[1]
            sent.update({(port, 0): 1, (port, 1): number % 7})
    told = [flow for flow in seen.flows() if flow.kind == "udp-send"]
    found: Counter[tuple[int | None, int]] = Counter()
    for flow in told:
        found.update({(flow.tuple.local_port, index): count for index, count in enumerate(counted(flow))})
    assert found == sent
    assert len({flow.sock for flow in told}) < len(told), "no address came again: this test tests nothing"


def test_sockets_of_one_port_that_follow_one_another_are_told_apart_by_their_addresses(
    veth: Veth, seen: Seen
) -> None:
    sent = {f"127.0.{number // 200}.{number % 200}": (1, number % 7) for number in range(200, 2200)}
    with datagram(veth.client, "127.0.0.1") as takes:
        for address, (_, size) in sent.items():
            with datagram(veth.client) as asks:
                asks.bind((address, 5000))
                asks.sendto(bytes(size), takes.getsockname())
    told = [flow for flow in seen.flows() if flow.kind == "udp-send"]
    assert {str(flow.tuple.local): counted(flow) for flow in told} == sent
    assert len({flow.sock for flow in told}) < len(told), "no address came again: this test tests nothing"


def test_nothing_is_counted_twice_or_lost_between_two_readings(veth: Veth, seen: Seen) -> None:
    rounds, found = 300, 0
    with datagram(veth.server, veth.server.ipv4) as takes, datagram(veth.client) as asks:
        asks.connect(takes.getsockname())
        child = os.fork()
        if not child:
            for _ in range(rounds):
                asks.send(b"x")
            os._exit(0)
        while not found or os.waitpid(child, os.WNOHANG)[0] == 0:
            found += sum(counted(flow)[0] for flow in seen.flows() if flow.kind == "udp-send")
        found += sum(counted(flow)[0] for flow in seen.flows() if flow.kind == "udp-send")
    assert found == rounds
    books = seen.ledger("UDP_SEND")
    assert books["seen"] == books["emitted"] + books["filtered"] + books["lost_map"]
    assert books["emitted"] == rounds
