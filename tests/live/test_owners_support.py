"""What the tests of accounts share: the map of owners as a book to write in, and one direction's accounts."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import ip_address

import lab as network
from lab import inside
from test_lifecycle_support import LAST, Site, dropping, frame

from xdpguard.abi import abi
from xdpguard.identity.resolver import Resolver
from xdpguard.kernel import netns, owners
from xdpguard.stats.model import Count, HookOwners, OwnedCount
from xdpguard.stats.owners import Names
from xdpguard.stats.read import snapshot

FIRST, SECOND, THIRD = 4_100_001, 4_100_002, 4_100_003  # more than the kernel gives: no such process


@dataclass(slots=True)
class Book:
    """The map of owners, in which tests write whom they like."""

    map: owners.Owners
    netns: int
    keys: list[bytes] = field(default_factory=list)

    def add(
        self, pid: int, port: int, *, local: str = "0.0.0.0", remote: str | None = None, remote_port: int = 0,
        protocol: int = 17, netns: int | None = None, flags: int = 0, uid: int = 1234,
    ) -> None:  # fmt: skip
        key = owners.key(
            netns or self.netns, protocol, ip_address(local), port,
            None if remote is None else ip_address(remote), remote_port,
        )  # fmt: skip
        known = bytearray(
            owners.value(start_time=pid * 10, cgroup=None, pid=pid, uid=uid, gid=0, comm=f"p{pid}")
        )
        abi().put(known, "xg_owner.attribution", abi().numbers["XG_BY_EXACT"] | flags)
        self.map.remove(key)
        assert self.map.add(key, bytes(known))
        self.keys.append(key)

    def close(self) -> None:
        """The map is the host's."""
        for key in self.keys:
            self.map.remove(key)
        self.map.close()


def accounted(site: Site) -> Iterator[Book]:
    """The rules drop UDP port 9; the interface is accounted."""
    site.load(dropping(), account_owners=True)
    yield from opened(site)


def opened(site: Site) -> Iterator[Book]:
    book = Book(owners.shared(), inside(site.end.name, netns.identity).key)
    yield book
    book.close()


def side(site: Site, hook: str = "ingress") -> HookOwners:
    """The accounts of one direction; all views of both add up."""
    [one] = snapshot(site.end.dev, site.end.name, Names(Resolver(), lambda _: None)).interfaces
    assert one.owners is not None
    for counts, owned in ((one.ingress, one.owners.ingress), (one.egress, one.owners.egress)):
        dropped = counts.actions["drop"] + counts.actions["aborted"]
        for view in (owned.processes, owned.users, owned.containers):
            assert sum((row.count for row in view), Count()) == counts.seen()
            assert sum((row.dropped for row in view), Count()) == dropped
    found: HookOwners = getattr(one.owners, hook)
    return found


def by_pid(owned: HookOwners) -> dict[int | str, tuple[int, int, int]]:
    """(packets, bytes, dropped packets) of those that have any; (kernel) and (unknown) by name."""
    return {
        row.pid or row.name: (row.count.packets, row.count.bytes, row.dropped.packets)
        for row in owned.processes
        if row.count.packets
    }


def reasons(owned: HookOwners) -> dict[str, int]:
    return {name: one.count.packets for name, one in owned.reasons.items() if one.count.packets}


def send(site: Site, *frames: bytes, hook: str = "ingress") -> None:
    """All are judged at the end; one more frame, of nobody's, marks it."""
    source, target = (site.peer, site.end) if hook == "ingress" else (site.end, site.peer)
    with network.capture(target.name, target.dev) as seen:
        network.send(source.name, source.dev, [*frames, frame(LAST)])
        seen.until(frame(LAST))


def mine(owned: HookOwners) -> OwnedCount:
    [row] = [row for row in owned.processes if row.pid == os.getpid()]
    return row
