"""Attaching by netlink on real veth pairs: xdp, tc, features, links, namespaces, neighbours and locks."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

import lab as network
import pytest
from lab import End, Lab, Veth, inside

from xdpguard.errors import ForeignError, KernelError, NotLoadedError, PrivilegeError
from xdpguard.kernel import bpf, features, link, lock, neighbour, netns, tc, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")

Load = Callable[..., int]
MODES = ("native", "generic")
DROP = 1
U32 = ("protocol", "ip", "u32", "match", "u32", "0", "0", "flowid", "1:1")  # a filter that any kernel has
EXPERIMENTAL = b"\x88\xb5"  # an EtherType that no stack answers


def id_of(fd: int) -> int:
    return bpf.prog_info(fd).id


def xdp_of(end: End) -> list[link.XdpProgram]:
    return inside(end.name, xdp.attached, end.ifindex)


def filters_of(end: End) -> list[tc.Filter]:
    return inside(end.name, tc.attached, end.ifindex)


def frame(source: End, target: End, payload: bytes) -> bytes:
    macs = bytes.fromhex((target.mac + source.mac).replace(":", ""))
    return (macs + EXPERIMENTAL + payload).ljust(60, b"\0")


# --- XDP --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_program_is_attached_replaced_and_detached(veth: Veth, program: Load, mode: str) -> None:
    end, first, second = veth.server, program(bpf.PROG_XDP), program(bpf.PROG_XDP)
    inside(end.name, xdp.attach, end.ifindex, first, mode)
    assert xdp_of(end) == [(mode, id_of(first))]
    inside(end.name, xdp.replace, end.ifindex, second, first, mode)
    assert xdp_of(end) == [(mode, id_of(second))]
    inside(end.name, xdp.detach, end.ifindex, second, mode)
    assert xdp_of(end) == []


@pytest.mark.parametrize("mode", MODES)
def test_an_attached_program_decides_about_frames(veth: Veth, program: Load, mode: str) -> None:
    dropping = program(bpf.PROG_XDP, DROP)
    with network.capture(veth.server.name, veth.server.dev) as seen:
        inside(veth.server.name, xdp.attach, veth.server.ifindex, dropping, mode)
        network.send(veth.client.name, veth.client.dev, [frame(veth.client, veth.server, b"dropped")])
        inside(veth.server.name, xdp.detach, veth.server.ifindex, dropping, mode)
        network.send(veth.client.name, veth.client.dev, [frame(veth.client, veth.server, b"passed")])
        assert not any(b"dropped" in data for data in seen.until(b"passed"))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("foreign_mode", MODES)
def test_a_foreign_program_is_named_and_stays(
    veth: Veth, program: Load, mode: str, foreign_mode: str
) -> None:
    end, foreign, ours = veth.server, program(bpf.PROG_XDP), program(bpf.PROG_XDP)
    inside(end.name, xdp.attach, end.ifindex, foreign, foreign_mode)
    with pytest.raises(ForeignError, match="nothing changed") as caught:
        inside(end.name, xdp.attach, end.ifindex, ours, mode)
    assert f"another XDP program (id {id_of(foreign)}, {foreign_mode}) is attached to {end.dev}" in str(
        caught.value
    )
    assert xdp_of(end) == [(foreign_mode, id_of(foreign))]


@pytest.mark.parametrize("mode", MODES)
def test_replace_and_detach_refuse_when_another_program_is_there(
    veth: Veth, program: Load, mode: str
) -> None:
    end, foreign, ours, new = veth.server, *(program(bpf.PROG_XDP) for _ in range(3))
    inside(end.name, xdp.attach, end.ifindex, foreign, mode)
    named = rf"{end.dev} has another XDP program \(id {id_of(foreign)}, {mode}\)"
    with pytest.raises(ForeignError, match=named):
        inside(end.name, xdp.replace, end.ifindex, new, ours, mode)
    with pytest.raises(ForeignError, match=named):
        inside(end.name, xdp.detach, end.ifindex, ours, mode)
    assert xdp_of(end) == [(mode, id_of(foreign))]


@pytest.mark.parametrize("mode", MODES)
def test_replace_and_detach_refuse_when_our_program_is_gone(veth: Veth, program: Load, mode: str) -> None:
    end, ours, new = veth.server, program(bpf.PROG_XDP), program(bpf.PROG_XDP)
    with pytest.raises(ForeignError, match=f"no longer on {end.dev}"):
        inside(end.name, xdp.replace, end.ifindex, new, ours, mode)
    with pytest.raises(ForeignError, match=f"no longer on {end.dev}"):
        inside(end.name, xdp.detach, end.ifindex, ours, mode)
    assert xdp_of(end) == []


@pytest.mark.parametrize("veth", [{"mtu": 9000}], indirect=True)
def test_an_mtu_beyond_the_driver_limit_needs_a_program_with_frags(veth: Veth, program: Load) -> None:
    end = veth.server
    with pytest.raises(KernelError, match=f"{end.dev} .MTU 9000.: .*MTU is too large .*nothing changed"):
        inside(end.name, xdp.attach, end.ifindex, program(bpf.PROG_XDP), "native")
    assert xdp_of(end) == []
    with_frags = program(bpf.PROG_XDP, flags=bpf.F_XDP_HAS_FRAGS)
    inside(end.name, xdp.attach, end.ifindex, with_frags, "native")
    assert xdp_of(end) == [("native", id_of(with_frags))]


def test_a_refusal_carries_the_words_of_the_kernel(veth: Veth, program: Load) -> None:
    wrong_type = program(bpf.PROG_SCHED_CLS)
    with pytest.raises(KernelError, match=rf"attach a native XDP program to {veth.server.dev} .*\(EINVAL\)"):
        inside(veth.server.name, xdp.attach, veth.server.ifindex, wrong_type, "native")


def test_attaching_to_a_vanished_interface_says_so(veth: Veth, program: Load) -> None:
    network.run(veth.server.name, "ip", "link", "del", veth.server.dev)
    with pytest.raises(NotLoadedError, match=f"index {veth.server.ifindex}.* vanished"):
        inside(veth.server.name, xdp.attach, veth.server.ifindex, program(bpf.PROG_XDP), "native")
    with pytest.raises(NotLoadedError, match="no such interface"):
        xdp_of(veth.server)
    with pytest.raises(NotLoadedError, match=f"index {veth.server.ifindex}.* vanished"):
        inside(veth.server.name, tc.add_clsact, veth.server.ifindex)


# --- TC ---------------------------------------------------------------------------------------------------


def test_a_filter_is_added_replaced_and_removed(veth: Veth, program: Load) -> None:
    end, first, second = veth.server, program(bpf.PROG_SCHED_CLS), program(bpf.PROG_SCHED_CLS)
    assert inside(end.name, tc.add_clsact, end.ifindex)
    inside(end.name, tc.add, end.ifindex, first, "one")
    place = (tc.HANDLE, tc.PRIORITY, 3, 0)
    assert filters_of(end) == [tc.Filter("bpf", *place, id_of(first), "one", True)]
    inside(end.name, tc.replace, end.ifindex, second, "two", id_of(first))
    assert filters_of(end) == [tc.Filter("bpf", *place, id_of(second), "two", True)]
    inside(end.name, tc.remove, end.ifindex, id_of(second))
    assert filters_of(end) == []
    assert inside(end.name, tc.remove_clsact_if_empty, end.ifindex)
    assert "clsact" not in network.run(end.name, "tc", "qdisc", "show").stdout


def test_the_filter_decides_about_frames(veth: Veth, program: Load) -> None:
    end, shot = veth.client, 2  # TC_ACT_SHOT
    dropping = program(bpf.PROG_SCHED_CLS, shot)
    inside(end.name, tc.add_clsact, end.ifindex)
    with network.capture(veth.server.name, veth.server.dev) as seen:
        inside(end.name, tc.add, end.ifindex, dropping, "drop")
        assert network.send(end.name, end.dev, [frame(end, veth.server, b"dropped")]) == 0
        inside(end.name, tc.remove, end.ifindex, id_of(dropping))
        assert network.send(end.name, end.dev, [frame(end, veth.server, b"passed")]) == 1
        assert not any(b"dropped" in data for data in seen.until(b"passed"))


def test_adding_clsact_a_second_time_is_no_addition(veth: Veth) -> None:
    end = veth.server
    assert inside(end.name, tc.add_clsact, end.ifindex)
    assert not inside(end.name, tc.add_clsact, end.ifindex)


def test_an_ingress_qdisc_in_the_place_of_clsact_is_named_and_stays(veth: Veth) -> None:
    end = veth.server
    network.run(end.name, "tc", "qdisc", "add", "dev", end.dev, "ingress")
    with pytest.raises(ForeignError, match=f"clsact to {end.dev}: a qdisc of kind ingress"):
        inside(end.name, tc.add_clsact, end.ifindex)
    assert not inside(end.name, tc.remove_clsact_if_empty, end.ifindex)
    assert "ingress" in network.run(end.name, "tc", "qdisc", "show", "dev", end.dev).stdout


@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_clsact_stays_while_someone_has_a_filter_on_it(veth: Veth, hook: str) -> None:
    end = veth.server
    inside(end.name, tc.add_clsact, end.ifindex)
    network.run(end.name, "tc", "filter", "add", "dev", end.dev, hook, *U32)
    assert not inside(end.name, tc.remove_clsact_if_empty, end.ifindex)
    assert "clsact" in network.run(end.name, "tc", "qdisc", "show").stdout
    network.run(end.name, "tc", "filter", "del", "dev", end.dev, hook)
    assert inside(end.name, tc.remove_clsact_if_empty, end.ifindex)


def test_removing_a_clsact_that_is_not_there_does_nothing(lab: Lab, veth: Veth) -> None:
    other = lab.veth(client=veth.server.name).client
    inside(other.name, tc.add_clsact, other.ifindex)
    assert not inside(veth.server.name, tc.remove_clsact_if_empty, veth.server.ifindex)
    assert "clsact" in network.run(other.name, "tc", "qdisc", "show", "dev", other.dev).stdout


def test_a_bpf_filter_in_our_place_is_named_and_stays(veth: Veth, program: Load) -> None:
    end, foreign, ours = veth.server, program(bpf.PROG_SCHED_CLS), program(bpf.PROG_SCHED_CLS)
    inside(end.name, tc.add_clsact, end.ifindex)
    inside(end.name, tc.add, end.ifindex, foreign, "theirs")
    named = f"program id {id_of(foreign)}, name theirs"
    with pytest.raises(ForeignError, match=named):
        inside(end.name, tc.add, end.ifindex, ours, "ours")
    with pytest.raises(ForeignError, match=named):
        inside(end.name, tc.replace, end.ifindex, ours, "ours", id_of(ours))
    with pytest.raises(ForeignError, match=named):
        inside(end.name, tc.remove, end.ifindex, id_of(ours))
    assert [entry.program for entry in filters_of(end)] == [id_of(foreign)]


def test_another_kind_of_filter_at_our_priority_is_named_and_stays(veth: Veth, program: Load) -> None:
    end = veth.server
    inside(end.name, tc.add_clsact, end.ifindex)
    place = ["filter", "add", "dev", end.dev, "egress", "prio", str(tc.PRIORITY)]
    network.run(end.name, "tc", *place, *U32)
    with pytest.raises(ForeignError, match="kind u32"):
        inside(end.name, tc.add, end.ifindex, program(bpf.PROG_SCHED_CLS), "ours")
    assert {entry.kind for entry in filters_of(end)} == {"u32"}


def test_replace_and_remove_refuse_when_our_filter_is_gone(veth: Veth, program: Load) -> None:
    end, ours = veth.server, program(bpf.PROG_SCHED_CLS)
    with pytest.raises(ForeignError, match="no longer attached"):
        inside(end.name, tc.replace, end.ifindex, ours, "ours", id_of(ours))
    with pytest.raises(ForeignError, match="no longer attached"):
        inside(end.name, tc.remove, end.ifindex, id_of(ours))


def test_a_filter_added_without_a_priority_comes_after_ours(veth: Veth, program: Load) -> None:
    end, ours = veth.server, program(bpf.PROG_SCHED_CLS)
    inside(end.name, tc.add_clsact, end.ifindex)
    inside(end.name, tc.add, end.ifindex, ours, "ours")
    for _ in range(2):
        network.run(end.name, "tc", "filter", "add", "dev", end.dev, "egress", *U32)
    first, *others = filters_of(end)
    assert (first.kind, {entry.kind for entry in others}) == ("bpf", {"u32"})
    assert {entry.priority for entry in others} == {49151, 49152}


def test_adding_a_filter_without_clsact_gives_the_words_of_the_kernel(veth: Veth, program: Load) -> None:
    with pytest.raises(KernelError, match=r"Parent Qdisc .*\(EINVAL\)"):
        inside(veth.server.name, tc.add, veth.server.ifindex, program(bpf.PROG_SCHED_CLS), "ours")


# --- features ---------------------------------------------------------------------------------------------


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


# --- links ------------------------------------------------------------------------------------------------


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
    for extra in (b"", link.attribute(1, bytes(4))):
        with pytest.raises(OSError, match="No device specified"):
            inside(veth.server.name, link.request, socket.NETLINK_ROUTE, 30, nobody + extra)


# --- neighbours -------------------------------------------------------------------------------------------


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


# --- namespaces -------------------------------------------------------------------------------------------


def test_identities_and_names_of_namespaces_agree(veth: Veth) -> None:
    here, client, server = (
        netns.identity(),
        *(inside(end.name, netns.identity) for end in (veth.client, veth.server)),
    )
    assert len({here, client, server}) == 3
    assert client.cookie != server.cookie or client.cookie == 0
    assert netns.names()[client.inode] == veth.client.name
    assert netns.names()[server.inode] == veth.server.name
    assert here.inode not in netns.names()
    assert inside(None, netns.identity) == here == netns.identity()


def test_a_name_without_a_namespace_behind_it_is_refused(veth: Veth) -> None:
    for name in ("no-such-name", "", ".", "..", "../ns", "nul\0", "a" * 300):
        with pytest.raises(NotLoadedError, match="no such network namespace"):
            inside(name, netns.identity)
    leftover = netns.FOLDER / f"{network.RUN}file"
    leftover.touch()
    try:
        with pytest.raises(NotLoadedError, match="is not a network namespace"):
            inside(leftover.name, netns.identity)
        assert leftover.name not in netns.names().values()
    finally:
        leftover.unlink()


def test_an_exception_inside_a_namespace_arrives_with_its_traceback(veth: Veth) -> None:
    def fail() -> None:
        raise ZeroDivisionError("inside")

    here = netns.identity()
    with pytest.raises(ZeroDivisionError, match="inside") as caught:
        inside(veth.server.name, fail)
    assert [entry.name for entry in caught.traceback][-1] == "fail"
    assert netns.identity() == here


def test_an_interruption_lets_the_function_clean_up_where_it_works(veth: Veth) -> None:
    here, done = netns.identity(), []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(network.PATIENCE)
        finally:
            done.append(netns.identity())

    with pytest.raises(KeyboardInterrupt):
        inside(veth.server.name, work)
    assert done == [inside(veth.server.name, netns.identity)]
    assert netns.identity() == here


# --- locks ------------------------------------------------------------------------------------------------

HOLDER = """
import sys
from pathlib import Path
from xdpguard.kernel import link, lock
with lock.held([link.find(sys.argv[2])], "xdpguard load", folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_with_the_name_of_the_first(veth: Veth, tmp_path: Path) -> None:
    end = veth.server
    command = ["nsenter", f"--net={netns.FOLDER / end.name}", sys.executable, "-c", HOLDER]
    with subprocess.Popen(
        [*command, str(tmp_path / "locks"), end.dev], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        expected = f"xdpguard load .pid {first.pid}. holds the lock of {end.dev}; waited 0 s; nothing changed"
        with pytest.raises(KernelError, match=expected):
            inside(end.name, take, [end.dev], tmp_path / "locks")
        first.kill()  # the kernel unlocks what a dead process held
        first.wait()
        inside(end.name, take, [end.dev], tmp_path / "locks")


def take(devices: list[str], folder: Path) -> None:
    with lock.held([link.find(dev) for dev in devices], "xdpguard unload", wait=0, folder=folder):
        pass


def test_a_waiting_holder_goes_on_when_the_first_lets_go(
    veth: Veth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = veth.server
    waiting, order, pause = threading.Event(), [], time.sleep

    def sleep(seconds: float) -> None:
        waiting.set()
        pause(seconds)

    monkeypatch.setattr(time, "sleep", sleep)

    def second() -> None:
        with lock.held([link.find(end.dev)], "second", wait=network.PATIENCE, folder=tmp_path / "locks"):
            order.append("second")

    def first() -> None:
        with lock.held([link.find(end.dev)], "first", folder=tmp_path / "locks"):
            thread.start()
            assert waiting.wait(network.PATIENCE)
            order.append("first")

    thread = threading.Thread(target=inside, args=(end.name, second))
    inside(end.name, first)
    thread.join()
    assert order == ["first", "second"]


def test_interfaces_of_two_namespaces_have_locks_of_their_own(veth: Veth, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "locks"  # not even its parent exists
    client, server = veth.client, veth.server

    def first() -> None:
        with lock.held([link.find("lo"), link.find(client.dev)], "first", folder=folder):
            inside(server.name, take, ["lo", server.dev], folder)
            with pytest.raises(KernelError, match="holds the lock of lo"):
                take([client.dev, "lo"], folder)

    inside(client.name, first)
    inside(client.name, take, ["lo", client.dev], folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert {file.read_text() for file in folder.iterdir()} == {""}


def test_a_lock_folder_that_others_can_write_is_refused(veth: Veth, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PrivilegeError, match="mode 0700"):
        inside(veth.server.name, take, [veth.server.dev], tmp_path)


def test_a_planted_link_in_the_place_of_a_lock_is_not_followed(veth: Veth, tmp_path: Path) -> None:
    end, target = veth.server, tmp_path / "target"
    inode = inside(end.name, netns.identity).inode
    folder = tmp_path / "locks"
    folder.mkdir(mode=0o700)
    (folder / f"{inode}-{end.ifindex}.lock").symlink_to(target)
    with pytest.raises(KernelError, match="cannot open the lock file"):
        inside(end.name, take, [end.dev], folder)
    assert not target.exists()


# --- the lab itself ---------------------------------------------------------------------------------------


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
