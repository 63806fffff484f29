"""VLAN tags on real frames: in the frame, and kept beside it by the kernel.

One table a test: its frames go in one run through each hook and mode, and ``check_rows`` compares
arrival, bytes and every counter with the table, and the table with the oracle.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab as network
from lab import End, Lab, Veth
from packets import arp, eth, ipv4, ipv6, udp, vlan
from test_traffic_support import (
    LAST,
    LAST_ROW,
    SENTINEL,
    at,
    check_rows,
    every_place,
    expected,
    loaded,
    row,
    silent,
    text,
)

from xdpguard.rules.model import Action

DROP, PASS = Action.DROP, Action.PASS


# ---- VLAN -----------------------------------------------------------------------------------------------
VLAN_RULES = ("five, vlan: 5, action: drop", "untagged, vlan: none, proto: udp, action: drop")
TO = ipv4() / udp(dport=4242) / b"tagged"
TAGGED = (
    row("untagged", eth() / TO, "-untagged", DROP, "udp"),
    row("vlan 5", eth() / vlan(5) / TO, "-five", DROP, "udp"),
    row("vlan 5 with priority", eth() / vlan(5, pcp=7, dei=True) / TO, "-five", DROP, "udp"),
    row("vlan 6", eth() / vlan(6) / TO, "default", PASS, "udp"),
    row("priority tag", eth() / vlan(0, pcp=3) / TO, "default", PASS, "udp"),
    row("the outer tag counts", eth() / vlan(5, tpid=0x88A8) / vlan(6) / TO, "-five", DROP, "udp"),
    row("the inner tag does not", eth() / vlan(6, tpid=0x88A8) / vlan(5) / TO, "default", PASS, "udp"),
    row("two 802.1Q tags, IPv6", eth() / vlan(6) / vlan(5) / ipv6() / udp(), "default", PASS, "udp"),
    row("three tags", eth() / vlan(6) / vlan(5) / vlan(5) / TO, "malformed_vlan", DROP, "non_ip"),
    row("a tag before ARP", eth() / vlan(6) / arp(2) / bytes(18), "essential", PASS, "arp"),
)


@silent
@every_place
def test_rules_see_the_outermost_of_two_tags_and_no_frame_with_three(
    veth: Veth, hook: str, mode: str
) -> None:
    check_rows(veth, hook, mode, text(VLAN_RULES), at(hook, TAGGED))


def test_a_tag_that_the_kernel_keeps_beside_the_frame_is_the_outermost_one_on_egress(lab: Lab) -> None:
    """A bridge takes the tag out of the frame; so TC egress of its other port finds it in the metadata.

    BPF_PROG_TEST_RUN could not show this: the kernel refuses a __sk_buff with VLAN fields.
    """
    inside_pair = lab.veth(ipv6=False)
    outside_pair = lab.veth(server=inside_pair.server.name, ipv6=False)
    sender, out = inside_pair.client, outside_pair.server
    network.run(out.name, "ip", "link", "add", "br0", "up", "type", "bridge")
    for port in (inside_pair.server.dev, out.dev):
        network.run(out.name, "ip", "link", "set", port, "master", "br0")
    table = at("egress", TAGGED)
    passed = [each.frame for each in table if each.action is PASS]
    with (
        loaded(out, text(VLAN_RULES), "native") as filter,
        tap(out) as leaving,
        network.capture(outside_pair.client.name, outside_pair.client.dev) as seen,
    ):
        network.send(sender.name, sender.dev, [*(each.frame for each in table), LAST])
        assert seen.until(SENTINEL) == passed
        assert filter.tallies() == {"ingress": {}, "egress": expected([*table, LAST_ROW])}
        assert without_tag(leaving, len(passed)) == [untagged(frame) for frame in passed]


def untagged(frame: bytes) -> bytes:
    return frame[:12] + frame[16:] if frame[12:14] in (b"\x81\x00", b"\x88\xa8") else frame


@contextmanager
def tap(end: End) -> Iterator[socket.socket]:
    """A packet socket that does not ask for what is kept beside the frame."""
    with network.inside(end.name, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        opened.bind((end.dev, 3))  # ETH_P_ALL
        opened.setblocking(False)
        yield opened


def without_tag(opened: socket.socket, count: int) -> list[bytes]:
    return [opened.recv(1 << 16) for _ in range(count)]
