"""Loads of rules that are kept compiled: they decide the same, and nothing of the host is old."""

from __future__ import annotations

import uuid
from collections.abc import Callable

import lab as network
import pytest
from lab import Lab, inside
from test_lifecycle_support import TOGGLED, Site, dropping, frame

from xdpguard.kernel import bpf, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED
KEPT = "rules.yaml: unchanged, compiled before ("
TO_PEER = "{{name: away, proto: udp, dport: 1003, action: {{redirect: {{interface: {}, dst_mac: '{}'}}}}}}"
Program = Callable[..., int]


def new(text: str) -> str:
    """Rules that no load of any time has met."""
    return f"{text}# {uuid.uuid4()}\n"


def load(site: Site) -> bool:
    """Were they taken as kept?"""
    done = site.console("load", "--verbose", site.folder / "rules.yaml")
    assert done.code == 0, done.err
    return KEPT in done.err


def test_unchanged_rules_are_not_compiled_again_and_decide_the_same(site: Site) -> None:
    first, second = new(dropping(A)), new(dropping(B))
    for text, kept, ports in (
        (first, False, {A}),
        (first, True, {A}),
        (second, False, {B}),
        (first, True, {A}),
    ):
        site.write(text)
        assert load(site) == kept
        assert site.verdicts() == ports


def test_the_address_of_a_redirect_target_is_that_of_now(site: Site, lab: Lab, program: Program) -> None:
    pair = lab.veth(client=site.end.name, ipv6=False)
    end, peer = pair.client, pair.server
    inside(peer.name, xdp.attach, peer.ifindex, program(bpf.PROG_XDP), "native")
    site.write(new(dropping(A, more=TO_PEER.format(end.dev, "02:00:00:00:00:77"))))
    for address, kept in (("02:00:00:00:00:01", False), ("02:00:00:00:00:02", True)):
        network.run(end.name, "ip", "link", "set", end.dev, "address", address)
        assert load(site) == kept
        with network.capture(peer.name, peer.dev) as seen:
            network.send(site.peer.name, site.peer.dev, [frame(D)])
            (arrived,) = seen.wait(frame(D)[14:])
        assert arrived[:12] == bytes.fromhex("020000000077" + address.replace(":", ""))


def test_a_mode_and_an_interface_of_another_load_change_nothing_of_what_is_kept(site: Site, lab: Lab) -> None:
    other = Site.of(lab.veth(ipv6=False), site.folder)
    site.write(new(dropping(A)))
    assert not load(site)
    done = other.console("load", "--verbose", "--mode", "generic", other.folder / "rules.yaml")
    assert (done.code, KEPT in done.err) == (0, True)
    assert other.verdicts() == {A}
    other.unload()


def test_a_refusal_by_the_preflight_names_the_rule_also_if_it_was_kept(site: Site) -> None:
    network.run(site.end.name, "ip", "route", "add", "default", "via", site.peer.ipv4)
    site.write(new("version: 1\ningress:\n  - {name: no-arp, proto: arp, action: drop}\n"))
    refused = [site.console("load", site.folder / "rules.yaml").refusal(6) for _ in range(2)]
    assert "rules.yaml:3:5: rule no-arp (drop) would not let ARP with" in refused[0]
    assert refused[0] == refused[1]
