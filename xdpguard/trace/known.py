"""Sockets that are older than the tracing, found by their ends: (netns, tuple) -> owner, or nobody. Pure.

A connection is found by all of its ends. A UDP socket without a peer is found by its local end, and its
address may be unspecified. Two owners at one place, or a socket that unrelated processes share, are nobody:
an owner is never the likelier one.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from xdpguard.trace.model import Owner, Tuple
from xdpguard.trace.seeds import SeededSocket

_Place = tuple[int, str, int, int, int, int | None, int | None]
"""(netns, protocol, family, local, local port, remote, remote port), addresses as numbers."""


class KnownSockets:
    def __init__(self) -> None:
        self._owners: dict[_Place, Owner | None] = {}
        self._ports: set[int] = set()  # local ports
        self._sockets: set[tuple[int, int]] = set()  # (netns, cookie)

    def __len__(self) -> int:
        """Places, not sockets."""
        return len(self._owners)

    def add(self, sockets: Iterable[SeededSocket]) -> None:
        """More of them, as after a network namespace appeared. One that is known stays as it is."""
        for one in sockets:
            name = (one.netns, one.cookie)
            if name in self._sockets:
                continue
            self._sockets.add(name)
            owner = None if one.shared else one.owner
            for place in _places(one):
                self._ports.add(one.tuple.local_port)
                known = self._owners.setdefault(place, owner)
                if known is not owner and (known is None or owner is None or known.process != owner.process):
                    self._owners[place] = None

    def concerns(self, ends: Tuple) -> bool:
        """May one of them be meant? False saves the search, for most connections of a busy host."""
        return ends.local_port in self._ports

    def find(self, ends: Tuple) -> Owner | None:
        """None: no such socket was there, or it is not certain whose it is."""
        for place in _asked(ends):
            if place in self._owners:
                return self._owners[place]
        return None

    def gone(self, ends: Tuple) -> None:
        """That connection was closed, or is a new one: its place may be another process's from now on."""
        place = _place(ends)
        if place is not None:
            self._owners.pop(place, None)


def _places(one: SeededSocket) -> Iterator[_Place]:
    """Where a socket is found. Not one that listens: its connections have owners of their own."""
    ends = one.tuple
    place = _place(ends)
    if place is None or (ends.protocol == "tcp" and ends.remote is None):
        return
    yield place
    if one.dual:
        yield ends.netns, ends.protocol, 4, 0, ends.local_port, None, None


def _asked(ends: Tuple) -> Iterator[_Place]:
    place = _place(ends)
    if place is None:
        return
    yield place
    if ends.protocol == "udp":
        netns, protocol, family, local, port = place[:5]
        yield netns, protocol, family, local, port, None, None
        yield netns, protocol, family, 0, port, None, None


def _place(ends: Tuple) -> _Place | None:
    if ends.local is None:
        return None
    remote = None if ends.remote is None else int(ends.remote)
    port = None if remote is None else ends.remote_port
    return ends.netns, ends.protocol, ends.family, int(ends.local), ends.local_port, remote, port
