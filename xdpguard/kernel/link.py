"""What an interface is, read from the kernel in under a millisecond; and how a refused change of one is told.

Owns RTM_GETLINK. All functions work in the current thread's network namespace. Must never change anything.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import NamedTuple

from xdpguard.errors import (
    KernelError,
    NotLoadedError,
    PrivilegeError,
    ReadError,
    XdpguardError,
    refusal_text,
)
from xdpguard.kernel import netlink, processes

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
    found = _get(name, 0, netlink.attribute(kind, encoded + b"\0"))
    if found is None:
        raise NotLoadedError(f"no such interface: {name}")
    return found


def by_index(ifindex: int, nsid: int | None = None) -> Link | None:
    """The interface with this index, or None. ``nsid``: look in that namespace (see Link.parent_nsid)."""
    other = b"" if nsid is None else netlink.attribute(_TARGET_NETNSID, struct.pack("=i", nsid))
    return _get(_numbered(ifindex), ifindex, other)


def label(ifindex: int) -> str:
    """The name of an interface for a message, also when it is gone or cannot be asked for."""
    try:
        found = by_index(ifindex)
    except ReadError:
        found = None
    return found.name if found else _numbered(ifindex)


def _numbered(ifindex: int) -> str:
    return f"the interface with index {ifindex}"


def unreadable(what: str, error: OSError) -> ReadError:
    """The exception for a question that the kernel refused. ``what`` reads "the state of eth0"."""
    return ReadError(f"cannot read {what}: {refusal_text(error)}")


def _get(what: str, ifindex: int, extra: bytes) -> Link | None:
    head = _IFINFO.pack(0, 0, ifindex, 0, 0)
    brief = netlink.attribute(_EXT_MASK, struct.pack("=I", _SKIP_STATS))
    try:
        for answer in netlink.request(socket.NETLINK_ROUTE, _RTM_GETLINK, head + brief + extra):
            return _parse(answer)
    except OSError as error:
        if error.errno != errno.ENODEV:
            raise unreadable(f"the state of {what}", error) from error
    return None


def _parse(answer: bytes) -> Link:
    _, arphrd, ifindex, flags, _ = _IFINFO.unpack_from(answer)
    found = netlink.attributes(answer, _IFINFO.size)
    programs = netlink.attributes(found.get(_XDP, b""))
    parent = found.get(_LINK)
    nsid = found.get(_LINK_NETNSID)
    return Link(
        ifindex=ifindex,
        name=os.fsdecode(netlink.text(found[_IFNAME])),
        kind=netlink.text(netlink.attributes(found.get(_LINKINFO, b"")).get(_INFO_KIND, b"")).decode(),
        arphrd=arphrd,
        mac=found.get(_ADDRESS, b""),
        mtu=netlink.number(found[_MTU]),
        up=bool(flags & _IFF_UP),
        xdp=tuple(
            XdpProgram(mode, netlink.number(programs[kind]))
            for kind, mode in _XDP_PROGRAM_ID.items()
            if kind in programs
        ),
        parent=netlink.number(parent) or None if parent else None,
        parent_nsid=struct.unpack("=i", nsid)[0] if nsid else None,
    )


def _is_gone(ifindex: int) -> bool:
    try:
        return by_index(ifindex) is None
    except ReadError:
        return False  # the refused step is what there is to tell


def refusal(error: OSError, step: str, ifindex: int) -> XdpguardError:
    """The exception for a step that the kernel refused. ``step`` reads "attach a filter to eth0"."""
    code = error.errno or 0
    if code == errno.ENODEV or _is_gone(ifindex):
        return NotLoadedError(f"cannot {step}: the interface (index {ifindex}) vanished; nothing changed")
    if code == errno.EPERM:
        needed = processes.needs("CAP_NET_ADMIN")
        return PrivilegeError(f"cannot {step}: {error.strerror}: {needed}; nothing changed")
    return KernelError(f"cannot {step}: {refusal_text(error)}; nothing changed")
