"""Frames of 9,014 bytes: multi-buffer XDP, and headers outside the linear part of a packet at TC egress."""

from __future__ import annotations

from collections.abc import Callable

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab as network
import pytest
from lab import Lab, Veth
from packets import destination, eth, ipv4, ipv6, mac, tcp, udp
from test_traffic_support import (
    LAST_ROW,
    UNREADABLE,
    Row,
    attach_pass,
    check_rows,
    every_hook,
    every_mode,
    every_place,
    expected,
    loaded,
    row,
    three,
    up_to_last,
    ways,
)

from xdpguard.kernel import bpf
from xdpguard.rules.model import Action

DROP, PASS, TX, REDIRECT = Action.DROP, Action.PASS, Action.TX, Action.REDIRECT
MTU = 9000
jumbo = pytest.mark.parametrize("veth", [{"ipv6": False, "mtu": MTU}], indirect=True, ids=["veth"])
RULES = """version: 1
{hook}:
- {{name: no-web, proto: tcp, dport: 80, action: drop}}
- {{name: dns, proto: udp, dport: 53, action: pass}}
"""
OPTIONS = destination(bytes(2046))  # 2,048 bytes


def table(hook: str) -> tuple[Row, ...]:
    """Whole frames of MTU + 14 bytes, and headers further in than a program can read.

    XDP reads the first buffer (here under 3.6 KB), TC egress the first 4,096 bytes.
    """
    four, six = eth() / ipv4(), eth() / ipv6()
    behind = six / OPTIONS / tcp(dport=81) / bytes(6000)
    deep = six / OPTIONS / OPTIONS / tcp(dport=81) / bytes(4000)
    deeper = six / OPTIONS / OPTIONS / OPTIONS / tcp(dport=81)
    return (
        row("passed by a rule", four / udp() / bytes(MTU - 28), "dns", PASS, "udp"),
        row("passed by a rule, IPv6", six / udp() / bytes(MTU - 48), "dns", PASS, "udp"),
        row("passed by default", four / tcp(dport=81) / bytes(MTU - 40), "default", PASS, "tcp"),
        row("dropped", six / tcp() / bytes(MTU - 60), "no-web", DROP, "tcp"),
        row("a length that lies", four / udp(length=MTU) / bytes(MTU - 28), "malformed_udp", DROP, "udp"),
        row("behind long options", behind, "default", PASS, "tcp"),
        row("TCP too far in", deep, UNREADABLE, DROP, "tcp"),
        row("extension header too far in", deeper, UNREADABLE, DROP, "other_ip"),
        row("small", four / udp() / b"small", "dns", PASS, "udp"),
    )


@jumbo
@every_place
def test_jumbo_frames_are_judged_and_counted_whole(veth: Veth, hook: str, mode: str) -> None:
    check_rows(veth, hook, mode, RULES.format(hook=hook), table(hook))


BOUNCE = """version: 1
{hook}:
- {{name: bounce, proto: udp, dport: 7, action: tx}}
- name: watched
  proto: udp
  dport: 53
  action: {{redirect: {{interface: {target}, dst_mac: "02:00:00:00:be:ef"}}}}
"""


@every_hook
@every_mode
def test_jumbo_frames_are_bounced_and_redirected_whole(
    lab: Lab, program: Callable[..., int], hook: str, mode: str
) -> None:
    net = three(lab, mtu=MTU)
    for peer in (net.client, net.sensor):
        attach_pass(peer, program(bpf.PROG_XDP, flags=bpf.F_XDP_HAS_FRAGS))
    source, _ = ways(net, hook)
    echo = bytes(eth() / ipv4() / udp(dport=7) / bytes(MTU - 28))
    watched = bytes(eth() / ipv6() / udp(dport=53) / bytes(MTU - 48))
    bounced = net.client if hook == "ingress" else net.server
    other = net.server if hook == "ingress" else net.client
    text = BOUNCE.format(hook=hook, target=net.target.dev)
    with (
        loaded(net.server, text, mode) as filter,
        network.capture(bounced.name, bounced.dev) as back,
        network.capture(net.sensor.name, net.sensor.dev) as aside,
    ):
        network.send(source.name, source.dev, [echo, watched])
        assert back.wait(echo[12:]) == [echo[6:12] + echo[:6] + echo[12:]]
        assert aside.wait(watched[12:]) == [mac("02:00:00:00:be:ef") + mac(net.target.mac) + watched[12:]]
        assert len(up_to_last(back, other)) == len(up_to_last(aside, net.target)) == 1
        rows = [Row("", echo, "bounce", TX, "udp"), Row("", watched, "watched", REDIRECT, "udp")]
        again = [Row("", echo, "default", PASS, "udp")] if (hook, mode) == ("egress", "generic") else []
        last = [LAST_ROW]  # from the other end, through the other hook
        wanted = {"ingress": again + last, "egress": last}
        wanted[hook] = rows
        wanted["egress" if hook == "ingress" else "ingress"] = again + last
        assert filter.tallies() == {name: expected(each) for name, each in wanted.items()}
