"""Runs in the guest: a connection whose other end falls silent, until the kernel has sent again what it lost.

    sent_again.py listen ADDRESS PORT        accepts one connection and holds it
    sent_again.py connect ADDRESS PORT GO    connects, waits until the file GO is there, sends

The second prints "connected", and at its end who it was, in JSON. Of the standard library alone.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import sys
import threading
import time
from pathlib import Path

_PATIENCE = 120.0
_WANTED = 2  # segments sent again
_TOTAL_RETRANS = 100  # offset in struct tcp_info, uapi/linux/tcp.h


def listen(address: str, port: str) -> None:
    with socket.create_server((address, int(port))) as listener:
        print("listening", flush=True)
        held, _ = listener.accept()
        with held:
            threading.Event().wait(_PATIENCE)


def connect(address: str, port: str, go: str) -> None:
    with socket.create_connection((address, int(port))) as asks:
        print("connected", flush=True)
        until = time.monotonic() + _PATIENCE
        while not Path(go).exists() and time.monotonic() < until:
            time.sleep(0.05)
        asks.send(b"nobody answers")
        while sent_again(asks) < _WANTED and time.monotonic() < until:
            time.sleep(0.05)
        told = {
            "process.pid": os.getpid(),
            "thread.id": threading.get_native_id(),
            "network.local.port": asks.getsockname()[1],
        }
        print(json.dumps({"who": told, "sent_again": sent_again(asks)}), flush=True)


def sent_again(one: socket.socket) -> int:
    information = one.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TOTAL_RETRANS + 4)
    count: int = struct.unpack_from("=I", information, _TOTAL_RETRANS)[0]
    return count


if __name__ == "__main__":
    if sys.argv[1] == "listen":
        listen(*sys.argv[2:])
    else:
        connect(*sys.argv[2:])
