"""Interfaces as the kernel describes them, and the netlink transport below."""

from __future__ import annotations

import socket
import struct

import lab as network
import pytest
from attached import Load, id_of
from lab import Veth, inside

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import bpf, link, netlink, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_link_is_described_as_the_kernel_has_it(veth: Veth) -> None:
    end = veth.server
    found = inside(end.name, link.find, end.dev)
    assert (found.ifindex, found.name, found.kind) == (end.ifindex, end.dev, "veth")
    assert (found.mac.hex(":"), found.mtu, found.up, found.xdp) == (end.mac, 1500, True, ())
    assert not found.is_l3
    assert inside(end.name, link.by_index, end.ifindex) == found


def test_the_peer_of_a_veth_is_found_in_its_own_namespace(veth: Veth, program: Load) -> None:
    end, peer, attached = veth.server, veth.client, program(bpf.PROG_XDP)
    inside(peer.name, xdp.attach, peer.ifindex, attached, "native")
    found = inside(end.name, link.find, end.dev)
    assert found.parent == peer.ifindex
    assert found.parent_nsid is not None
    other = inside(end.name, link.by_index, peer.ifindex, found.parent_nsid)
    assert other is not None
    assert (other.name, other.xdp) == (peer.dev, (("native", id_of(attached)),))


def test_a_device_on_top_of_another_names_its_parent(veth: Veth) -> None:
    end = veth.server
    network.run(end.name, "ip", "link", "add", "link", end.dev, "name", "m0", "type", "macvlan")
    found = inside(end.name, link.find, "m0")
    assert (found.kind, found.parent, found.parent_nsid, found.up) == ("macvlan", end.ifindex, None, False)


def test_a_tunnel_without_ethernet_header_is_l3(veth: Veth) -> None:
    network.run(veth.server.name, "ip", "tuntap", "add", "t0", "mode", "tun")
    assert inside(veth.server.name, link.find, "t0").is_l3


def test_an_alternative_name_finds_the_interface(veth: Veth) -> None:
    end, long = veth.server, "a-name-longer-than-fifteen-bytes"
    network.run(end.name, "ip", "link", "property", "add", "dev", end.dev, "altname", long)
    network.run(end.name, "ip", "link", "property", "add", "dev", end.dev, "altname", "short")
    assert inside(end.name, link.find, long).name == end.dev
    assert inside(end.name, link.find, "short").name == end.dev


@pytest.mark.parametrize("name", ["nosuch", "", "a" * 15, "a" * 16, "a" * 300, "nul\0", "sl/ash", "\udcff"])
def test_a_missing_interface_is_named(veth: Veth, name: str) -> None:
    with pytest.raises(NotLoadedError, match="no such interface: "):
        inside(veth.server.name, link.find, name)
    assert inside(veth.server.name, link.by_index, 9999) is None


def test_a_refused_read_carries_the_words_of_the_kernel(veth: Veth) -> None:
    nobody = struct.pack("=BxxxiHBB", socket.AF_INET, 0, 0, 0, 0)  # struct ndmsg without device
    for extra in (b"", netlink.attribute(1, bytes(4))):
        with pytest.raises(OSError, match="No device specified"):
            inside(veth.server.name, netlink.request, socket.NETLINK_ROUTE, 30, nobody + extra)
