"""Runs in the guest: captures or sends raw frames on one interface. No library: imports are slow there.

    frames.py capture IFACE MARKER LAST COUNT   the frames that hold MARKER, as JSON, once SIGTERM came and
                                                COUNT of them hold LAST too; both are in hex
    frames.py send IFACE PER_SECOND             the frames on standard input, one a line, in hex

A capture sees what arrives, in its order, after native XDP and with the VLAN tag in its place. It fails when
the kernel has lost a frame of it, or when the last frames do not come.
"""

from __future__ import annotations

import json
import select
import signal
import socket
import struct
import sys
import time
from collections.abc import Iterator

# linux/if_packet.h, asm-generic/socket.h, linux/if_ether.h
_SOL_PACKET = 263
_ADD_MEMBERSHIP, _STATISTICS, _AUXDATA, _IGNORE_OUTGOING = 1, 6, 8, 23
_PROMISCUOUS = 1
_RCVBUFFORCE = 33
_ETH_P_ALL = 3
_ETH_P_8021Q = 0x8100
_TAG_VALID, _TAG_TPID_VALID = 0x10, 0x40
_tpacket_auxdata = struct.Struct("=IIIHHHH")

_BUFFER = 128 << 20  # bytes; a small frame takes up to a page
_PATIENCE = 20  # seconds for the last frames, from SIGTERM on
_BURST = 16  # frames sent without a pause


def main() -> int:
    verb, interface, *rest = sys.argv[1:]
    if verb == "capture":
        return capture(interface, bytes.fromhex(rest[0]), bytes.fromhex(rest[1]), int(rest[2]))
    return send(interface, float(rest[0]))


def capture(interface: str, marker: bytes, last: bytes, count: int) -> int:
    frames: list[bytes] = []
    came = 0
    with _listening(interface) as opened:
        stop = _Stop()
        print("ready", flush=True)
        for frame in _arriving(opened, stop):
            if marker in frame:
                frames.append(frame)
                came += last in frame
            if came >= count and stop.stopped:
                break
        _, lost = struct.unpack("=II", opened.getsockopt(_SOL_PACKET, _STATISTICS, 8))
    print(json.dumps({"frames": [frame.hex() for frame in frames], "lost": lost}))
    if came < count:
        print(f"{interface}: {came} of {count} last frames came", file=sys.stderr)
    return 1 if lost or came < count else 0


def _listening(interface: str) -> socket.socket:
    """Promiscuous: a redirected frame may carry any MAC address. Nothing is received before the bind."""
    opened = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    opened.setsockopt(socket.SOL_SOCKET, _RCVBUFFORCE, _BUFFER)
    opened.setsockopt(_SOL_PACKET, _AUXDATA, 1)
    opened.setsockopt(_SOL_PACKET, _IGNORE_OUTGOING, 1)
    request = struct.pack("=iHH8s", socket.if_nametoindex(interface), _PROMISCUOUS, 0, b"")
    opened.setsockopt(_SOL_PACKET, _ADD_MEMBERSHIP, request)
    opened.bind((interface, _ETH_P_ALL))
    return opened


class _Stop:
    """SIGTERM as something that poll can wait for."""

    def __init__(self) -> None:
        self.reader, writer = socket.socketpair()
        writer.setblocking(False)
        self._writer = writer
        signal.signal(signal.SIGTERM, lambda *_: None)
        signal.set_wakeup_fd(writer.fileno())
        self.until = float("inf")

    @property
    def stopped(self) -> bool:
        return self.until != float("inf")

    def note(self) -> None:
        self.reader.recv(64)
        self.until = time.monotonic() + _PATIENCE


def _arriving(opened: socket.socket, stop: _Stop) -> Iterator[bytes]:
    """Every frame, and an empty one on SIGTERM, until the time after it is up."""
    poll = select.poll()
    poll.register(opened, select.POLLIN)
    poll.register(stop.reader, select.POLLIN)
    while (left := stop.until - time.monotonic()) > 0:
        ready = dict(poll.poll(left * 1000 if stop.stopped else None))
        if opened.fileno() in ready:
            yield _receive(opened)
        elif stop.reader.fileno() in ready:
            stop.note()
            yield b""


def _receive(opened: socket.socket) -> bytes:
    """One frame; the kernel has taken its outer VLAN tag out."""
    data, control, _, _ = opened.recvmsg(1 << 16, socket.CMSG_SPACE(_tpacket_auxdata.size))
    for level, kind, payload in control:
        if (level, kind) == (_SOL_PACKET, _AUXDATA):
            status, _, _, _, _, tci, tpid = _tpacket_auxdata.unpack(payload)
            if status & _TAG_VALID:
                tag = struct.pack("!HH", tpid if status & _TAG_TPID_VALID else _ETH_P_8021Q, tci)
                return data[:12] + tag + data[12:]
    return data


def send(interface: str, per_second: float) -> int:
    frames = [bytes.fromhex(line) for line in sys.stdin.read().split()]
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        opened.bind((interface, 0))
        due = time.monotonic()
        for start in range(0, len(frames), _BURST):
            for frame in frames[start : start + _BURST]:
                opened.send(frame)
            due += _BURST / per_second
            time.sleep(max(0.0, due - time.monotonic()))
    print(len(frames))
    return 0


if __name__ == "__main__":
    sys.exit(main())
