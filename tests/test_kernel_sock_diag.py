"""sock_diag's messages as bytes -> sockets. What the kernel really sends: tests/live/test_sock_diag.py."""

from __future__ import annotations

import errno
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from socket import AF_INET, AF_INET6, AF_UNIX

import pytest

from xdpguard.errors import KernelError
from xdpguard.kernel import netlink, sock_diag
from xdpguard.kernel.sock_diag import TcpInfo, parse, tcp_info

ESTABLISHED, CLOSE, LISTEN = 1, 7, 10
NLMSG_ERROR, NLMSG_DONE, SOCK_DIAG = 2, 3, 20
MULTI, INTERRUPTED = 0x2, 0x10


def message(
    family: int = AF_INET,
    state: int = ESTABLISHED,
    local: tuple[str, int] = ("192.0.2.1", 8080),
    remote: tuple[str, int] = ("192.0.2.2", 51176),
    *,
    cookie: int = 0x1_0000_0007,
    inode: int = 111,
    ifindex: int = 0,
    extra: bytes = b"",
) -> bytes:
    """struct inet_diag_msg, field by field as in uapi/linux/inet_diag.h."""
    ends = [ip_address(address).packed.ljust(16, b"\0") for address, _ in (local, remote)]
    return b"".join(
        [
            struct.pack("=BBBB", family, state, 0, 0),
            struct.pack("!HH", local[1], remote[1]),
            *ends,
            struct.pack("=III", ifindex, cookie & 0xFFFFFFFF, cookie >> 32),
            struct.pack("=IIIII", 1, 2, 3, 1000, inode),
            extra,
        ]
    )


def framed(kind: int, payload: bytes, flags: int = MULTI) -> bytes:
    padded = payload + bytes(-len(payload) % 4)
    return struct.pack("=IHHII", 16 + len(payload), kind, flags, 1, 0) + padded


DONE = framed(NLMSG_DONE, struct.pack("=i", 0))


class Wire:
    """In the place of netlink's sockets: each one gets the next script of datagrams."""

    def __init__(self, *scripts: Iterable[bytes]) -> None:
        self._scripts, self._now = iter(scripts), iter(())
        self.sent: list[bytes] = []

    def __call__(self, *_: object) -> Wire:
        self._now = iter(next(self._scripts))  # type: ignore[arg-type]
        return self

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None: ...
    def setsockopt(self, *_: object) -> None: ...
    def bind(self, *_: object) -> None: ...

    def send(self, data: bytes) -> None:
        self.sent.append(data)

    def recv(self, _: int) -> bytes:
        return next(self._now)


@pytest.fixture
def wire(monkeypatch: pytest.MonkeyPatch) -> Wires:
    return Wires(monkeypatch)


class Wires:
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, *scripts: Iterable[bytes]) -> Wire:
        made = Wire(*scripts)
        self._monkeypatch.setattr("xdpguard.kernel.netlink.socket.socket", made)
        return made


# ---- one message --------------------------------------------------------------------------------------
def test_every_field_of_a_connection_is_read() -> None:
    extra = netlink.attribute(21, struct.pack("=Q", 4711))
    found = parse("tcp", message(ifindex=3, extra=extra))
    assert found == sock_diag.Socket(
        cookie=0x1_0000_0007, inode=111, uid=1000, protocol="tcp", state="ESTABLISHED", family=4,
        local=IPv4Address("192.0.2.1"), local_port=8080, remote=IPv4Address("192.0.2.2"), remote_port=51176,
        ifindex=3, v6only=None, cgroup=4711, info=None,
    )  # fmt: skip


def test_ipv6_is_read() -> None:
    found = parse("tcp", message(AF_INET6, local=("2001:db8::1", 443), remote=("2001:db8::2", 5)))
    assert (found.family, found.local, found.remote) == (
        6,
        IPv6Address("2001:db8::1"),
        IPv6Address("2001:db8::2"),
    )


def test_an_ipv6_socket_that_talks_ipv4_is_ipv4() -> None:
    found = parse("tcp", message(AF_INET6, local=("::ffff:192.0.2.1", 1), remote=("::ffff:192.0.2.2", 2)))
    assert (found.family, found.local, found.remote) == (
        4,
        IPv4Address("192.0.2.1"),
        IPv4Address("192.0.2.2"),
    )


def test_an_ipv6_socket_bound_to_an_ipv4_address_is_ipv4() -> None:
    for address in ("192.0.2.1", "0.0.0.0"):
        found = parse("udp", message(AF_INET6, CLOSE, (f"::ffff:{address}", 53), ("::", 0)))
        assert (found.family, found.local, found.remote) == (4, IPv4Address(address), None)


def test_who_is_not_connected_has_no_peer() -> None:
    listener = parse("tcp", message(state=LISTEN, local=("0.0.0.0", 80), remote=("0.0.0.0", 0)))
    bound = parse("udp", message(AF_INET6, CLOSE, ("2001:db8::1", 53), ("::", 0)))
    assert (listener.state, listener.remote, listener.remote_port) == ("LISTEN", None, None)
    assert (bound.state, bound.remote, bound.remote_port) == ("CLOSE", None, None)


@pytest.mark.parametrize(
    ("address", "v6only", "dual"),
    [("::", 0, True), ("::", 1, False), ("2001:db8::1", 0, False)],
)
def test_a_listener_on_any_address_may_be_open_to_ipv4_too(address: str, v6only: int, dual: bool) -> None:
    extra = netlink.attribute(11, bytes([v6only]))
    found = parse("tcp", message(AF_INET6, LISTEN, (address, 80), ("::", 0), extra=extra))
    assert (found.family, found.v6only, found.dual) == (6, bool(v6only), dual)


def test_a_listener_of_which_it_is_not_said_is_not_taken_for_open_to_ipv4() -> None:
    assert not parse("tcp", message(AF_INET6, LISTEN, ("::", 80), ("::", 0))).dual


def test_unknown_attributes_are_passed_over() -> None:
    extra = netlink.attribute(300, b"new") + netlink.attribute(21, struct.pack("=Q", 5)) + b"\0\0\0\0"
    assert parse("tcp", message(extra=extra)).cgroup == 5


@pytest.mark.parametrize("payload", [b"", b"\1\2\3"])
def test_a_number_of_an_impossible_length_is_not_known(payload: bytes) -> None:
    assert parse("tcp", message(extra=netlink.attribute(21, payload))).cgroup is None


@pytest.mark.parametrize("length", [0, 4, 71])
def test_a_truncated_message_is_refused(length: int) -> None:
    with pytest.raises(KernelError, match=f"a message of {length} bytes, at least 72 expected"):
        parse("tcp", message()[:length])


def test_what_is_no_ip_socket_is_refused() -> None:
    for family, state in ((AF_UNIX, 1), (AF_INET, 0), (AF_INET, 14)):
        with pytest.raises(KernelError, match=f"family {family} in state {state}, an IP socket expected"):
            parse("tcp", message(family, state))


# ---- struct tcp_info ----------------------------------------------------------------------------------
def info_bytes() -> bytearray:
    """Each u32 below offset 104, and each u64 or pair of u32 behind it, holds its own offset."""
    data = bytearray(b"".join(struct.pack("=I", offset) for offset in range(0, 232, 4)))
    for offset in (104, 112, 120, 128, 160, 168, 176, 184, 200, 208):
        struct.pack_into("=Q", data, offset, offset)
    return data


def test_tcp_info_is_read_by_its_offsets() -> None:
    assert tcp_info(bytes(info_bytes())) == TcpInfo(
        rtt_us=68, rttvar_us=72, retransmits=100, bytes_received=128, packets_sent=136, packets_received=140,
        min_rtt_us=148, bytes_sent=200, bytes_retransmitted=208,
    )  # fmt: skip


def test_an_older_kernels_shorter_tcp_info_is_read_as_far_as_it_goes() -> None:
    whole = bytes(info_bytes())
    assert tcp_info(whole[:104]) == TcpInfo(rtt_us=68, rttvar_us=72, retransmits=100)
    assert tcp_info(whole[:71]) == TcpInfo()
    assert tcp_info(whole[:206]).bytes_sent is None


def test_without_a_sample_there_is_no_round_trip_time() -> None:
    data = info_bytes()
    struct.pack_into("=I", data, 68, 0)
    struct.pack_into("=I", data, 148, 0xFFFFFFFF)
    found = tcp_info(bytes(data))
    assert (found.rtt_us, found.min_rtt_us) == (None, None)


# ---- a list -------------------------------------------------------------------------------------------
def test_a_list_of_several_datagrams_is_read_to_its_end(wire: Wires) -> None:
    first = framed(SOCK_DIAG, message(cookie=1)) + framed(SOCK_DIAG, message(cookie=2))
    wire([first, framed(SOCK_DIAG, message(cookie=3)), DONE])
    assert [one.cookie for one in sock_diag.dump("tcp", AF_INET)] == [1, 2, 3]


def test_a_socket_that_is_listed_twice_is_given_once(wire: Wires) -> None:
    wire([framed(SOCK_DIAG, message(cookie=1)) + framed(SOCK_DIAG, message(cookie=1)) + DONE])
    assert len(sock_diag.dump("tcp", AF_INET)) == 1


@pytest.mark.parametrize(("info", "asked"), [(False, 0), (True, 2)])
def test_the_request_asks_for_a_family_its_states_and_perhaps_tcp_info(
    info: bool, asked: int, wire: Wires
) -> None:
    sent = wire([DONE]).sent
    sock_diag.dump("tcp", AF_INET6, info=info)
    length, kind, flags, _, _, family, protocol, extra, states = struct.unpack_from("=IHHIIBBBxI", sent[0])
    assert (length, kind, flags) == (16 + 56, SOCK_DIAG, 0x301)
    assert (family, protocol, extra) == (AF_INET6, 6, asked)
    # Neither SYN_RECV (3), TIME_WAIT (6), CLOSE (7) nor NEW_SYN_RECV (12), BOUND_INACTIVE (13).
    assert states == sum(1 << number for number in (1, 2, 4, 5, 8, 9, 10, 11))


def test_udp_is_asked_for_unconnected_sockets_too_and_never_for_tcp_info(wire: Wires) -> None:
    sent = wire([DONE]).sent
    sock_diag.dump("udp", AF_INET, info=True)
    protocol, extra, states = struct.unpack_from("=BBxI", sent[0], 17)
    assert (protocol, extra) == (17, 0)
    assert states & (1 << 7)
    assert states & (1 << 1)


def test_an_interrupted_list_is_read_again(wire: Wires) -> None:
    broken = framed(SOCK_DIAG, message(cookie=1), MULTI | INTERRUPTED) + DONE
    wire([broken], [framed(SOCK_DIAG, message(cookie=2)) + DONE])
    assert [one.cookie for one in sock_diag.dump("tcp", AF_INET)] == [2]


def test_a_list_that_is_always_interrupted_is_given_up_and_said(wire: Wires) -> None:
    wire(*[[framed(SOCK_DIAG, message(), INTERRUPTED) + DONE]] * 100)
    with pytest.raises(
        KernelError, match="tcp sockets of IPv4 cannot be listed: the list kept changing in 8"
    ):
        sock_diag.dump("tcp", AF_INET)


@pytest.mark.parametrize("kind", [NLMSG_ERROR, NLMSG_DONE])
def test_a_refusal_is_an_error_and_not_an_empty_list(kind: int, wire: Wires) -> None:
    wire([framed(kind, struct.pack("=i", -errno.EACCES) + bytes(16), 0)])
    with pytest.raises(KernelError, match="udp sockets of IPv6 cannot be listed: Permission denied; those"):
        sock_diag.dump("udp", AF_INET6)


def test_one_kind_that_the_kernel_does_not_list_is_said_and_the_others_are_read(wire: Wires) -> None:
    good = [framed(SOCK_DIAG, message(cookie=1)) + DONE]
    missing = [framed(NLMSG_ERROR, struct.pack("=i", -errno.ENOENT) + bytes(16), 0)]
    wire(good, [DONE], missing, missing)
    found, notes = sock_diag.listed()
    assert [one.cookie for one in found] == [1]
    assert notes == (
        "udp sockets of IPv4 cannot be listed: the kernel has no udp_diag; those there now stay unknown",
        "udp sockets of IPv6 cannot be listed: the kernel has no udp_diag; those there now stay unknown",
    )
