"""Traffic in the background: a process that sends frames through an interface and tells which arrive."""

from __future__ import annotations

import errno
import json
import select
import socket
import subprocess
import sys
import time
from dataclasses import dataclass

import lab as network
from lab import End, inside
from test_lifecycle_support import DROPPED, LAST, PASSED, TOGGLED, UNNAMED, frame, port_of


@dataclass(frozen=True, slots=True)
class Burst:
    """One frame to each port, sent and arrived between ``began`` and ``ended`` (monotonic ns)."""

    began: int
    ended: int
    arrived: frozenset[int]


class Pump:
    """A process that sends bursts of one frame to each of PORTS, each when the one before is through."""

    PORTS = (DROPPED, PASSED, *TOGGLED, UNNAMED, LAST)
    MOST = 200_000

    def __init__(self, source: End, target: End) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__, source.name, source.dev, target.name, target.dev],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "started\n"

    def __enter__(self) -> Pump:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.communicate()

    def finish(self) -> list[Burst]:
        out, _ = self._process.communicate("stop\n", timeout=60)
        return [Burst(began, ended, frozenset(arrived)) for began, ended, arrived in json.loads(out)]


def _pump(source_ns: str, source: str, target_ns: str, target: str) -> None:
    """The process of a Pump: runs until it may read a line, or until MOST bursts are sent."""
    frames = [frame(port) for port in Pump.PORTS]
    bursts: list[tuple[int, int, list[int]]] = []
    stop = select.poll()
    stop.register(sys.stdin, select.POLLIN)
    with (
        network.capture(target_ns, target) as seen,
        inside(source_ns, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as sender,
    ):
        sender.bind((source, 0))
        # Now and then a pause of 1 ms, so that two pumps leave a processor to whoever reloads.
        while len(bursts) < Pump.MOST and not stop.poll(len(bursts) % 8 == 0):
            began = time.monotonic_ns()
            for data in frames:
                try:
                    sender.send(data)
                except OSError as error:
                    if error.errno != errno.ENOBUFS:  # how a drop by TC on the way out comes back
                        raise
            arrived = [port_of(data) for data in seen.until(frames[-1])]
            seen.frames.clear()
            bursts.append((began, time.monotonic_ns(), arrived))
            if len(bursts) == 1:
                print("started", flush=True)
    print(json.dumps(bursts), flush=True)


if __name__ == "__main__":
    _pump(*sys.argv[1:])
