"""Packets that the kernel cuts after TC egress (GSO): counted as they go over the wire."""

from __future__ import annotations

import fcntl
import socket
import struct
import threading
from ctypes import addressof, create_string_buffer

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab as network
import pytest
from lab import End, Veth
from test_traffic_support import LAST, SENTINEL, loaded

RULES = """version: 1
ingress: [{name: acks, proto: tcp, action: pass}]
egress: [{name: bulk, proto: tcp, sport: 8080, action: pass}]
"""
SIZE = 1_000_003  # bytes to send: bounded, and a prime
HEADERS = {socket.AF_INET: 14 + 20 + 32, socket.AF_INET6: 14 + 40 + 32}  # with TCP timestamps
SIOCETHTOOL, ETHTOOL_STSO = 0x8946, 0x1F
families = pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["IPv4", "IPv6"])


def switch_tso(end: End, on: bool) -> None:
    """With TSO a veth hands GSO packets to its peer as they are; without, the kernel cuts them before."""
    value = create_string_buffer(struct.pack("=II", ETHTOOL_STSO, int(on)), 8)
    request = struct.pack("=16sQ", end.dev.encode(), addressof(value)).ljust(40, b"\0")
    with network.inside(end.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, SIOCETHTOOL, request)


def transfer(veth: Veth, family: socket.AddressFamily) -> int:
    """SIZE bytes over TCP from the server's port 8080 to the client; return the segment size."""
    address = veth.server.ipv4 if family == socket.AF_INET else veth.server.ipv6
    with (
        network.inside(veth.server.name, socket.socket, family, socket.SOCK_STREAM) as listener,
        network.inside(veth.client.name, socket.socket, family, socket.SOCK_STREAM) as client,
    ):
        for one in (listener, client):
            one.settimeout(network.PATIENCE)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, 8080))
        listener.listen()
        client.connect((address, 8080))
        server, _ = listener.accept()
        with server:
            server.settimeout(network.PATIENCE)
            sending = threading.Thread(target=serve, args=(server,))
            sending.start()
            received = 0
            while data := client.recv(1 << 16):
                received += len(data)
            segment: int = client.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG)
            client.close()
            sending.join()
            assert received == SIZE
            assert server.recv(1) == b""  # the client's FIN has come; the last ACK to it is on its way
    return segment


def serve(server: socket.socket) -> None:
    server.sendall(bytes(SIZE))
    server.shutdown(socket.SHUT_WR)


def wire(frames: list[bytes], segment: int, headers: int) -> tuple[int, int]:
    """(packets, bytes) of the frames once every one of them is cut into segments."""
    packets = size = 0
    for frame in frames:
        pieces = max(1, -(-(len(frame) - headers) // segment))
        packets += pieces
        size += len(frame) + (pieces - 1) * headers
    return packets, size


def is_tcp(frame: bytes) -> bool:
    return frame[{b"\x08\x00": 23, b"\x86\xdd": 20}.get(frame[12:14], 0)] == 6


@families
@pytest.mark.parametrize("tso", [True, False], ids=["cut by the device", "cut before the device"])
@pytest.mark.parametrize("veth", [{}], indirect=True, ids=["veth"])
def test_tcp_in_bulk_is_counted_as_the_packets_and_bytes_on_the_wire(
    veth: Veth, family: socket.AddressFamily, tso: bool
) -> None:
    switch_tso(veth.server, tso)
    with (
        loaded(veth.server, RULES, "native") as filter,
        network.capture(veth.client.name, veth.client.dev) as seen,
    ):
        segment = transfer(veth, family)
        network.send(veth.server.name, veth.server.dev, [LAST])
        frames = [frame for frame in seen.until(SENTINEL) if is_tcp(frame)]
        counts = filter.counts().egress
        assert max(map(len, frames)) > 1514 if tso else max(map(len, frames)) <= 1514
        packets, size = wire(frames, segment, HEADERS[family])
        assert (counts.rules[0].count.packets, counts.rules[0].count.bytes) == (packets, size)
        assert packets > SIZE // segment
        assert counts.protocols["tcp"] == counts.rules[0].count
