"""Every action at every hook, in both modes and families, on real veth pairs: arrival, bytes, counters."""

from __future__ import annotations

from collections.abc import Callable

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab as network
import pytest
from lab import Lab
from packets import Layer, eth, ipv4, ipv6, mac, udp
from test_traffic_support import (
    HOOKS,
    LAST_ROW,
    MODES,
    Net,
    Row,
    Tally,
    attach_pass,
    expected,
    loaded,
    three,
    up_to_last,
    ways,
)

from xdpguard.kernel import bpf
from xdpguard.rules.model import Action

MARK = b"marked frame"
COUNT = 13  # a prime: no batch size divides it
FAMILIES: tuple[Layer, ...] = (ipv4(), ipv6())
NEW_MAC = "02:00:00:00:be:ef"
ACTIONS = {
    "drop": "drop",
    "pass": "pass",
    "tx": "tx",
    "redirect": "{{redirect: {{interface: {target}}}}}",
    "redirect with dst_mac": f'{{{{redirect: {{{{interface: {{target}}, dst_mac: "{NEW_MAC}"}}}}}}}}',
}
RULES = """version: 1
{hook}: [{{name: marked, proto: udp, dport: 4242, action: {action}}}]
"""


def frames() -> list[bytes]:
    """COUNT frames of each family, all different, in turn."""
    return [
        bytes(eth() / family / udp(4000 + number, 4242) / (MARK + bytes(number)))
        for number in range(COUNT)
        for family in FAMILIES
    ]


def after(action: str, net: Net, frame: bytes) -> bytes:
    """The frame as it must arrive."""
    if action == "tx":
        return frame[6:12] + frame[:6] + frame[12:]
    if action == "redirect with dst_mac":
        return mac(NEW_MAC) + mac(net.target.mac) + frame[12:]
    return frame


def place(action: str, hook: str) -> str:
    """Where it must arrive. Egress tx goes into the host's own ingress of the same interface."""
    if action in ("pass", "tx"):
        return "server" if (action == "pass") == (hook == "ingress") else "client"
    return "nowhere" if action == "drop" else "sensor"


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_delivers_frames_of_both_families_where_it_says_and_counts_them(
    lab: Lab, program: Callable[..., int], action: str, hook: str, mode: str
) -> None:
    net = three(lab)
    for peer in (net.client, net.sensor):
        attach_pass(peer, program(bpf.PROG_XDP))
    text = RULES.format(hook=hook, action=ACTIONS[action].format(target=net.target.dev))
    sent, there = frames(), place(action, hook)
    source, _ = ways(net, hook)
    with (
        loaded(net.server, text, mode) as filter,
        network.capture(net.client.name, net.client.dev) as client,
        network.capture(net.server.name, net.server.dev) as server,
        network.capture(net.sensor.name, net.sensor.dev) as sensor,
    ):
        let_through = network.send(source.name, source.dev, sent)
        assert let_through == (0 if (action, hook) == ("drop", "egress") else len(sent))
        seen = {"client": client, "server": server, "sensor": sensor}
        if there in seen:
            seen[there].wait(MARK, len(sent))
        arrived = {
            "client": up_to_last(client, net.server),
            "server": up_to_last(server, net.client),
            "sensor": up_to_last(sensor, net.target),
        }
        wanted = [after(action, net, frame) for frame in sent]
        assert arrived == {name: wanted if name == there else [] for name in seen}
        assert filter.tallies() == tallies(action, hook, mode, sent)


def tallies(action: str, hook: str, mode: str, sent: list[bytes]) -> dict[str, Tally]:
    """Each hook has also seen one LAST. Generic XDP sees what egress tx puts into the host's ingress."""
    done = Action[action.split()[0].upper()]
    rows = {"ingress": [LAST_ROW], "egress": [LAST_ROW]}
    rows[hook] += [Row("", frame, "marked", done, "udp") for frame in sent]
    if (action, hook, mode) == ("tx", "egress", "generic"):
        rows["ingress"] += [Row("", frame, "default", Action.PASS, "udp") for frame in sent]
    return {name: expected(each) for name, each in rows.items()}
