"""The hosts' own stacks with the filter between them: address resolution works, or does not."""

from __future__ import annotations

import socket

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab as network
import pytest
from lab import Veth
from test_traffic_support import every_mode, loaded, up_to_last

DENY = """version: 1
default: {ingress: drop, egress: drop}
ingress: [{name: asked, proto: udp, dport: 7, action: pass}]
egress: [{name: answered, proto: udp, sport: 7, action: pass}]
"""
FAMILIES = {"IPv4": (socket.AF_INET, "arp"), "IPv6": (socket.AF_INET6, "icmpv6")}


def forget_neighbours(veth: Veth) -> None:
    """The lab's are permanent; from now on each stack has to ask."""
    for mine in (veth.client, veth.server):
        network.run(mine.name, "ip", "neigh", "flush", "dev", mine.dev, "nud", "permanent")


def ask(veth: Veth, family: socket.AddressFamily) -> None:
    """A question by UDP and its answer, through both stacks."""
    address = veth.server.ipv4 if family == socket.AF_INET else veth.server.ipv6
    with (
        network.inside(veth.server.name, socket.socket, family, socket.SOCK_DGRAM) as server,
        network.inside(veth.client.name, socket.socket, family, socket.SOCK_DGRAM) as client,
    ):
        for one in (server, client):
            one.settimeout(network.PATIENCE)
        server.bind((address, 7))
        client.sendto(b"question", (address, 7))
        question, sender, *_ = server.recvfrom(16)
        server.sendto(b"answer", sender)
        assert (question, client.recv(16)) == (b"question", b"answer")


@every_mode
@pytest.mark.parametrize("family", FAMILIES)
def test_hosts_find_each_other_under_a_default_of_drop(veth: Veth, family: str, mode: str) -> None:
    """ARP and neighbour discovery, both ways: question and answer pass each hook once at least."""
    kind, protocol = FAMILIES[family]
    forget_neighbours(veth)
    with loaded(veth.server, DENY, mode) as filter:
        ask(veth, kind)
        one = filter.counts()
        for side in (one.ingress, one.egress):
            assert side.rules[0].count.packets == 1
            assert side.reasons["essential"].packets >= 1
            assert side.protocols[protocol].packets >= 1
            assert side.protocols["udp"] == side.rules[0].count


NO_ARP = """version: 1
ingress: [{name: no-arp, proto: arp, action: drop}]
"""


@pytest.mark.parametrize("veth", [{"ipv6": False}], indirect=True, ids=["veth"])
@every_mode
def test_a_rule_that_drops_arp_leaves_the_question_unanswered(veth: Veth, mode: str) -> None:
    forget_neighbours(veth)
    with (
        loaded(veth.server, NO_ARP, mode) as filter,
        network.capture(veth.client.name, veth.client.dev) as seen,
        network.inside(veth.client.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as client,
        network.capture(veth.client.name, veth.client.dev, outgoing=True) as asked,
    ):
        client.sendto(b"question", (veth.server.ipv4, 7))
        asked.wait(b"\x08\x06\x00\x01\x08\x00\x06\x04\x00\x01")  # an ARP request
        assert up_to_last(seen, veth.server) == []
        assert filter.counts().ingress.rules[0].count.packets >= 1
