"""XDP features and receive VLAN offload of real devices."""

from __future__ import annotations

import ctypes
import fcntl
import socket
import struct

import pytest
from attached import Load
from lab import Veth, inside

from xdpguard.kernel import bpf, features, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_a_veth_can_take_redirected_frames_only_while_its_peer_has_a_program(
    veth: Veth, program: Load
) -> None:
    end, peer = veth.server, veth.client
    before = inside(end.name, features.xdp_features, end.ifindex)
    if before is None:
        pytest.skip("this kernel has no netdev netlink family (before 6.3)")
    assert before & features.BASIC
    assert before & features.REDIRECT
    assert not before & features.NDO_XMIT
    inside(peer.name, xdp.attach, peer.ifindex, program(bpf.PROG_XDP), "native")
    after = inside(end.name, features.xdp_features, end.ifindex)
    assert after is not None
    assert after & features.NDO_XMIT


def test_features_of_a_missing_interface_are_unknown(veth: Veth) -> None:
    assert inside(veth.server.name, features.xdp_features, 9999) is None


def test_receive_vlan_offload_is_read_as_it_was_set(veth: Veth) -> None:
    end = veth.server
    for flag in (0, 1 << 8):  # ETH_FLAG_RXVLAN
        inside(end.name, set_ethtool_flags, end.dev, flag)
        assert inside(end.name, features.rx_vlan_offload, end.dev) is bool(flag)
    assert inside(end.name, features.rx_vlan_offload, "nosuch") is None


def set_ethtool_flags(dev: str, flags: int) -> None:
    value = ctypes.create_string_buffer(struct.pack("=II", 0x26, flags), 8)  # ETHTOOL_SFLAGS
    ifreq = struct.pack("=16sQ", dev.encode(), ctypes.addressof(value)).ljust(40, b"\0")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        fcntl.ioctl(probe, 0x8946, ifreq)  # SIOCETHTOOL
