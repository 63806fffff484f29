"""Every interface that carries xdpguard, in the caller's namespace and in those with a name. Only looks."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import link, netns, pins, tc
from xdpguard.kernel.discover import examined, was_attached

Seen = TypeVar("Seen")


@dataclass(frozen=True, slots=True)
class Spot:
    """``netns``: the name to enter; None is the caller's own."""

    netns: str | None
    interface: str


@dataclass(frozen=True, slots=True)
class Successor:
    """An interface that carries nothing of ours, under the name of one that did and is gone."""

    netns: str | None
    interface: str
    ifindex: int
    former: int  # ifindex of the one that is gone


def spots(name: str | None) -> Iterator[Spot]:
    """Of one namespace by name, or with None of the caller's own and of all others with a name.

    A set that only pins tell of is found through its namespace's inode; a namespace without a name cannot be
    entered and is left out, as is an interface that is gone.
    """
    for each, interfaces in _in_each(name, _carrying):
        for interface in interfaces:
            yield Spot(each, interface)


def successors(name: str | None) -> Iterator[Successor]:
    """Of the same namespaces as ``spots``. What was loaded on the interfaces before is still pinned."""
    for each, found in _in_each(name, succeeding):
        for interface, ifindex, former in found:
            yield Successor(each, interface, ifindex, former)


def _in_each(name: str | None, look: Callable[[], list[Seen]]) -> Iterator[tuple[str | None, list[Seen]]]:
    """What is seen in the namespace ``name``, or in all. NotLoadedError: there is none of that name."""
    if name is not None:
        yield name, netns.inside(name, look)
        return
    own = netns.identity().inode
    yield None, look()
    for inode, each in netns.names().items():
        if inode == own:
            continue
        try:
            seen = netns.inside(each, look)
        except NotLoadedError:
            continue  # deleted since it was listed
        yield each, seen


def gone() -> list[pins.Place]:
    """What is pinned of interfaces of the current namespace that are not there any more."""
    inode = netns.identity().inode
    return [one for one in pins.places() if one.inode == inode and link.by_index(one.ifindex) is None]


def succeeding(places: list[pins.Place] | None = None) -> list[tuple[str, int, int]]:
    """Successors in the current namespace: name and index of each, and the index of the one before.

    ``places``: what ``gone`` answers, if it was asked before.
    """
    here = netns.identity()
    found: dict[str, tuple[str, int, int]] = {}
    for place in gone() if places is None else places:
        name = _loaded_name(place, here)
        try:
            with examined(link.find(name)) as seen:
                if seen.current is None:
                    found[name] = (name, seen.link.ifindex, place.ifindex)
        except NotLoadedError:
            continue  # there is no other of that name
    return list(found.values())


def _loaded_name(place: pins.Place, here: netns.Identity) -> str:
    """What the interface of a pinned set was called; "": it was not loaded in this namespace, or before Linux
    5.14, where nobody can tell that from another that had the same inode.
    """
    opened = pins.open_set(place)
    if opened is None:
        return ""
    try:
        return opened.interface if opened.current_abi and was_attached(opened, here) else ""
    finally:
        opened.close()


def _carrying() -> list[str]:
    inode = netns.identity().inode
    pinned = {place.ifindex for place in pins.places() if place.inode == inode}
    found: list[str] = []
    for _, interface in socket.if_nameindex():
        try:
            one = link.find(interface)
            if not (one.xdp or one.ifindex in pinned or tc.attached(one.ifindex)):
                continue
            with examined(one) as seen:
                if seen.current is not None:
                    found.append(interface)
        except NotLoadedError:
            continue  # gone meanwhile
    return found
