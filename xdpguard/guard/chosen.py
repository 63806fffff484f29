"""The interfaces that a command names: found, locked, and looked at again under the lock.

Owns the order of these steps, and the last word on an error of the kernel that nobody has put into words.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from xdpguard.errors import (
    Interrupted,
    KernelError,
    NotLoadedError,
    PrivilegeError,
    ReadError,
    RulesError,
    UsageError,
    XdpguardError,
    refusal_text,
)
from xdpguard.guard.interrupts import UNCHANGED, Noted, deferred
from xdpguard.kernel import link, lock, processes
from xdpguard.kernel.discover import Found, examined
from xdpguard.kernel.link import Link

_UNCHANGED = "; nothing changed"
_ASK = "`xdpguard status` tells what is loaded now"


@contextmanager
def chosen(interfaces: list[str], command: str) -> Iterator[tuple[list[Found], Noted]]:
    """Hold the locks of these interfaces of the current namespace; give what of ours is on each.

    From the lock on signals are only noted. NotLoadedError: no such interface. UsageError: two names of one.
    PrivilegeError: what the kernel asks of whoever finds maps by the programs that use them is lacking.
    """
    processes.require(command, "CAP_SYS_ADMIN")
    with explained(command, "nothing changed"):
        links = [link.find(name) for name in interfaces]
    for place, one in enumerate(links):
        for other in links[:place]:
            if other.ifindex == one.ifindex:
                both = f"{interfaces[links.index(other)]} and {interfaces[place]}"
                raise UsageError(f"{both} are one interface ({one.name}); name it once; nothing changed")
    begun = False
    try:
        with explained(command, _ASK), lock.held(links, command), deferred() as signals, ExitStack() as stack:
            begun = True
            # Whoever held the lock before may have changed what the links carry.
            yield [stack.enter_context(examined(_again(one))) for one in links], signals
    except KeyboardInterrupt:
        if begun:
            raise
        raise Interrupted(UNCHANGED) from None


def _again(former: Link) -> Link:
    found = link.by_index(former.ifindex)
    if found is None:
        raise NotLoadedError(f"{former.name}: the interface vanished; nothing changed")
    return found


@contextmanager
def explained(place: str, state: str) -> Iterator[None]:
    """Turn an OSError that comes out of the block into the error of its exit code. ``state``: of the host."""
    try:
        yield
    except ReadError as error:
        raise KernelError(f"{place}: {error}; {state}") from error
    except PermissionError as error:
        where = f"{error.filename}: " if error.filename else ""
        needed = processes.needs("CAP_NET_ADMIN", "CAP_SYS_ADMIN")
        raise PrivilegeError(f"{place}: {where}{error.strerror}: {needed}; {state}") from error
    except OSError as error:
        if error.errno == errno.ENOMEM:
            why = "no memory for maps or programs (limit of the cgroup or RLIMIT_MEMLOCK)"
        else:
            where = f"{error.filename}: " if error.filename else ""
            why = f"{where}{refusal_text(error)}"
        raise KernelError(f"{place}: {why}; {state}") from error


def reason(error: Exception) -> str:
    """Why something failed, without a state of the host that is not true of all that was done."""
    return str(error).removesuffix(_UNCHANGED)


def restated(error: XdpguardError | OSError, state: str) -> XdpguardError:
    """The same error with this state of the host."""
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        return KernelError(f"{where}{refusal_text(error)}; {state}")
    kind = KernelError if isinstance(error, ReadError | RulesError) else type(error)
    return kind(f"{reason(error)}; {state}")
