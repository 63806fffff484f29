"""Who is next door: gateways and their MACs, the route to an address, and which addresses are the host's own.

Owns the route and neighbour requests that the preflight needs. Only asks, never sets. All functions work in
the current thread's network namespace.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any, NamedTuple

from xdpguard.kernel import link, netlink

Address = IPv4Address | IPv6Address

# uapi/linux/rtnetlink.h and neighbour.h
_RTN_LOCAL = 2
_GETROUTE, _GETNEIGH = 26, 30
_RTMSG, _NEXT_HOP, _NDMSG = struct.Struct("=B11x"), struct.Struct("=HBBi"), struct.Struct("=B3xi4x")
_RTA_OIF, _RTA_GATEWAY, _RTA_MULTIPATH, _RTA_VIA = 4, 5, 9, 18
_NDA_DST, _NDA_LLADDR = 1, 2
# No route, and the answers of the route types unreachable, prohibit and blackhole.
_NO_ROUTE = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})


@dataclass(frozen=True, slots=True)
class Gateway:
    address: Address
    mac: bytes | None  # None: not in the neighbour table, or not resolved


class Route(NamedTuple):
    """Where a packet to some address leaves."""

    oif: int  # ifindex
    prefsrc: Address | None  # the source address the kernel would choose


def gateways(ifindex: int) -> list[Gateway]:
    """The gateways of all default routes out of this interface, IPv4 first, each once.

    Any routing table counts. A default route without gateway (point to point) has none.
    """
    addresses: dict[Address, None] = {}
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            for route in netlink.request(socket.NETLINK_ROUTE, _GETROUTE, _RTMSG.pack(family), dump=True):
                if route[1] == 0:  # dst_len
                    addresses.update(dict.fromkeys(_next_hops(route, ifindex)))
        macs = _macs(ifindex) if addresses else {}
    except OSError as error:
        raise link.unreadable(f"the routes and neighbours of {link.label(ifindex)}", error) from error
    return [Gateway(address, macs.get(address)) for address in addresses]


def _next_hops(route: bytes, ifindex: int) -> Iterator[Address]:
    found = netlink.attributes(route, _RTMSG.size)
    hops = [(netlink.number(found[_RTA_OIF]), found)] if _RTA_OIF in found else []
    several = found.get(_RTA_MULTIPATH, b"")
    while len(several) >= _NEXT_HOP.size:
        length, _, _, oif = _NEXT_HOP.unpack_from(several)
        hops.append((oif, netlink.attributes(several[:length], _NEXT_HOP.size)))
        several = several[max(length, _NEXT_HOP.size) + 3 & ~3 :]
    for oif, hop in hops:
        via = hop.get(_RTA_VIA)  # an IPv4 route by way of an IPv6 gateway, RFC 5549: family, then the address
        address = via[2:] if via else hop.get(_RTA_GATEWAY)
        if oif == ifindex and address:
            yield ip_address(address)


def _macs(ifindex: int) -> dict[Address, bytes]:
    found: dict[Address, bytes] = {}
    for family in (socket.AF_INET, socket.AF_INET6):
        for entry in netlink.request(socket.NETLINK_ROUTE, _GETNEIGH, _NDMSG.pack(family, 0), dump=True):
            told = netlink.attributes(entry, _NDMSG.size)
            mac = told.get(_NDA_LLADDR)  # the kernel gives none that is not valid
            if _NDMSG.unpack_from(entry)[1] == ifindex and mac:
                found[ip_address(told[_NDA_DST])] = mac
    return found


def route_to(address: Address) -> Route | None:
    """The interface and source address for packets to ``address``, or None without a route."""
    answer = _lookup(address)
    if answer is None or answer.get_attr("RTA_OIF") is None:
        return None
    prefsrc = answer.get_attr("RTA_PREFSRC")
    return Route(answer.get_attr("RTA_OIF"), ip_address(prefsrc) if prefsrc else None)


def is_local(address: Address) -> bool:
    """Is this one of the namespace's own addresses?"""
    answer = _lookup(address)
    return answer is not None and answer["type"] == _RTN_LOCAL


def _lookup(address: Address) -> Any | None:
    request: dict[str, str | int] = {"dst": str(address)}
    if isinstance(address, IPv6Address) and address.scope_id:
        # A link-local address means one interface only, named by its scope.
        request = {"dst": str(address).split("%")[0], "oif": _scope(address.scope_id)}
    try:
        with netlink.session() as session:
            return session.route("get", **request)[0]
    except OSError as error:
        if error.errno in _NO_ROUTE:
            return None
        raise link.unreadable(f"the route to {address}", error) from error


def _scope(name: str) -> int:
    return int(name) if name.isdecimal() else link.find(name).ifindex
