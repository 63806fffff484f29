"""Fragments and IPv6 extension headers on real frames.

One table a test: its frames go in one run through each hook and mode, and ``check_rows`` compares
arrival, bytes and every counter with the table, and the table with the oracle.
"""

from __future__ import annotations

from collections.abc import Sequence

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import pytest
from lab import Veth
from packets import (
    Layer,
    Packet,
    ah,
    destination,
    eth,
    fragment,
    hop_by_hop,
    ipv4,
    ipv6,
    raw,
    routing,
    tcp,
    udp,
)
from test_traffic_support import Row, at, check_rows, every_place, row, silent, text

from xdpguard.rules.model import Action

DROP, PASS = Action.DROP, Action.PASS


# ---- fragments ------------------------------------------------------------------------------------------
PORTS = ("web, proto: tcp, dport: 80, action: drop", "dns, proto: udp, dport: 53, action: drop")
WEB = bytes(tcp() / bytes(12))  # to port 80; 32 bytes, a multiple of 8
DNS = bytes(udp() / bytes(8))
FIRST4 = eth() / ipv4(mf=True, proto=6) / WEB
LATER4 = eth() / ipv4(offset=4, proto=6) / WEB
ATOMIC = eth() / ipv6() / fragment(then=6) / WEB
FIRST6 = eth() / ipv6() / fragment(more=True, then=17) / DNS
LATER6 = eth() / ipv6() / fragment(3, then=17) / DNS
CUT = eth() / ipv4(mf=True, proto=6) / WEB[:16]
WHOLE = eth() / ipv4(df=True) / tcp(dport=81) / b"whole"
L3_ONLY = (
    row("first has ports", FIRST4, "-web", DROP, "tcp"),
    row("later has none, whatever its bytes look like", LATER4, "default", PASS, "tcp"),
    row("atomic is a whole packet", ATOMIC, "-web", DROP, "tcp"),
    row("first, IPv6", FIRST6, "-dns", DROP, "udp"),
    row("later, IPv6", LATER6, "default", PASS, "udp"),
    row("first cut inside its TCP header", CUT, "malformed_fragment", DROP, "tcp"),
    row("whole", WHOLE, "default", PASS, "tcp"),
)
NO_FRAGMENTS = (
    row("first", FIRST4, "fragment", DROP, "tcp"),
    row("later", LATER4, "fragment", DROP, "tcp"),
    row("atomic is a whole packet", ATOMIC, "-web", DROP, "tcp"),
    row("first, IPv6", FIRST6, "fragment", DROP, "udp"),
    row("later, IPv6", LATER6, "fragment", DROP, "udp"),
    row("whole", WHOLE, "default", PASS, "tcp"),
)


@silent
@every_place
@pytest.mark.parametrize(("policy", "table"), [("l3-only", L3_ONLY), ("drop", NO_FRAGMENTS)])
def test_fragments_get_what_the_policy_says(
    veth: Veth, hook: str, mode: str, policy: str, table: tuple[Row, ...]
) -> None:
    check_rows(veth, hook, mode, text(PORTS, head=f"fragments: {policy}"), at(hook, table))


# ---- extension headers ----------------------------------------------------------------------------------
BAD_CHAIN = "malformed_ipv6_extension"
WALKED: dict[str, Sequence[Layer]] = {
    "hop-by-hop": (hop_by_hop(),),
    "routing": (routing(0, 1, bytes(20)),),
    "destination options": (destination(),),
    "authentication": (ah(),),
    "fragment": (fragment(),),
    "all of them": (hop_by_hop(), destination(), routing(), fragment(), ah(), destination()),
    "eight": (destination(),) * 8,
    "options of 512 bytes": (destination(bytes(510)),),
}
EXTENSIONS = (
    *(
        row(name, Packet((eth(), ipv6(), *layers)) / tcp(), "-web", DROP, "tcp")
        for name, layers in WALKED.items()
    ),
    row("another port", eth() / ipv6() / hop_by_hop() / tcp(dport=81), "default", PASS, "tcp"),
    row(
        "nine",
        Packet((eth(), ipv6(), *[destination()] * 9)) / tcp(),
        "malformed_ipv6_extension",
        DROP,
        "other_ip",
    ),
    row(
        "not first",
        eth() / ipv6() / ah() / hop_by_hop() / tcp(),
        "malformed_ipv6_extension",
        DROP,
        "other_ip",
    ),
    row("unknown ends the chain", eth() / ipv6() / raw(WEB, 135), "default", PASS, "other_ip"),
)


@silent
@every_place
def test_ports_are_found_behind_ipv6_extension_headers(veth: Veth, hook: str, mode: str) -> None:
    check_rows(veth, hook, mode, text(PORTS), at(hook, EXTENSIONS))
