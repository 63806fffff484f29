"""Handshakes that are not the usual one, of frames made by hand: their other end does not exist."""

from __future__ import annotations

import errno
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import packets
import pytest
from lab import Capture, Veth, capture, inside, run, send
from test_trace_events import again, me
from test_trace_support import Seen, client, listener, tracing

from xdpguard.trace.model import Event

GHOST, GHOST_MAC, PORT = "192.0.2.9", "02:00:5e:00:00:09", 40000
FAST_OPEN = 0x202  # net.ipv4.tcp_fastopen: as a server, without a cookie
DATA = b"early"


@dataclass(slots=True)
class Ghost:
    """Speaks TCP with one port of ``veth.server``, from ``veth.client``'s side. Nothing answers for it."""

    veth: Veth
    captured: Capture
    sequence: int = 1000
    heard: int = 0
    """What it acknowledges."""

    def says(self, flags: str, to: int, data: bytes = b"") -> None:
        here, there = self.veth.client, self.veth.server
        segment = packets.tcp(PORT, to, flags, seq=self.sequence, ack=self.heard)
        frame = packets.eth(there.mac, GHOST_MAC) / packets.ipv4(GHOST, there.ipv4) / segment / data
        assert send(here.name, here.dev, [bytes(frame)]) == 1
        self.sequence += len(data) + ("S" in flags)

    def hears(self, port: int) -> None:
        """A SYN, alone or with an ACK."""
        frame = self.captured.wait(port.to_bytes(2, "big") + PORT.to_bytes(2, "big"))[0]
        self.heard = int.from_bytes(frame[38:42], "big") + 1


@contextmanager
def ghost(veth: Veth) -> Iterator[Ghost]:
    there = veth.server
    run(there.name, "ip", "neigh", "add", GHOST, "lladdr", GHOST_MAC, "dev", there.dev)
    with capture(veth.client.name, veth.client.dev) as captured:
        yield Ghost(veth, captured)


def fast_open(veth: Veth) -> socket.socket:
    """Its connections can be accepted when the SYN has come, before the handshake is over."""
    setting = Path("/proc/sys/net/ipv4/tcp_fastopen")
    inside(veth.server.name, setting.write_text, str(FAST_OPEN))
    one = listener(veth.server, veth.server.ipv4)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
    return one


def told(seen: Seen, veth: Veth) -> list[Event]:
    """All that was told of connections with the ghost: what comes after them was told, too."""
    again(seen, veth)
    return [one for one in seen.events if one.tuple.remote_port == PORT]


def test_a_connection_that_is_accepted_before_it_is_established_is_told_once(veth: Veth) -> None:
    with tracing(veth.server) as seen, fast_open(veth) as wait, ghost(veth) as peer:
        port = wait.getsockname()[1]
        peer.says("S", port, DATA)
        with wait.accept()[0] as takes:
            assert takes.recv(100) == DATA
            peer.hears(port)
            peer.says("A", port)
            peer.says("FA", port)
            assert takes.recv(100) == b""
        peer.sequence, peer.heard = peer.sequence + 1, peer.heard + 1
        peer.says("A", port)
        (accept, close) = told(seen, veth)
    assert (accept.kind, close.kind) == ("accept", "close")
    assert me(accept.owner)
    assert me(close.owner)


def test_a_reset_of_what_was_accepted_before_it_was_established_is_a_close(veth: Veth) -> None:
    with tracing(veth.server) as seen, fast_open(veth) as wait, ghost(veth) as peer:
        port = wait.getsockname()[1]
        peer.says("S", port, DATA)
        with wait.accept()[0]:
            peer.hears(port)
            peer.says("R", port)
            (accept, close) = told(seen, veth)
    assert (accept.kind, close.kind) == ("accept", "close")
    assert me(accept.owner)
    assert me(close.owner)


@pytest.mark.parametrize(
    ("flags", "kind", "error"), [("A", "connect", None), ("R", "connect-failed", "ECONNRESET")]
)
def test_a_connection_that_both_ends_begin_is_told_as_ours(
    veth: Veth, flags: str, kind: str, error: str | None
) -> None:
    with tracing(veth.server) as seen, client(veth.server) as asks, ghost(veth) as peer:
        asks.setblocking(False)
        assert asks.connect_ex((GHOST, PORT)) == errno.EINPROGRESS
        port = asks.getsockname()[1]
        peer.hears(port)
        peer.says("S", port)
        peer.says(flags, port)
        (event,) = told(seen, veth)
    assert (event.kind, event.error) == (kind, error)
    assert me(event.owner)
