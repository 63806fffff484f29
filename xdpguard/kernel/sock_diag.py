"""TCP and UDP sockets as the kernel lists them: sock_diag(7), uapi/linux/inet_diag.h, net/ipv4/inet_diag.c.

Owns struct inet_diag_msg and the attributes behind it. Only reads. ``netlink.request`` handles errors and
interrupted lists. pyroute2's DiagSocket is not used: its ``error_type = -1`` hides NLMSG_ERROR, so that a
refused request looks like a host without sockets; it takes no namespace, and a pyroute2 socket that does
forks a child; it reads both window scales of tcp_info from the same four bits; its import costs 90 ms.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address
from socket import AF_INET, AF_INET6, IPPROTO_TCP, IPPROTO_UDP
from typing import Literal, get_args

from xdpguard.errors import KernelError
from xdpguard.kernel import namespaces, netlink, netns

Protocol = Literal["tcp", "udp"]
State = Literal[
    "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT", "CLOSE", "CLOSE_WAIT",
    "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV", "BOUND_INACTIVE",
]  # fmt: skip
_STATES: tuple[State, ...] = get_args(State)  # in the order of the kernel's numbers, which begin at 1
Address = IPv4Address | IPv6Address

_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY = 4, 20
_REQUEST = struct.Struct("=BBBxI48x")  # struct inet_diag_req_v2; an empty socket id asks for all
_MESSAGE = struct.Struct("=4B 2s2s 16s16s IQ 3I II")  # struct inet_diag_msg
_INFO, _SKV6ONLY, _CGROUP_ID = 2, 11, 21
_PROTOCOLS: dict[Protocol, int] = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP}
# Not asked for: unfinished handshakes, what is left after a close, and sockets that have not begun.
_UNWANTED = ("SYN_RECV", "NEW_SYN_RECV", "TIME_WAIT", "BOUND_INACTIVE")
_ALL = sum(1 << number for number, name in enumerate(_STATES, 1) if name not in _UNWANTED)
_WANTED: dict[Protocol, int] = {"tcp": _ALL & ~(1 << 7), "udp": _ALL}  # CLOSE: a UDP socket without a peer

# struct tcp_info of uapi/linux/tcp.h: it grew at its end, so an older kernel sends less of it.
_TCP_INFO = {
    "rtt_us": (68, 4),  # smoothed
    "rttvar_us": (72, 4),
    "retransmits": (100, 4),  # segments, whole life
    "bytes_received": (128, 8),
    "packets_sent": (136, 4),  # segments
    "packets_received": (140, 4),
    "min_rtt_us": (148, 4),
    "bytes_sent": (200, 8),  # retransmissions included
    "bytes_retransmitted": (208, 8),
}
_NO_SAMPLE = {"rtt_us": 0, "min_rtt_us": 0xFFFFFFFF}


@dataclass(frozen=True, slots=True)
class TcpInfo:
    """None: this kernel does not tell, or has no sample."""

    rtt_us: int | None = None
    rttvar_us: int | None = None
    retransmits: int | None = None
    bytes_received: int | None = None
    packets_sent: int | None = None
    packets_received: int | None = None
    min_rtt_us: int | None = None
    bytes_sent: int | None = None
    bytes_retransmitted: int | None = None


@dataclass(frozen=True, slots=True)
class Socket:
    """One socket; ports in host order. A v4-mapped IPv6 address is IPv4.

    ``cookie`` names it for ever in its namespace. ``inode`` 0: no file, so no process has it. ``remote``
    None: not connected; ``local`` may be 0.0.0.0 or ``::``. ``v6only`` None: the kernel says it of
    unconnected IPv6 sockets only. ``uid``: of the socket's creator. ``cgroup``: v2 id of where it was
    created; an accepted socket has its listener's; None before Linux 5.8. ``ifindex``: its bound device.
    """

    cookie: int
    inode: int
    uid: int
    protocol: Protocol
    state: State
    family: Literal[4, 6]
    local: Address
    local_port: int
    remote: Address | None
    remote_port: int | None
    ifindex: int | None = None
    v6only: bool | None = None
    cgroup: int | None = None
    info: TcpInfo | None = None

    @property
    def dual(self) -> bool:
        """Bound to ``::`` and open to IPv4 too."""
        return self.family == 6 and self.v6only is False and self.local.is_unspecified


@dataclass(frozen=True, slots=True)
class Survey:
    """``sockets``: by the namespace's inode number. ``notes``: what could not be listed, a line a reason.

    ``namespaces``: inode number -> ``netns.Identity.key``, asked for together with the sockets, since the
    inode number may be another namespace's a moment later.
    """

    sockets: Mapping[int, tuple[Socket, ...]]
    notes: tuple[str, ...]
    namespaces: Mapping[int, int] = field(default_factory=dict)


def everywhere(only: Collection[int] = (), *, info: bool = False) -> Survey:
    """The sockets of all network namespaces, or of those with the inodes given. See ``namespaces.each``."""
    visit = namespaces.each(lambda: (netns.identity(), *listed(info=info)), only)
    refused = {note: None for _, _, notes in visit.results.values() for note in notes}
    sockets = {inode: found for inode, (_, found, _) in visit.results.items()}
    keys = {inode: identity.key for inode, (identity, _, _) in visit.results.items()}
    return Survey(sockets, (*visit.notes, *refused), keys)


def listed(*, info: bool = False) -> tuple[tuple[Socket, ...], tuple[str, ...]]:
    """(sockets, notes) of the calling thread's namespace. A note says which kind of socket is missing."""
    found: list[Socket] = []
    notes: list[str] = []
    for protocol in _PROTOCOLS:
        for family in (AF_INET, AF_INET6):
            try:
                found += dump(protocol, family, info=info)
            except KernelError as error:
                notes.append(str(error))
    return tuple(found), tuple(notes)


def dump(protocol: Protocol, family: int, *, info: bool = False) -> list[Socket]:
    """One kind of socket of the calling thread's namespace, each once.

    ``family``: AF_INET or AF_INET6. ``info``: with struct tcp_info. Raises KernelError.
    """
    wanted = 1 << (_INFO - 1) if info and protocol == "tcp" else 0
    body = _REQUEST.pack(family, _PROTOCOLS[protocol], wanted, _WANTED[protocol])
    try:
        answers = netlink.request(_NETLINK_SOCK_DIAG, _SOCK_DIAG_BY_FAMILY, body, dump=True)
    except OSError as error:
        reason = error.strerror
        if error.errno == errno.ENOENT:
            reason = f"the kernel has no {protocol}_diag"
        version = 4 if family == AF_INET else 6
        raise KernelError(
            f"{protocol} sockets of IPv{version} cannot be listed: {reason}; those there now stay unknown"
        ) from error
    # Sockets come and go while the list is read in parts: one may be in it twice.
    return list({one.cookie: one for one in (parse(protocol, answer) for answer in answers)}.values())


def parse(protocol: Protocol, message: bytes) -> Socket:
    """struct inet_diag_msg and its attributes. KernelError: too short, or no IP socket."""
    if len(message) < _MESSAGE.size:
        raise KernelError(f"sock_diag: a message of {len(message)} bytes, at least {_MESSAGE.size} expected")
    fields = _MESSAGE.unpack_from(message)
    family, state, _, _, sport, dport, source, target, device, cookie, _, _, _, uid, inode = fields
    if family not in (AF_INET, AF_INET6) or not 0 < state <= len(_STATES):
        raise KernelError(f"sock_diag: family {family} in state {state}, an IP socket expected")
    local, remote = _addresses(family, source, target)
    local_port, remote_port = (int.from_bytes(port, "big") for port in (sport, dport))
    connected = bool(remote_port) or not remote.is_unspecified
    extra = netlink.attributes(message, _MESSAGE.size)
    v6only = _number(extra, _SKV6ONLY)
    return Socket(
        cookie, inode, uid, protocol, _STATES[state - 1], 4 if local.version == 4 else 6, local, local_port,
        remote if connected else None, remote_port if connected else None,
        ifindex=device or None,
        v6only=None if v6only is None else bool(v6only),
        cgroup=_number(extra, _CGROUP_ID),
        info=tcp_info(extra[_INFO]) if _INFO in extra else None,
    )  # fmt: skip


def tcp_info(data: bytes) -> TcpInfo:
    """As much of it as was sent."""
    return TcpInfo(**dict(_values(data)))


def _values(data: bytes) -> Iterator[tuple[str, int]]:
    for name, (offset, size) in _TCP_INFO.items():
        if offset + size <= len(data):
            value = netlink.number(data[offset : offset + size])
            if value != _NO_SAMPLE.get(name):
                yield name, value


def _number(extra: Mapping[int, bytes], kind: int) -> int | None:
    payload = extra.get(kind, b"")
    return netlink.number(payload) if len(payload) in (1, 2, 4, 8) else None


def _addresses(family: int, source: bytes, target: bytes) -> tuple[Address, Address]:
    if family == AF_INET:
        return IPv4Address(source[:4]), IPv4Address(target[:4])
    local, remote = IPv6Address(source), IPv6Address(target)
    # An IPv6 socket that talks IPv4; with an IPv4 end the other is IPv4 too, if only 0.0.0.0.
    ends = [end.ipv4_mapped or (IPv4Address(0) if not int(end) else None) for end in (local, remote)]
    if (local.ipv4_mapped or remote.ipv4_mapped) and ends[0] is not None and ends[1] is not None:
        return ends[0], ends[1]
    return local, remote
