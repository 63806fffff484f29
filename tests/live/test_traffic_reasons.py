"""Frames that no rule decides: malformed ones, essential ones, and those that tx refuses.

One table a test: its frames go in one run through each hook and mode, and ``check_rows`` compares
arrival, bytes and every counter with the table, and the table with the oracle.
"""

from __future__ import annotations

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import pytest
from lab import Veth
from packets import arp, destination, eth, icmp, icmpv6, ipv4, ipv6, nd, raw, sctp, tcp, udp, vlan
from test_traffic_support import Row, at, check_rows, every_hook, every_place, row, silent, text

from xdpguard.rules.model import Action

DROP, PASS = Action.DROP, Action.PASS


# ---- malformed ------------------------------------------------------------------------------------------
def malformed(action: Action) -> tuple[Row, ...]:
    """One frame or more for each reason that a frame of 14 bytes to a page can have."""
    four, six = eth() / ipv4(), eth() / ipv6()
    found = (
        ("vlan", eth() / vlan(5) / vlan(6) / vlan(7) / ipv4() / tcp(), "non_ip"),
        ("arp", bytes(eth() / arp())[:40], "arp"),
        ("ipv4_header", eth() / ipv4(ihl=4) / tcp(), "other_ip"),
        ("ipv4_length", eth() / ipv4(total_length=41) / tcp(), "other_ip"),
        ("ipv6_header", eth() / ipv6(version=4) / tcp(), "other_ip"),
        ("ipv6_length", eth() / ipv6(payload_length=21) / tcp(), "other_ip"),
        ("ipv6_extension", six / destination(length=9) / tcp(), "other_ip"),
        ("fragment", eth() / ipv4(offset=1, proto=6) / tcp(), "tcp"),
        ("tcp", four / tcp(doff=4), "tcp"),
        ("tcp", six / tcp(doff=6), "tcp"),
        ("udp", four / udp(length=9), "udp"),
        ("icmp", four / raw(bytes(7), 1), "icmp"),
        ("icmpv6", six / raw(bytes(3), 58), "icmpv6"),
        ("sctp", four / raw(bytes(11), 132), "sctp"),
    )
    return tuple(row(kind, frame, f"malformed_{kind}", action, counted) for kind, frame, counted in found)


@silent
@every_place
@pytest.mark.parametrize("action", [DROP, PASS], ids=["drop", "pass"])
def test_malformed_frames_get_what_the_rule_file_says_and_no_rule_is_tried(
    veth: Veth, hook: str, mode: str, action: Action
) -> None:
    """A catch-all rule says the opposite."""
    opposite = "pass" if action is DROP else "drop"
    rules = text([f"all, proto: [0-255], action: {opposite}"], head=f"malformed: {action.name.lower()}")
    check_rows(veth, hook, mode, rules, at(hook, malformed(action)))


# ---- essential ------------------------------------------------------------------------------------------
LOCAL = ipv6(hop_limit=255)


def essential(hook: str) -> list[Row]:
    """Under `default: drop`: what passes all the same, and its nearest neighbours, which do not."""
    server, client = (67, 68), (68, 67)
    server6, client6 = (547, 546), (546, 547)
    ours, theirs = (server, client) if hook == "ingress" else (client, server)
    ours6, theirs6 = (server6, client6) if hook == "ingress" else (client6, server6)
    passing = (
        ("ARP request", eth() / arp(), "arp"),
        *((f"ND {kind}", eth() / LOCAL / nd(kind), "icmpv6") for kind in range(133, 138)),
        ("fragmentation needed", eth() / ipv4() / icmp(3, 4), "icmp"),
        ("packet too big", eth() / ipv6() / icmpv6(2), "icmpv6"),
        ("DHCP", eth() / ipv4() / udp(*ours), "udp"),
        ("DHCPv6", eth() / ipv6() / udp(*ours6), "udp"),
    )
    dropped = (
        ("ND from another link", eth() / ipv6(hop_limit=254) / nd(), "icmpv6"),
        ("unreachable", eth() / ipv4() / icmp(3, 3), "icmp"),
        ("time exceeded", eth() / ipv6() / icmpv6(3), "icmpv6"),
        ("DHCP the other way", eth() / ipv4() / udp(*theirs), "udp"),
        ("DHCPv6 the other way", eth() / ipv6() / udp(*theirs6), "udp"),
        ("SCTP", eth() / ipv4() / sctp(), "sctp"),
        ("no IP", eth(ethertype=0x88B5) / b"no IP", "non_ip"),
    )
    return [
        *(row(name, frame, "essential", PASS, kind) for name, frame, kind in passing),
        *(row(name, frame, "default", DROP, kind) for name, frame, kind in dropped),
    ]


@silent
@every_place
def test_essential_traffic_passes_a_default_of_drop_and_nothing_else_does(
    veth: Veth, hook: str, mode: str
) -> None:
    check_rows(veth, hook, mode, text((), default="drop"), essential(hook))


@silent
@every_hook
def test_a_rule_decides_about_essential_traffic_first(veth: Veth, hook: str) -> None:
    table = [
        each._replace(decider="-all", action=DROP) if each.protocol != "arp" else each
        for each in essential(hook)
        if each.protocol != "non_ip"
    ]
    check_rows(veth, hook, "native", text(["all, action: drop"]), at(hook, table))


# ---- tx refused -----------------------------------------------------------------------------------------
GROUP = "33:33:00:00:00:01"
REFUSED = (
    row("to a group", eth(dst=GROUP) / ipv6() / udp(), "tx_refused", DROP, "udp"),
    row("from a group", eth(src=GROUP) / ipv4() / udp(), "tx_refused", DROP, "udp"),
    row("other traffic", eth() / ipv4() / tcp(), "default", PASS, "tcp"),
)


@silent
@every_place
def test_tx_of_a_group_address_is_refused(veth: Veth, hook: str, mode: str) -> None:
    check_rows(veth, hook, mode, text(["bounce, proto: udp, action: tx"]), at(hook, REFUSED))
