"""Gateways, routes and own addresses, read from a namespace of our own."""

from __future__ import annotations

from ipaddress import ip_address

import lab as network
import pytest
from lab import Lab, Veth, inside

from xdpguard.kernel import neighbour

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_gateways_are_those_of_the_default_routes_with_their_macs(veth: Veth) -> None:
    end, peer = veth.server, veth.client
    for command in (
        f"ip route add default via {peer.ipv4}",
        f"ip route add default via 192.0.2.99 metric 9 dev {end.dev}",
        f"ip -6 route add default via {peer.ipv6}",
        "ip route add 198.51.100.0/24 via 192.0.2.77",
        "ip route add blackhole default metric 10",
    ):
        network.run(end.name, *command.split())
    mac = bytes.fromhex(peer.mac.replace(":", ""))
    assert inside(end.name, neighbour.gateways, end.ifindex) == [
        neighbour.Gateway(ip_address(peer.ipv4), mac),
        neighbour.Gateway(ip_address("192.0.2.99"), None),
        neighbour.Gateway(ip_address(peer.ipv6), mac),
    ]
    assert inside(end.name, neighbour.gateways, 1) == []


def test_gateways_of_multipath_and_of_another_family_are_found(veth: Veth) -> None:
    end, peer = veth.server, veth.client
    hops = f"nexthop via {peer.ipv4} dev {end.dev} nexthop via 192.0.2.99 dev {end.dev}"
    network.run(end.name, *f"ip route add default {hops}".split())
    network.run(end.name, *f"ip -4 route add default via inet6 {peer.ipv6} dev {end.dev} metric 5".split())
    found = inside(end.name, neighbour.gateways, end.ifindex)
    assert {str(gateway.address) for gateway in found} == {peer.ipv4, "192.0.2.99", peer.ipv6}


def test_routes_and_own_addresses_are_looked_up(veth: Veth) -> None:
    end, peer = veth.server, veth.client
    network.run(end.name, "ip", "route", "add", "blackhole", "198.51.100.0/25")
    network.run(end.name, "ip", "route", "add", "unreachable", "198.51.100.128/25")
    network.run(end.name, "ip", "route", "add", "prohibit", "203.0.113.0/24")
    for mine, other in ((end.ipv4, peer.ipv4), (end.ipv6, peer.ipv6)):
        expected = neighbour.Route(end.ifindex, ip_address(mine))
        assert inside(end.name, neighbour.route_to, ip_address(other)) == expected
        assert inside(end.name, neighbour.is_local, ip_address(mine))
        assert not inside(end.name, neighbour.is_local, ip_address(other))
    for address in ("198.51.100.1", "198.51.100.200", "203.0.113.1", "8.8.8.8", "2001:db8:9::1"):
        assert inside(end.name, neighbour.route_to, ip_address(address)) is None
        assert not inside(end.name, neighbour.is_local, ip_address(address))


def test_a_link_local_address_is_looked_up_on_its_own_interface(lab: Lab, veth: Veth) -> None:
    end = veth.server
    second = lab.veth(client=end.name).client
    for here, host in ((end, 2), (second, 3)):
        network.run(end.name, "ip", "addr", "add", f"fe80::{host}/64", "dev", here.dev, "nodad")
    for here, host in ((end, 2), (second, 3)):
        route = inside(end.name, neighbour.route_to, ip_address(f"fe80::1%{here.dev}"))
        assert route == neighbour.Route(here.ifindex, ip_address(f"fe80::{host}"))
        assert inside(end.name, neighbour.is_local, ip_address(f"fe80::{host}%{here.dev}"))
