"""What an interface is, read from the kernel in under a millisecond; and the netlink sockets of this room.

Owns the read requests (rtnetlink and generic netlink, plain sockets and structs) and the one place that
opens a pyroute2 socket. Reads do without pyroute2: importing any part of it costs about 90 ms, which
``status`` and ``stats`` would pay on every call. Requests that change something use ``session()``. Every
socket is opened by the calling thread, so it belongs to that thread's namespace. Must never change anything
itself.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from xdpguard.errors import KernelError, NotLoadedError, PrivilegeError, XdpguardError

if TYPE_CHECKING:
    from pyroute2 import IPRoute

# uapi/linux/netlink.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DUMP_INTERRUPTED, _CAPPED, _ACK_TLVS = 0x10, 0x100, 0x200
_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_NLMSGERR_ATTR_MSG = 1
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: without the nested and byte-order flags
_HEADER = struct.Struct("=IHHII")
_DUMP_ATTEMPTS = 8

# uapi/linux/rtnetlink.h, if_link.h
_RTM_GETLINK = 18
_IFINFO = struct.Struct("=BxHiII")
_ADDRESS, _IFNAME, _MTU, _LINK, _LINKINFO, _EXT_MASK = 1, 3, 4, 5, 18, 29
_LINK_NETNSID, _XDP, _TARGET_NETNSID, _ALT_IFNAME = 37, 43, 46, 53
_INFO_KIND = 1
_SKIP_STATS = 1 << 3  # RTEXT_FILTER_SKIP_STATS
_IFF_UP = 1
_XDP_PROGRAM_ID = {5: "native", 6: "generic", 7: "offload"}  # IFLA_XDP_{DRV,SKB,HW}_PROG_ID
_IFNAMSIZ, _ALTIFNAMSIZ = 16, 128

# ARPHRD_ values of devices whose frames start at the IP header: dev_is_mac_header_xmit(), linux/if_arp.h
_NO_MAC_HEADER = frozenset({512, 519, 768, 769, 776, 778, 779, 823, 0xFFFE, 0xFFFF})


class XdpProgram(NamedTuple):
    """One attached XDP program. ``mode``: native, generic or offload."""

    mode: str
    program: int  # its id


@dataclass(frozen=True, slots=True)
class Link:
    """One interface as the kernel describes it."""

    ifindex: int
    name: str
    kind: str  # veth, vlan, bond, ...; "" for a physical device
    arphrd: int  # ARPHRD_ number, linux/if_arp.h
    mac: bytes  # b"" where the device has none
    mtu: int
    up: bool  # administratively (IFF_UP)
    xdp: tuple[XdpProgram, ...]
    parent: int | None  # ifindex of the device below a VLAN or macvlan, or of the peer of a veth
    parent_nsid: int | None  # id of the parent's namespace as seen from this one; None: the same namespace

    @property
    def is_l3(self) -> bool:
        """Frames have no Ethernet header: they start with the IP header."""
        return self.arphrd in _NO_MAC_HEADER


def find(name: str) -> Link:
    """The interface called ``name`` (an alternative name will do). NotLoadedError: there is none."""
    encoded = os.fsencode(name)
    if not encoded or b"\0" in encoded or len(encoded) >= _ALTIFNAMSIZ:
        raise NotLoadedError(f"no such interface: {name!r}")
    kind = _IFNAME if len(encoded) < _IFNAMSIZ else _ALT_IFNAME
    found = _get(0, attribute(kind, encoded + b"\0"))
    if found is None:
        raise NotLoadedError(f"no such interface: {name}")
    return found


def by_index(ifindex: int, nsid: int | None = None) -> Link | None:
    """The interface with this index, or None. ``nsid``: look in that namespace (see Link.parent_nsid)."""
    return _get(ifindex, b"" if nsid is None else attribute(_TARGET_NETNSID, struct.pack("=i", nsid)))


def label(ifindex: int) -> str:
    """The name of an interface for a message, also when it is gone."""
    found = by_index(ifindex)
    return found.name if found else f"the interface with index {ifindex}"


def _get(ifindex: int, extra: bytes) -> Link | None:
    body = _IFINFO.pack(0, 0, ifindex, 0, 0) + attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS)) + extra
    try:
        for answer in request(socket.NETLINK_ROUTE, _RTM_GETLINK, body):
            return _parse(answer)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise KernelError(f"cannot read the interface's state: {error.strerror}") from error
    return None


def _parse(answer: bytes) -> Link:
    _, arphrd, ifindex, flags, _ = _IFINFO.unpack_from(answer)
    found = attributes(answer, _IFINFO.size)
    programs = attributes(found.get(_XDP, b""))
    parent = found.get(_LINK)
    nsid = found.get(_LINK_NETNSID)
    return Link(
        ifindex=ifindex,
        name=os.fsdecode(text(found[_IFNAME])),
        kind=text(attributes(found.get(_LINKINFO, b"")).get(_INFO_KIND, b"")).decode(),
        arphrd=arphrd,
        mac=found.get(_ADDRESS, b""),
        mtu=number(found[_MTU]),
        up=bool(flags & _IFF_UP),
        xdp=tuple(
            XdpProgram(mode, number(programs[kind]))
            for kind, mode in _XDP_PROGRAM_ID.items()
            if kind in programs
        ),
        parent=number(parent) or None if parent else None,
        parent_nsid=struct.unpack("=i", nsid)[0] if nsid else None,
    )


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute (struct nlattr), padded to four bytes."""
    head = struct.pack("=HH", 4 + len(payload), kind) + payload
    return head + bytes(-len(head) % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Type -> payload of the attributes from ``offset`` on; of equal types the last one."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def text(payload: bytes) -> bytes:
    """A NUL-terminated string."""
    return payload.split(b"\0")[0]


def number(payload: bytes) -> int:
    """An unsigned number in the machine's byte order."""
    return int(struct.unpack({1: "=B", 2: "=H", 4: "=I", 8: "=Q"}[len(payload)], payload)[0])


def request(protocol: int, kind: int, body: bytes, *, dump: bool = False) -> list[bytes]:
    """Send one read request; return the payloads of the answers. OSError: the kernel's errno and words."""
    message = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | (_DUMP if dump else _ACK), 1, 0) + body
    for _ in range(_DUMP_ATTEMPTS):
        answers: list[bytes] = []
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as opened:
            opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            opened.bind((0, 0))
            opened.send(message)
            whole = True
            for answer_kind, flags, payload in _receive(opened):
                # The list changed while the kernel wrote it: entries may be missing, so ask again.
                whole = whole and not flags & _DUMP_INTERRUPTED
                if answer_kind not in (_NLMSG_ERROR, _NLMSG_DONE):
                    answers.append(payload)
        if whole:
            return answers
    raise OSError(errno.EINTR, f"the list kept changing in {_DUMP_ATTEMPTS} attempts to read it")


def _receive(opened: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    while True:
        data = opened.recv(1 << 18)
        offset = 0
        while offset < len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
            payload = data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                _check(kind, flags, payload)
                yield kind, flags, payload
                return
            yield kind, flags, payload


def _check(kind: int, flags: int, payload: bytes) -> None:
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code <= 0:
        return
    words = b""
    if flags & _ACK_TLVS:
        start = 4
        if kind == _NLMSG_ERROR:
            quoted = struct.unpack_from("=I", payload, 4)[0]
            start += _HEADER.size if flags & _CAPPED else (quoted + 3) & ~3
        words = text(attributes(payload, start).get(_NLMSGERR_ATTR_MSG, b""))
    raise OSError(code, words.decode(errors="replace") or os.strerror(code))


@contextmanager
def session() -> Iterator[IPRoute]:
    """A pyroute2 socket in the calling thread's namespace. OSError: the kernel's errno and words."""
    from pyroute2 import IPRoute, NetlinkError  # about 90 ms, so only those who need it pay

    try:
        # No multicast groups: answers to our own requests only.
        with IPRoute(ext_ack=True, groups=0) as opened:
            yield opened
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[1])) from error


def refusal(error: OSError, step: str, ifindex: int) -> XdpguardError:
    """The exception for a step that the kernel refused. ``step`` reads "attach a filter to eth0"."""
    code = error.errno or 0
    if code == errno.ENODEV or by_index(ifindex) is None:
        return NotLoadedError(f"cannot {step}: the interface (index {ifindex}) vanished; nothing changed")
    if code == errno.EPERM:
        return PrivilegeError(
            f"cannot {step}: {error.strerror} (root, or CAP_NET_ADMIN and CAP_BPF); nothing changed"
        )
    name = errno.errorcode.get(code, str(code))
    return KernelError(f"cannot {step}: {error.strerror} ({name}); nothing changed")
