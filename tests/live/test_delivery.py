"""Frames that XDP was told to send and did not: counted exactly, on the right interface, for as long as it is
loaded.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import lab as network
import pytest
from interface_state import state
from lab import End, Lab, inside
from test_delivery_support import (
    AWAY,
    BACK,
    COUNT,
    Program,
    actions,
    await_lost,
    down,
    lost,
    of,
    other,
    send,
    send_at_once,
    sending,
    target,
)
from test_lifecycle_support import Site, frame

from xdpguard.kernel import bpf, xdp

__all__ = ["other", "target"]  # fixtures
pytestmark = pytest.mark.usefixtures("no_leaks")


# --- frames that are lost -----------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_frames_redirected_to_an_interface_that_is_down_are_not_delivered(
    site: Site, target: tuple[End, End], mode: str
) -> None:
    site.load(sending(target[0].dev), mode=mode)
    assert lost(site) == (0, 0)
    down(target[0])
    send(site, AWAY)
    assert actions(site) == {"redirect": COUNT, "pass": 1}
    await_lost(site, 0, COUNT)


each_way = pytest.mark.parametrize("send_all", [send, send_at_once], ids=["one by one", "at once"])


@each_way
def test_frames_that_the_targets_driver_does_not_take_are_not_delivered(
    site: Site, target: tuple[End, End], send_all: Callable[[Site, int], None]
) -> None:
    site.load(sending(target[0].dev), mode="native")
    down(target[1])
    send_all(site, AWAY)
    assert actions(site)["redirect"] == COUNT
    await_lost(site, 0, COUNT)


@each_way
def test_native_tx_on_a_veth_whose_peer_has_no_program_is_not_delivered(
    site: Site, send_all: Callable[[Site, int], None]
) -> None:
    site.load(sending(), mode="native")
    send_all(site, BACK)
    assert actions(site)["tx"] == COUNT
    await_lost(site, COUNT, 0)


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_frames_that_arrive_are_not_counted(
    site: Site, target: tuple[End, End], program: Program, mode: str
) -> None:
    inside(site.peer.name, xdp.attach, site.peer.ifindex, program(bpf.PROG_XDP), "native")
    site.load(sending(target[0].dev), mode=mode)
    with (
        network.capture(target[1].name, target[1].dev) as away,
        network.capture(site.peer.name, site.peer.dev) as back,
    ):
        send(site, AWAY)
        send(site, BACK)
        assert len(away.wait(frame(AWAY)[14:34], COUNT)) == COUNT
        assert len(back.wait(frame(BACK)[14:34], COUNT)) == COUNT
    assert actions(site) == {"redirect": COUNT, "tx": COUNT, "pass": 2}
    await_lost(site, 0, 0)


def test_two_interfaces_do_not_count_each_others_frames(
    site: Site, target: tuple[End, End], lab: Lab
) -> None:
    beside = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    for one in (site, beside):
        one.load(sending(target[0].dev), mode="native")
    down(target[1])  # lost by the target's driver
    send(site, AWAY, 3)
    send(beside, AWAY, 5)
    down(target[0])  # lost before
    send(site, AWAY, 10)
    send(beside, AWAY, 20)
    send(site, BACK, 4)
    await_lost(site, 4, 13)
    await_lost(beside, 0, 25)
    beside.unload()
    assert lost(site) == (4, 13)


def test_interfaces_of_one_index_in_two_namespaces_do_not_count_each_others_frames(
    site: Site, other: Site
) -> None:
    assert site.end.ifindex == other.end.ifindex
    site.load(sending(), mode="native")
    other.load(sending(), mode="native")
    send(site, BACK, 4)
    await_lost(site, 4, 0)
    await_lost(other, 0, 0)


# --- from when to when --------------------------------------------------------------------------------------


def test_counts_stay_over_reloads_and_new_programs(site: Site, target: tuple[End, End]) -> None:
    site.load(sending(target[0].dev), mode="generic")
    down(target[0])
    send(site, AWAY, 3)
    await_lost(site, 0, 3)
    pinned = {pin for pin in state(site.end).pins if "/delivery" in pin}
    first = state(site.end).xdp
    for text in ("version: 1\ningress: []\n", sending(target[0].dev), sending(target[0].dev, filler=500)):
        site.load(text)
        assert lost(site) == (0, 3)
    assert state(site.end).xdp != first
    send(site, AWAY, 4)
    await_lost(site, 0, 7)
    assert pinned == {pin for pin in state(site.end).pins if "/delivery" in pin}
    site.rollback()
    send(site, AWAY, 1)
    await_lost(site, 0, 8)
    assert not any("not delivered" in line or "not observed" in line for line in site.said)


def test_rules_that_send_nothing_are_not_observed(site: Site) -> None:
    site.load("version: 1\negress:\n  - {name: back, proto: udp, dport: 1001, action: tx}\n")
    assert lost(site) == (None, None)
    assert not any("/delivery" in pin for pin in state(site.end).pins)
    site.load(sending())
    assert lost(site) == (0, 0)
    assert not any("from now on only" in line for line in site.said)


def test_lost_pins_end_the_observation_and_the_next_load_begins_anew(site: Site) -> None:
    site.load(sending(), mode="native")
    send(site, BACK)
    await_lost(site, COUNT, 0)
    pins = sorted(pin for pin in state(site.end).pins if "/delivery/" in pin)
    Path(pins[0]).unlink()
    assert lost(site) == (None, None)
    send(site, BACK)
    site.load(sending())
    told = f"{site.end.dev}: tx and redirect that are not delivered are counted from now on only"
    assert told in site.said
    assert lost(site) == (0, 0)
    send(site, BACK, 5)
    await_lost(site, 5, 0)


def test_an_observation_of_another_program_is_not_taken_for_ours(site: Site) -> None:
    site.load(sending(), mode="native")
    found = site.status().xdp_program
    assert found is not None
    observation = of(site)
    observation.expect(found + 1000, found + 1001)
    assert lost(site) == (None, None)
    site.load(sending())
    assert lost(site) == (0, 0)


def test_every_format_shows_what_was_not_delivered(site: Site) -> None:
    site.load(sending(), mode="native")
    send(site, BACK)
    await_lost(site, COUNT, 0)
    document = json.loads(site.console("stats", "--format", "json").out)["interfaces"][0]
    assert document["ingress"]["not_delivered"] == {"tx": COUNT, "redirect": 0}
    assert document["egress"]["not_delivered"] == {"tx": None, "redirect": None}
    assert f"XDP_TX not delivered: {COUNT}\n" in site.console("stats", "--format", "plain").out
    assert f"not delivered (ingress): tx {COUNT}, redirect 0\n" in site.console("stats").out
