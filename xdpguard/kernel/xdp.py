"""The XDP program of an interface: attach, replace, detach, by netlink.

Owns IFLA_XDP. Never a bpf_link, which would detach with its last pin. Must never attach over, replace or
remove a program that the caller does not hold an fd of: the kernel compares under its own lock
(XDP_FLAGS_REPLACE and IFLA_XDP_EXPECTED_FD, Linux 5.7), so there is no moment between looking and acting.

``mode`` is "native" (in the driver) or "generic" (in the stack). All functions work in the current thread's
network namespace.
"""

from __future__ import annotations

import errno

from xdpguard.errors import ForeignError, NotLoadedError, XdpguardError
from xdpguard.kernel import link, netlink

# uapi/linux/if_link.h
_UPDATE_IF_NOEXIST, _REPLACE = 1 << 0, 1 << 4
_MODE_FLAG = {"generic": 1 << 1, "native": 1 << 2}
_NO_PROGRAM = -1


def attach(ifindex: int, fd: int, mode: str) -> None:
    """Attach where no XDP program is. ForeignError: there is one. KernelError: the driver refuses."""
    flags = _UPDATE_IF_NOEXIST | _MODE_FLAG[mode]
    _set(ifindex, f"attach a {mode} XDP program to", {"FD": fd, "FLAGS": flags})


def replace(ifindex: int, fd: int, expected_fd: int, mode: str) -> None:
    """Put ``fd`` in the place of ``expected_fd`` in one step. ForeignError: another one is there, or none."""
    flags = _REPLACE | _MODE_FLAG[mode]
    settings = {"FD": fd, "FLAGS": flags, "EXPECTED_FD": expected_fd}
    _set(ifindex, f"replace the {mode} XDP program of", settings)


def detach(ifindex: int, expected_fd: int, mode: str) -> None:
    """Detach ``expected_fd``. ForeignError: another one is attached, or none."""
    flags = _REPLACE | _MODE_FLAG[mode]
    settings = {"FD": _NO_PROGRAM, "FLAGS": flags, "EXPECTED_FD": expected_fd}
    _set(ifindex, f"detach the {mode} XDP program from", settings)


def attached(ifindex: int) -> list[link.XdpProgram]:
    """(mode, program id) of every attached program. NotLoadedError: no such interface."""
    found = link.by_index(ifindex)
    if found is None:
        raise NotLoadedError(f"no such interface: index {ifindex}")
    return list(found.xdp)


def _set(ifindex: int, step: str, settings: dict[str, int]) -> None:
    attributes = [(f"IFLA_XDP_{name}", value) for name, value in settings.items()]
    try:
        with netlink.session() as session:
            session.link("set", index=ifindex, xdp={"attrs": attributes})
    except OSError as error:
        raise _explain(error, ifindex, step, "EXPECTED_FD" in settings) from error


def _explain(error: OSError, ifindex: int, step: str, had_expectation: bool) -> XdpguardError:
    found = link.by_index(ifindex)
    if found is not None and error.errno in (errno.EBUSY, errno.EEXIST):
        # EBUSY: XDP_FLAGS_UPDATE_IF_NOEXIST, or a bpf_link holds the hook. EEXIST: not the expected
        # program, or the other mode is in use, or (with nothing attached here) a device stacked on this one
        # has a program.
        ids = ", ".join(f"id {program.program}, {program.mode}" for program in found.xdp)
        if ids and had_expectation:
            return ForeignError(
                f"{found.name} has another XDP program ({ids}) than expected; nothing changed"
            )
        if ids:
            return ForeignError(f"another XDP program ({ids}) is attached to {found.name}; nothing changed")
        if had_expectation:
            return ForeignError(f"the expected XDP program is no longer on {found.name}; nothing changed")
    place = f"{found.name} (MTU {found.mtu})" if found else "an interface"
    return link.refusal(error, f"{step} {place}", ifindex)
