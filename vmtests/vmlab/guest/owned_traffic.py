"""Runs in the guest: a process that has packets of its own go to and fro.

    owned_traffic.py echo tcp|udp ADDRESS PORT           answers whoever asks; prints "ready"
    owned_traffic.py ask tcp|udp ADDRESS PORT COUNT GO   prints "ready", waits for the file GO, asks so often

A UDP socket is open before "ready", so that a load finds it; a TCP connection begins after GO. The second
prints its process number at the end. Of the standard library alone.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from pathlib import Path

_PATIENCE = 120.0
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


def echo(kind: str, address: str, port: str) -> None:
    with socket.socket(socket.AF_INET, _KINDS[kind]) as local:
        local.bind((address, int(port)))
        if kind == "tcp":
            local.listen()
        print("ready", flush=True)
        if kind == "tcp":
            one, _ = local.accept()
            with one:
                while data := one.recv(100):
                    one.sendall(data)
        else:
            while True:
                local.sendto(*local.recvfrom(100))


def ask(kind: str, address: str, port: str, count: str, go: str) -> None:
    with socket.socket(socket.AF_INET, _KINDS[kind]) as local:
        local.settimeout(_PATIENCE)
        if kind == "udp":
            local.bind(("0.0.0.0", 0))
        print("ready", flush=True)
        until = time.monotonic() + _PATIENCE
        while not Path(go).exists() and time.monotonic() < until:
            time.sleep(0.05)
        if kind == "tcp":
            local.connect((address, int(port)))
        for _ in range(int(count)):
            if kind == "tcp":
                local.sendall(b"?")
            else:
                local.sendto(b"?", (address, int(port)))
            local.recv(100)
    print(os.getpid(), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "echo":
        echo(*sys.argv[2:])
    else:
        ask(*sys.argv[2:])
