"""What the formats of a trace share: ends of a connection, which way an event went, what it counted. Pure."""

from __future__ import annotations

from typing import NamedTuple

from xdpguard.trace.model import Address, Event

UNKNOWN = "?"
PROTOCOLS = {"tcp": 6, "udp": 17}  # IANA
_CACHED = 4096  # addresses remembered as text
_SHORT_ID = 12  # characters of a container id that people read
_IN = {
    "connect": False,
    "connect-failed": False,
    "accept": True,
    "udp-send": False,
    "udp-recv": True,
}


def came_in(event: Event) -> bool | None:
    """Did the other side begin? None: there is none, or nobody saw it, since that was before the tracing."""
    known = _IN.get(event.kind)
    if known is not None:
        return known
    return event.incoming if event.kind != "listen" and event.opened is not None else None


_addresses: dict[int, tuple[Address, str]] = {}


def written(address: Address) -> str:
    """Python formats an address in microseconds, and hashes it in one; the same object comes again."""
    found = _addresses.get(id(address))
    if found is None:
        if len(_addresses) >= _CACHED:
            _addresses.clear()
        found = _addresses[id(address)] = (address, str(address))
    return found[1]


def endpoint(address: Address | None, port: int | None, unknown: str) -> str:
    """``192.0.2.1:80``, ``[2001:db8::1]:80``."""
    host = unknown if address is None else written(address)
    if ":" in host:
        host = f"[{host}]"
    return f"{host}:{unknown if port is None else port}"


def short_id(identity: str) -> str:
    return identity[:_SHORT_ID]


class Volume(NamedTuple):
    """From our process's side. None: this kind of event does not count that way."""

    bytes_sent: int | None
    bytes_received: int | None
    packets_sent: int | None
    packets_received: int | None


def measured(event: Event) -> Volume | None:
    """What passed. None: an event that counts nothing."""
    counts = event.counts
    if counts is None or event.kind not in ("close", "udp-send", "udp-recv"):
        return None
    if event.kind == "udp-send":
        return Volume(counts.bytes_sent, None, counts.packets_sent, None)
    if event.kind == "udp-recv":
        return Volume(None, counts.bytes_received, None, counts.packets_received)
    return Volume(counts.bytes_sent, counts.bytes_received, counts.packets_sent, counts.packets_received)
