"""Makes TCP connections on the loopback of its network namespace: `connections.py RATE SECONDS`.

RATE: a second; 0: as many as it can. One process accepts and closes, another connects and resets, so that no
port waits. Prints at its end, in JSON, how many it made, how many of them were accepted (not one for which
the queue had no place), and how long that took. Of the standard library alone.
"""

from __future__ import annotations

import json
import mmap
import os
import socket
import struct
import sys
import time
from pathlib import Path

_BACKLOG = 4096
_RESET = struct.pack("ii", 1, 0)
_SYN_RECV, _LISTEN = "03", "0A"  # net/tcp_states.h
_STEP = 0.01  # seconds: what is due is made at once, then comes the next step


def serve(listener: socket.socket, count: memoryview) -> None:
    while True:
        try:
            one, _ = listener.accept()
        except OSError:
            return  # it was shut down
        one.close()
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


def closed_all() -> None:
    """Until no connection is left, also none whose reset was lost on its way. A listener is, with nobody in
    its queue (the second column of queues), and may be handshakes that never became one: their client has
    gone, and they wait for it for a minute.
    """
    while True:
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        states = {(line[3], int(line[4].split(":")[1], 16)) for line in lines if line[3] != _SYN_RECV}
        if states <= {(_LISTEN, 0)}:
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
            os._exit(0)
        try:
            made, took = load(listener.getsockname(), float(rate), float(seconds))
            closed_all()
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            os.waitpid(server, 0)
    print(json.dumps({"connections": made, "accepted": accepted[0], "seconds": took}))


if __name__ == "__main__":
    main(*sys.argv[1:])
