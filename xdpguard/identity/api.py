"""GET /containers/ID/json from Docker's or podman's socket: one request, bounded in time and bytes.

The socket may be a user's own (rootless): its owner may answer slowly, endlessly or not at all. A socket that
fails is left alone for a while, so that one costs its timeout once and not for each event. One request does
not earn Docker's SDK.
"""

from __future__ import annotations

import http.client
import io
import socket
from collections.abc import Callable
from pathlib import Path
from typing import cast

from xdpguard.identity.container import Container, mapping
from xdpguard.identity.docker import described
from xdpguard.identity.files import LIMIT, Notes, parsed

TIMEOUT = 0.5  # seconds for the whole of a request
_MOST = 256  # sockets remembered as failing


class Api:
    def __init__(
        self, notes: Notes, clock: Callable[[], float], retry: float, timeout: float = TIMEOUT
    ) -> None:
        self._notes, self._clock, self._retry, self._timeout = notes, clock, retry, timeout
        self._failed: dict[Path, float] = {}  # socket -> when to try it again

    def find(self, identity: str, runtime: str, path: Path) -> Container | None:
        """``identity`` has been validated. None: no such container, or, noted, no answer."""
        if self._clock() < self._failed.get(path, float("-inf")):
            return None
        try:
            status, body = _get(path, f"/containers/{identity}/json", self._time_left())
            if status == http.client.NOT_FOUND:
                return None
            if status != http.client.OK:
                raise OSError(f"answered with status {status}")
            document = mapping(parsed(body))
        except FileNotFoundError:
            self._fail(path)  # nothing to report: this runtime is not there
            return None
        except (OSError, ValueError, http.client.HTTPException) as error:
            meanwhile = f"names from files only, tried again every {self._retry:g} s"
            self._notes.add(runtime, str(path), f"{runtime}: {path}: {_reason(error)}: {meanwhile}")
            self._fail(path)
            return None
        return described(identity, runtime, document) if document.get("Id") == identity else None

    def _time_left(self) -> Callable[[], float]:
        """A countdown from now: seconds left, TimeoutError when there are none."""
        deadline = self._clock() + self._timeout

        def left() -> float:
            seconds = deadline - self._clock()
            if seconds <= 0:
                raise TimeoutError("timed out")
            return seconds

        return left

    def _fail(self, path: Path) -> None:
        if len(self._failed) >= _MOST:
            self._failed.clear()
        self._failed[path] = self._clock() + self._retry


class _Received:
    """What http.client wants of a socket, over bytes that are all here."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> io.BytesIO:
        return io.BytesIO(self._data)


def _reason(error: Exception) -> str:
    """Nothing that the other side sent: it may have meant to be printed."""
    if isinstance(error, http.client.HTTPException):
        return f"the answer is not HTTP ({type(error).__name__})"
    if isinstance(error, OSError):
        return str(error.strerror or error)
    return f"the answer is not JSON ({type(error).__name__})"


def _get(path: Path, target: str, left: Callable[[], float]) -> tuple[int, bytes]:
    """(status, body). OSError: refused, out of time, or too long. HTTPException: the answer is no HTTP."""
    request = f"GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    data = _exchange(path, request.encode("ascii"), left)
    with http.client.HTTPResponse(cast(socket.socket, _Received(data))) as response:
        response.begin()
        return response.status, response.read()


def _exchange(path: Path, request: bytes, left: Callable[[], float]) -> bytes:
    """Send, then receive up to the end. A wait gets what time is left: a trickle extends nothing."""
    data = bytearray()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(left())
        sock.connect(str(path))
        sock.sendall(request)
        while len(data) <= LIMIT:
            sock.settimeout(left())
            part = sock.recv(65536)
            if not part:
                return bytes(data)
            data += part
    raise OSError(f"answer of more than {LIMIT} bytes")
