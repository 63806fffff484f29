"""Whose the sockets are that are open now, for the map of socket owners: what sock_diag and /proc say.

Whoever was captured in the act knows better, as long as it is still true: an entry is believed only while
somebody keeps the map, or if its process has that socket open now.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack
from ipaddress import IPv4Address
from socket import IPPROTO_TCP, IPPROTO_UDP

from xdpguard.errors import XdpguardError
from xdpguard.identity.process import Key
from xdpguard.kernel import netns, offsets, owners, processes
from xdpguard.kernel.owners import Owners
from xdpguard.trace.existing import Existing, look
from xdpguard.trace.model import ProcessKey
from xdpguard.trace.processes import key_of
from xdpguard.trace.seeds import SeededSocket

_PROTOCOLS = {"tcp": IPPROTO_TCP, "udp": IPPROTO_UDP}
_ANY4 = IPv4Address(0)


def seed() -> tuple[str, ...]:
    """Tell the host's map of what is there; what could not be seen, a line a reason.

    What is not true any more is forgotten, unless a tracer keeps the map. An error leaves less in it, and is
    told.
    """
    try:
        with owners.in_use():
            host = owners.shared()
            try:
                return renewed(host, alone=not owners.kept())
            finally:
                host.close()
    except OSError as error:
        return (f"the owners of sockets that are open now are not all known: {error.strerror}",)
    except XdpguardError as error:
        return (f"the owners of sockets are not known: {error}",)


class Keeping:
    """The host's map of owners during a trace. ``map`` None: it is not to be had, and ``note`` says why.

    ``whole``: the trace sees all that the map needs, so that it keeps it and not merely adds to it.
    """

    def __init__(self, whole: bool) -> None:
        self.map: Owners | None = None
        self.note = ""
        self._stack = ExitStack()
        try:
            processes.require_hosts()
            with ExitStack() as stack:
                already = owners.kept()
                stack.callback(_release)
                stack.enter_context(owners.in_use())
                self.map = owners.shared()
                stack.callback(self.map.close)
                stack.callback(self._leave)
                if whole:
                    stack.enter_context(owners.keeping())
                if not already:
                    self.map.clear()
                self._stack = stack.pop_all()
        except (OSError, XdpguardError) as error:
            reason = error.strerror if isinstance(error, OSError) else str(error)
            self.map = None
            self.note = f"the map of socket owners is not kept: {reason}"

    def begin(self, found: Existing, everywhere: bool) -> None:
        """What is older than the trace. ``everywhere``: these are the sockets of all network namespaces."""
        if self.map is None:
            return
        if not everywhere and owners.needed():
            everywhere, found = True, look()
        if everywhere:
            _forget_the_dead(self.map, found)
        write(self.map, found)

    def _leave(self) -> None:
        """Nobody sees from now on who gives a socket away, ends, or takes a port."""
        try:
            if self.map is not None and owners.needed() and not owners.kept():
                renewed(self.map, alone=True)
        except (OSError, XdpguardError):
            return  # then it is empty

    def close(self) -> None:
        """Once the programs are detached. A second call does nothing."""
        self._stack.close()


def _release() -> None:
    try:
        owners.release()
    except OSError:
        return  # a later load or unload does it


def renewed(host: Owners, *, alone: bool) -> tuple[str, ...]:
    """Forget what is not true any more and write what is; notes. ``alone``: no tracer keeps the map.

    OSError, XdpguardError: it cannot be found out; then, if ``alone``, everybody is forgotten.
    """
    try:
        processes.require_hosts()
        found = look()
    except (OSError, XdpguardError):
        if alone:
            host.clear()
        raise
    if alone:
        forget(host, found)
    else:
        _forget_the_dead(host, found)
    write(host, found)
    return found.notes


def _forget_the_dead(host: Owners, found: Existing) -> None:
    """Where namespaces have no cookie, a new one may get the number of one that is gone, and its sockets."""
    if not netns.identity().cookie:
        host.forget_namespaces(found.namespaces.values())


def forget(host: Owners, found: Existing) -> int:
    """Forget whoever does not have the socket open by which the map knows it; how many those were."""
    holders: dict[bytes, set[Key]] = {}
    for one in found.sockets:
        for entry in _entries(one, found.namespaces):
            holders.setdefault(entry, set()).update(map(key_of, one.holders))
    forgotten = 0
    for entry, owner in host.entries():
        if not _is_true(owner, holders.get(entry)):
            forgotten += host.remove(entry)
    return forgotten


def _is_true(owner: owners.Remembered, holders: Collection[Key] | None) -> bool:
    """``holders``: who has that socket open now; None: there is none."""
    if holders is None or owner.ended:
        return False
    if owner.kernel:
        return not holders
    return key_of(ProcessKey(owner.pid, owner.start_time)) in holders


def write(host: Owners, found: Existing) -> int:
    """Write those that are certain into a map of owners; how many were new. OSError: the kernel's."""
    written = 0
    v1 = bool(offsets.cgroup_controller())  # then the tracer tells ids of a v1 hierarchy, and the seeds v2's
    for one in found.sockets:
        owner = one.owner
        if owner is None or one.shared:
            continue
        known = owners.value(
            start_time=owner.process.start_time, cgroup=None if v1 else owner.cgroup, pid=owner.process.pid,
            uid=owner.uid, gid=owner.gid, comm=owner.comm,
        )  # fmt: skip
        for entry in _entries(one, found.namespaces):
            written += host.add(entry, known)
    return written


def _entries(one: SeededSocket, namespaces: Mapping[int, int]) -> Iterator[bytes]:
    """Where the map has a socket. One on ``::`` that is open to IPv4 too is there as 0.0.0.0 as well."""
    ends, place = one.tuple, namespaces.get(one.netns)
    if ends.local is None or place is None:
        return
    for local in (ends.local, _ANY4) if one.dual else (ends.local,):
        yield owners.key(
            place, _PROTOCOLS[one.protocol], local, ends.local_port, ends.remote, ends.remote_port
        )
