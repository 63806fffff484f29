"""Makes TCP connections on the loopback of its network namespace: `connections.py RATE SECONDS`.

RATE: a second; 0: as many as it can. One process accepts and closes, another connects and resets, so that no
port waits. Prints at its end, in JSON, how many it made, how many of them were accepted (not one for which
the queue had no place), and how long that took. Of the standard library alone.
"""

from __future__ import annotations

import json
import mmap
import os
import signal
import socket
import struct
import sys
import time
from pathlib import Path

_BACKLOG = 4096
_RESET = struct.pack("ii", 1, 0)
_STEP = 0.01  # seconds: what is due is made at once, then comes the next step


def serve(listener: socket.socket, count: memoryview) -> None:
    while True:
        listener.accept()[0].close()
        count[0] += 1


def connect(to: tuple[str, int], number: int) -> None:
    for _ in range(number):
        with socket.socket() as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            one.connect(to)


def load(to: tuple[str, int], rate: float, seconds: float) -> tuple[int, float]:
    """Connections made, and the seconds that it took."""
    made, began = 0, time.monotonic()
    while (passed := time.monotonic() - began) < seconds:
        due = 100 if not rate else int(min(passed + _STEP, seconds) * rate) - made
        connect(to, due)
        made += due
        if rate:
            time.sleep(max(0.0, began + passed + _STEP - time.monotonic()))
    return made, time.monotonic() - began


def accepted_all() -> None:
    """Until nobody waits to be accepted: the second column of queues is empty."""
    while True:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        if all(int(line[4].split(":")[1], 16) == 0 for line in lines if line[3] == "0A"):
            return
        time.sleep(_STEP)


def main(rate: str, seconds: str) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(_BACKLOG)
        accepted = memoryview(mmap.mmap(-1, 8)).cast("Q")  # shared with the child
        server = os.fork()
        if not server:
            serve(listener, accepted)
        try:
            made, took = load(listener.getsockname(), float(rate), float(seconds))
            accepted_all()
            time.sleep(10 * _STEP)  # for the last one to be closed and counted
        finally:
            os.kill(server, signal.SIGKILL)
            os.waitpid(server, 0)
    print(json.dumps({"connections": made, "accepted": accepted[0], "seconds": took}))


if __name__ == "__main__":
    main(*sys.argv[1:])
