"""Every interface that carries xdpguard, in the caller's namespace and in those with a name. Only looks."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import link, netns, pins, tc
from xdpguard.kernel.discover import examined


@dataclass(frozen=True, slots=True)
class Spot:
    """``netns``: the name to enter; None is the caller's own."""

    netns: str | None
    interface: str


def spots(name: str | None) -> Iterator[Spot]:
    """Of one namespace by name, or with None of the caller's own and of all others with a name.

    A set that only pins tell of is found through its namespace's inode; a namespace without a name cannot be
    entered and is left out, as is an interface that is gone.
    """
    names = netns.names()
    own = netns.identity().inode
    wanted = [name] if name is not None else [None, *(each for inode, each in names.items() if inode != own)]
    for each in wanted:
        for interface in netns.inside(each, _carrying):
            yield Spot(each, interface)


def _carrying() -> list[str]:
    inode = netns.identity().inode
    pinned = {place.ifindex for place in pins.places() if place.inode == inode}
    found: list[str] = []
    for _, interface in socket.if_nameindex():
        try:
            one = link.find(interface)
        except NotLoadedError:
            continue  # gone meanwhile
        if not (one.xdp or one.ifindex in pinned or tc.attached(one.ifindex)):
            continue
        with examined(one) as seen:
            if seen.current is not None:
                found.append(interface)
    return found
