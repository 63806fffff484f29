"""The lab itself: frames as they were sent, ends that reach each other."""

from __future__ import annotations

import socket
import struct

import lab as network
import pytest
from attached import frame
from lab import End, Lab, Veth, inside

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.mark.parametrize("veth", [{"ipv6": False}], indirect=True)
def test_a_captured_frame_has_its_vlan_tag_and_bytes_as_sent(veth: Veth) -> None:
    plain = frame(veth.client, veth.server, b"marked")
    sent = [plain[:12] + struct.pack("!HH", 0x8100, 5) + plain[12:], plain]
    with network.capture(veth.server.name, veth.server.dev) as seen:
        network.send(veth.client.name, veth.client.dev, sent)
        assert seen.wait(b"marked", 2) == sent
        assert seen.frames == sent  # the stack itself was silent


def reach(source: End, target: End, family: socket.AddressFamily, address: str) -> None:
    with (
        inside(target.name, socket.socket, family, socket.SOCK_DGRAM) as listener,
        inside(source.name, socket.socket, family, socket.SOCK_DGRAM) as sender,
    ):
        listener.settimeout(network.PATIENCE)
        listener.bind((address, 7))
        sender.sendto(b"hello", (address, 7))
        assert listener.recv(16) == b"hello"


def test_both_ends_reach_each_other(veth: Veth) -> None:
    for source, target in ((veth.client, veth.server), (veth.server, veth.client)):
        reach(source, target, socket.AF_INET, target.ipv4)
        reach(source, target, socket.AF_INET6, target.ipv6)


def test_a_third_namespace_joins_by_a_second_pair(lab: Lab, veth: Veth) -> None:
    second = lab.veth(client=veth.server.name)
    assert second.client.name == veth.server.name
    reach(second.client, second.server, socket.AF_INET, second.server.ipv4)
    reach(second.client, second.server, socket.AF_INET6, second.server.ipv6)
