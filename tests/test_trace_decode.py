"""The kernel's bytes -> events: every field, unknown values, v4-mapped addresses, bytes that are none."""

from __future__ import annotations

import errno
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from trace_bytes import CURL, NETNS, SECOND, WEB, ends, event, flow, packed, struct_of, task

from xdpguard.abi import abi
from xdpguard.trace import decode
from xdpguard.trace.model import Counts, Event, Owner, ProcessKey, TaskEvent, Tuple


def event_of(data: bytes) -> Event:
    found = decode.record(data)
    assert isinstance(found, Event)
    return found


def task_of(data: bytes) -> TaskEvent:
    found = decode.record(data)
    assert isinstance(found, TaskEvent)
    return found


def flow_of(row: tuple[bytes, bytes]) -> Event:
    found = decode.flow(*row)
    assert found is not None
    return found


def test_every_field_of_an_event_arrives_in_its_place() -> None:
    counted = dict(bytes_sent=10, bytes_received=11, packets_sent=12, packets_received=13, retransmits=14)
    times = dict(opened=5, handshake_ns=6, rtt_us=15)
    found = event_of(event("CLOSE", 7, 8, ifindex=16, incoming=1, **times, **counted))
    owner = Owner(ProcessKey(4242, 5 * SECOND), 4243, 1000, 100, 77, "resolver", "exact")
    where = Tuple(NETNS, 4, "tcp", IPv4Address("192.0.2.1"), 40000, IPv4Address("198.51.100.7"), 443)
    counts = Counts(10, 11, 12, 13, 14, 15)
    assert found == Event("close", 7, 8, owner, where, True, None, 5, 6, 16, counts)


def test_pid_and_tid_are_not_swapped() -> None:
    owner = event_of(event("CONNECT")).owner
    assert owner is not None
    assert (owner.process.pid, owner.tid) == (4242, 4243)


def test_what_the_kernel_does_not_know_is_none_and_not_zero() -> None:
    found = event_of(event("CLOSE", owner=CURL | {"cgroup": 0}, ifindex=0))
    assert (found.opened, found.handshake_ns, found.ifindex) == (None, None, None)
    assert found.counts is not None
    assert found.counts.rtt_us is None
    assert found.owner is not None
    assert found.owner.cgroup is None


def test_an_owner_by_nobody_is_no_owner_though_its_bytes_name_a_pid() -> None:
    assert event_of(event("CLOSE", owner=CURL | {"attribution": 0})).owner is None
    assert event_of(event("CLOSE", owner=CURL | {"attribution": 99})).owner is None


@pytest.mark.parametrize(("number", "name"), [(1, "exact"), (2, "late"), (3, "procfs"), (4, "kernel")])
def test_each_attribution_has_its_name(number: int, name: str) -> None:
    owner = event_of(event("CLOSE", owner=CURL | {"attribution": number})).owner
    assert owner is not None
    assert owner.attribution == name


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (errno.ECONNREFUSED, "ECONNREFUSED"),
        (errno.ETIMEDOUT, "ETIMEDOUT"),
        (0, "aborted"),
        (9999, "errno 9999"),
    ],
)
def test_a_failed_connect_says_why(error: int, reason: str) -> None:
    assert event_of(event("CONNECT_FAILED", error=error)).error == reason


def test_only_a_failed_connect_has_a_reason_and_only_a_close_has_counts() -> None:
    found = event_of(event("RETRANSMIT", error=111, bytes_sent=5))
    assert (found.error, found.counts) == (None, None)


def test_ipv6_is_decoded_and_says_so() -> None:
    where = event_of(event("ACCEPT", tuple=ends("2001:db8::1", 443, "2001:db8::2", 5))).tuple
    assert (where.family, where.local, where.remote) == (
        6,
        IPv6Address("2001:db8::1"),
        IPv6Address("2001:db8::2"),
    )


@pytest.mark.parametrize("local", ["::ffff:192.0.2.1", "::"])
def test_a_v4_mapped_peer_makes_both_ends_ipv4(local: str) -> None:
    where = event_of(event("ACCEPT", tuple=ends(local, 443, "::ffff:198.51.100.7", 5))).tuple
    assert where.family == 4
    assert where.remote == IPv4Address("198.51.100.7")
    assert where.local == (IPv4Address("192.0.2.1") if "." in local else IPv4Address(0))


def test_a_peer_of_zeros_is_none() -> None:
    where = event_of(event("LISTEN", tuple=ends("0.0.0.0", 80, "0.0.0.0", 0))).tuple
    assert (where.local, where.local_port) == (IPv4Address(0), 80)
    assert (where.remote, where.remote_port) == (None, None)


def test_a_socket_that_was_never_bound_has_no_local_address() -> None:
    where = event_of(event("CONNECT_FAILED", tuple=ends("0.0.0.0", 0, "192.0.2.9", 80))).tuple
    assert (where.local, where.local_port) == (None, 0)


def test_a_name_ends_at_its_first_nul_and_keeps_bytes_that_are_no_utf8() -> None:
    owner = event_of(event("CONNECT", owner=CURL | {"comm": b"a\xffb\0leftover"})).owner
    assert owner is not None
    assert owner.comm.encode("utf-8", "surrogateescape") == b"a\xffb"


@pytest.mark.parametrize("kind", ["fork", "exec", "exit"])
def test_every_field_of_a_task_arrives_in_its_place(kind: str) -> None:
    found = task_of(task(kind.upper(), 9, path=b"/usr/bin/curl"))
    assert found == TaskEvent(
        kind, 9, ProcessKey(4242, 5 * SECOND), ProcessKey(10, SECOND), 1000, 100, 77, "curl", "/usr/bin/curl",  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_task_without_parent_path_or_cgroup_has_none() -> None:
    found = task_of(task("FORK", parent=0, parent_start_time=0, cgroup=0))
    assert (found.parent, found.path, found.cgroup) == (None, None, None)


def test_a_udp_receive_has_its_process_its_peer_and_its_bytes() -> None:
    found = flow_of(flow("UDP_RECV", 3, 300, remote=packed("203.0.113.5"), remote_port=99))
    assert (found.kind, found.incoming, found.counts) == ("udp-recv", True, Counts(0, 300, 0, 3))
    assert (found.tuple.remote, found.tuple.remote_port) == (IPv4Address("203.0.113.5"), 99)
    assert found.owner is not None
    assert found.owner.process.pid == 4242


def test_a_udp_send_counts_on_the_other_side() -> None:
    assert flow_of(flow("UDP_SEND", 3, 300)).counts == Counts(300, 0, 3, 0)


def test_an_ipv6_socket_that_sends_to_a_v4_mapped_peer_speaks_ipv4() -> None:
    unbound = ends("0.0.0.0", 7, "0.0.0.0", 0, protocol=17)
    row = flow("UDP_SEND", 1, 1, family=10, remote=packed("::ffff:203.0.113.5"), tuple=unbound)
    where = flow_of(row).tuple
    assert (where.family, where.local, where.remote) == (4, IPv4Address(0), IPv4Address("203.0.113.5"))


def test_a_kind_family_or_protocol_that_nobody_defined_is_no_event() -> None:
    assert decode.record(struct_of("xg_event", kind=99, tuple=WEB)) is None
    assert decode.record(event("CLOSE", tuple=WEB | {"family": 1})) is None
    assert decode.record(event("CLOSE", tuple=WEB | {"protocol": 132})) is None
    assert decode.record(task("CLOSE")) is None
    assert decode.record(event("UDP_SEND")) is None  # never in the ring
    assert decode.flow(*flow("CLOSE", 1, 1)) is None


def sized(name: str) -> st.SearchStrategy[bytes]:
    size = abi().structs[name].size
    return st.binary(min_size=size, max_size=size)


@given(st.one_of(sized("xg_event"), sized("xg_task_event"), st.binary(max_size=64)))
def test_no_bytes_raise(data: bytes) -> None:
    decode.record(data)


KIND = st.sampled_from([*decode.KINDS, *decode.TASKS])


@given(KIND, sized("xg_event"), sized("xg_task_event"), st.sampled_from([2, 10]), st.sampled_from([6, 17]))
def test_no_bytes_of_a_known_kind_raise(
    kind: int, one: bytes, other: bytes, family: int, protocol: int
) -> None:
    place = abi().offset("xg_event.tuple")
    data, more = bytearray(one), bytearray(other)
    abi().put(data, "xg_event.kind", kind)
    abi().put(data, "xg_tuple.family", family, place)
    abi().put(data, "xg_tuple.protocol", protocol, place)
    abi().put(more, "xg_task_event.kind", kind)
    assert (decode.record(bytes(data)) is None) == (decode.KINDS.get(kind, "udp").startswith("udp"))
    assert (decode.record(bytes(more)) is None) == (kind not in decode.TASKS)


@given(sized("xg_flow_key"), sized("xg_flow"), st.sampled_from([2, 10, 0]), st.sampled_from([2, 10, 0]))
def test_no_row_of_the_flow_table_raises(key: bytes, value: bytes, family: int, other: int) -> None:
    row, rest = bytearray(key), bytearray(value)
    abi().put(row, "xg_flow_key.kind", abi().numbers["XG_EV_UDP_SEND"])
    abi().put(row, "xg_flow_key.family", family)
    abi().put(rest, "xg_tuple.family", other, abi().offset("xg_flow.tuple"))
    abi().put(rest, "xg_tuple.protocol", 17, abi().offset("xg_flow.tuple"))
    decode.flow(bytes(row), bytes(rest))
