"""What must pass on an interface: the caller's SSH connection, and the resolution of who carries it.

Only asks (environment, routes, neighbours) and builds frames; judging them is ``guard/preflight.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from xdpguard.guard import frames
from xdpguard.guard.frames import End
from xdpguard.kernel import link as links
from xdpguard.kernel import neighbour, processes
from xdpguard.kernel.link import Link
from xdpguard.kernel.neighbour import Gateway

_SOMEONE = b"\x02\x00\x00\x00\x00\x01"  # a next hop whose MAC is not known
_DEPTH = 64  # ancestors to look at for SSH_CONNECTION
_PORTS = range(65536)


@dataclass(frozen=True, slots=True)
class Probe:
    """One frame that must pass. ``hook``: 0 ingress, 1 egress."""

    what: str
    hook: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """The caller's SSH connection, as sshd tells it."""

    client: End
    server: End


def ssh_session(unread: list[int] | None = None) -> Session | None:
    """From SSH_CONNECTION: of this process, else of the nearest ancestor (sudo strips it). None: no SSH.

    ``unread`` is given the ancestors that may not be asked.
    """
    text = os.environ.get("SSH_CONNECTION") or _of_ancestors([] if unread is None else unread)
    parts = text.split() if text else []
    try:
        client, client_port, server, server_port = parts
        near = End(b"", ip_address(client), int(client_port))
        far = End(b"", ip_address(server), int(server_port))
    except ValueError:
        return None
    return Session(near, far) if near.port in _PORTS and far.port in _PORTS else None


def _of_ancestors(unread: list[int]) -> str | None:
    pid = os.getppid()
    for _ in range(_DEPTH):
        if pid <= 1:
            return None
        try:
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError as error:
            # A parent that is there and not to be seen: /proc is mounted with hidepid.
            if isinstance(error, PermissionError) or pid == os.getppid():
                unread.append(pid)
            return None
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except PermissionError:
            unread.append(pid)
            environment = []
        except OSError:
            return None
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return os.fsdecode(entry.partition(b"=")[2])
        pid = int(status.rpartition(")")[2].split()[1])
    return None


def probes(link: Link, session: Session | None, gateways: list[Gateway]) -> list[Probe]:
    """What must pass on this interface."""
    found: list[Probe] = []
    if not link.is_l3:
        for gateway in gateways:
            found += _resolution(link, gateway, "the gateway")
        if session is not None and not gateways:  # the client is on this very link
            found += _resolution(link, Gateway(session.client.address, None), "your SSH client")
    if session is not None:
        mac = link.mac if not link.is_l3 else b""
        peer = (gateways[0].mac if gateways and gateways[0].mac else _SOMEONE) if mac else b""
        client = End(peer, session.client.address, session.client.port)
        server = End(mac, session.server.address, session.server.port)
        what = f"your SSH connection from {client.address} port {client.port}"
        found.append(Probe(f"{what} (towards this host)", 0, frames.segment(client, server)))
        found.append(Probe(f"{what} (from this host)", 1, frames.segment(server, client)))
    return found


def _resolution(link: Link, gateway: Gateway, who: str) -> Iterator[Probe]:
    them = End(gateway.mac or _SOMEONE, gateway.address)
    if isinstance(gateway.address, IPv6Address):
        us = End(link.mac, IPv6Address("fe80::1"))
        what = f"neighbour discovery with {who} {gateway.address}"
        yield Probe(what, 0, frames.neighbour(them, us, advertise=False))
        yield Probe(what, 0, frames.neighbour(them, us, advertise=True))
        yield Probe(what, 1, frames.neighbour(us, them, advertise=False))
        yield Probe(what, 1, frames.neighbour(us, them, advertise=True))
        return
    us = End(link.mac, ip_address("192.0.2.1"))
    what = f"ARP with {who} {gateway.address}"
    for hook, source, target in ((0, them, us), (1, us, them)):
        yield Probe(what, hook, frames.arp(source, target, reply=False))
        yield Probe(what, hook, frames.arp(source, target, reply=True))


def wanted(link: Link, say: Callable[[str], None]) -> list[Probe]:
    """What must pass on this interface now. Says when there is no SSH session, or none that can be judged."""
    unread: list[int] = []
    session = ssh_session(unread)
    if session is None:
        say(f"preflight: no SSH session found{_not_asked(unread)}")
    else:
        way = _way(link, session)
        if way is None:
            session = None
        elif way.ifindex != link.ifindex:
            session = None
            say(
                f"warning: your SSH connection comes by {way.name} on top of {link.name}, which the "
                "preflight cannot judge: use --confirm"
            )
    return probes(link, session, neighbour.gateways(link.ifindex))


def _not_asked(unread: list[int]) -> str:
    if not unread:
        return ""
    why = processes.denied("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")
    return f", but {len(unread)} of the processes above this one may not be asked: {why}: use --confirm"


def _way(link: Link, session: Session) -> Link | None:
    """The interface that the session runs over, if it is ``link`` or on top of it; else None."""
    if not neighbour.is_local(session.server.address):
        return None
    route = neighbour.route_to(session.client.address)
    way = links.by_index(route.oif) if route is not None else None
    below = way
    for _ in range(_DEPTH):
        if below is None or below.ifindex == link.ifindex:
            break
        below = links.by_index(below.parent) if below.parent and below.parent_nsid is None else None
    return way if below is not None else None
