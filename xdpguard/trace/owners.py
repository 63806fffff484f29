"""Seeds for the map of socket owners: what sock_diag and /proc say of the sockets that are open now.

Each entry is written only where there is none: whoever was captured in the act knows better.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import ExitStack
from socket import IPPROTO_TCP, IPPROTO_UDP

from xdpguard.errors import XdpguardError
from xdpguard.kernel import offsets, owners
from xdpguard.trace.existing import look, rows
from xdpguard.trace.seeds import SeededSocket

_PROTOCOLS = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP}


def seed() -> tuple[str, ...]:
    """Tell the host's map of what is there; what could not be seen, a line a reason.

    What was in it is forgotten, unless a tracer keeps it. An error leaves less in it, and is told.
    """
    try:
        with owners.in_use():
            fd = owners.shared()
            try:
                if not owners.kept():
                    owners.clear(fd)
                found = look()
                write(fd, found.sockets)
                return found.notes
            finally:
                os.close(fd)
    except OSError as error:
        return (f"the owners of sockets that are open now are not all known: {error.strerror}",)
    except XdpguardError as error:
        return (f"the owners of sockets are not known: {error}",)


class Keeping:
    """The host's map of owners during a trace. ``fd`` None: it is not to be had, and ``note`` says why.

    ``whole``: the trace sees all that the map needs, so that it keeps it and not merely adds to it.
    """

    def __init__(self, whole: bool) -> None:
        self.fd: int | None = None
        self.note = ""
        self._stack = ExitStack()
        try:
            with ExitStack() as stack:
                already = owners.kept()
                stack.callback(_release)
                stack.enter_context(owners.keeping() if whole else owners.in_use())
                self.fd = owners.shared()
                stack.callback(os.close, self.fd)
                if not already:
                    owners.clear(self.fd)
                self._stack = stack.pop_all()
        except (OSError, XdpguardError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.fd = None
            self.note = f"the map of socket owners is not kept: {reason}"

    def begin(self, sockets: Iterable[SeededSocket], everywhere: bool) -> None:
        """What is older than the trace. ``everywhere``: these are the sockets of all network namespaces."""
        if self.fd is None:
            return
        write(self.fd, sockets)
        if not everywhere and owners.needed():
            write(self.fd, look().sockets)

    def close(self) -> None:
        """A second call does nothing."""
        self._stack.close()


def _release() -> None:
    try:
        owners.release()
    except OSError:
        return  # a later load or unload does it


def write(fd: int, sockets: Iterable[SeededSocket]) -> int:
    """Write those that are certain into a map of owners; how many were new. OSError: the kernel's."""
    written = 0
    v1 = bool(offsets.cgroup_controller())  # then the tracer tells ids of a v1 hierarchy, and the seeds v2's
    for netns, protocol, local, port, remote, remote_port, _, owner in rows(
        one for one in sockets if not one.shared
    ):
        entry = owners.key(netns, _PROTOCOLS[protocol], local, port, remote, remote_port)
        process = owner.process
        known = owners.value(
            start_time=process.start_time, cgroup=None if v1 else owner.cgroup, pid=process.pid,
            uid=owner.uid, gid=owner.gid, comm=owner.comm,
        )  # fmt: skip
        written += owners.add(fd, entry, known)
    return written
