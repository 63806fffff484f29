"""The far end of a network card, held by the test itself: what it sends the card gets, and the other way.

QEMU takes frames from a socket only when the card does. What is sent before the machine has booted is so the
first that the card gets, but for a frame or so that QEMU throws away when the driver resets the card.
"""

from __future__ import annotations

import socket
import time
from pathlib import Path

from vmlab.errors import LabError
from vmlab.machine import Machine

_OPEN_SECONDS = 60.0


class Wire:
    """``backend``: QEMU's end, for a -netdev. A Unix socket holds ten frames that are not taken yet."""

    def __init__(self, folder: Path) -> None:
        self._near, far = folder / "wire.near", folder / "wire.far"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(far))
        self.backend = f"dgram,local.type=unix,local.path={self._near},remote.type=unix,remote.path={far}"

    def wait_for(self, machine: Machine) -> None:
        """Until QEMU has its end, long before the machine is up. Nothing tells that: it is looked for."""
        until = time.monotonic() + _OPEN_SECONDS
        while not self._near.exists():
            if time.monotonic() > until:
                machine.wait_ready(1)  # tells what became of it
            time.sleep(0.05)

    def send(self, frame: bytes, timeout: float = 60) -> None:
        self._socket.settimeout(timeout)
        try:
            self._socket.sendto(frame, str(self._near))
        except OSError as error:
            raise LabError(f"the machine takes no frame within {timeout:.0f} s: {error}") from None

    def receive(self, timeout: float = 60) -> bytes:
        """The next frame that the machine sent."""
        self._socket.settimeout(timeout)
        try:
            return self._socket.recv(1 << 16)
        except TimeoutError:
            raise LabError(f"the machine sent no frame within {timeout:.0f} s") from None

    def close(self) -> None:
        self._socket.close()
