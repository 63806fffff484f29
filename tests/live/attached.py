"""What the tests of attaching share: what is on an end of a veth pair, and frames that no stack answers.

Only looks and builds; attaches nothing.
"""

from __future__ import annotations

from collections.abc import Callable

from lab import End, inside

from xdpguard.kernel import link, objects, tc, xdp

Load = Callable[..., int]
"""The fixture ``program``: loads a program and gives its fd."""

MODES = ("native", "generic")
_EXPERIMENTAL = b"\x88\xb5"  # IEEE Std 802 local experimental EtherType 1: no stack answers it


def id_of(fd: int) -> int:
    """The id of the program behind ``fd``."""
    return objects.prog_info(fd).id


def xdp_of(end: End) -> list[link.XdpProgram]:
    """The XDP programs on ``end``."""
    return inside(end.name, xdp.attached, end.ifindex)


def filters_of(end: End) -> list[tc.Filter]:
    """The TC egress filters on ``end``, in the order in which they run."""
    return inside(end.name, tc.attached, end.ifindex)


def frame(source: End, target: End, payload: bytes) -> bytes:
    """An Ethernet frame of at least 60 bytes from one end to the other."""
    macs = bytes.fromhex((target.mac + source.mac).replace(":", ""))
    return (macs + _EXPERIMENTAL + payload).ljust(60, b"\0")
