"""Put the two programs of one set of maps on their interface, in place of whatever of ours is there.

Every step that succeeds leaves an undo step, so that a failure or Ctrl-C before the commit leaves the host as
it was. Never touches what is not ours.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

from xdpguard.abi import abi
from xdpguard.errors import ForeignError, KernelError
from xdpguard.guard.programs import Programs
from xdpguard.kernel import objects, tc, xdp
from xdpguard.kernel.discover import Found
from xdpguard.kernel.link import Link
from xdpguard.kernel.maps import MapSet

Say = Callable[[str], None]
FILTER_NAME = "xdpguard_egress"
_CLSACT_OURS = abi().numbers["XG_FLAG_CLSACT_OURS"]
_XDP_FLAG = {"generic": 2, "native": 4}


def mode_name(flag: int) -> str:
    """Of the control page's ``mode``."""
    return {value: name for name, value in _XDP_FLAG.items()}.get(flag, "none")


def refuse_foreign(found: Found) -> None:
    """ForeignError if someone else's program is in our place, or a filter runs before ours."""
    name = found.link.name
    if found.foreign_xdp:
        ids = ", ".join(f"id {one.program}, {one.mode}" for one in found.foreign_xdp)
        raise ForeignError(f"another XDP program ({ids}) is attached to {name}; nothing changed")
    if found.tcx:
        ids = ", ".join(f"id {number}" for number in found.tcx)
        raise ForeignError(f"a TCX program ({ids}) is in front of TC filters on {name}; nothing changed")
    foreign = (found.foreign_filter, *found.earlier_filters)
    for entry in foreign:
        if entry is not None:
            what = f"program id {entry.program}" if entry.program is not None else f"kind {entry.kind}"
            raise ForeignError(
                f"another TC egress filter ({what}, priority {entry.priority}) is on {name}, in our place "
                "or in front of it; nothing changed"
            )


@dataclass(frozen=True, slots=True)
class Steps:
    """``undo`` takes steps back, ``keep`` holds what must stay open until then."""

    undo: ExitStack = field(default_factory=ExitStack)
    keep: ExitStack = field(default_factory=ExitStack)


def put(found: Found, target: MapSet, loaded: Programs, mode: str, steps: Steps, say: Say) -> str:
    """Attach or replace both programs; return the XDP mode in force. ``mode`` may be "auto"."""
    ifindex = found.link.ifindex
    former_program = found.xdp.program if found.xdp is not None else 0
    found.delivery.expect(loaded.ingress.id, former_program)
    if former_program:
        steps.undo.callback(found.delivery.expect, former_program, loaded.ingress.id)
    used = _put_xdp(found, loaded.ingress.fd, mode, steps, say)
    target.put("mode", _XDP_FLAG[used])
    target.put("xdp_program", loaded.ingress.id)
    if found.filter is not None and found.filter.program is not None:
        # Held, because nothing else keeps the former program alive once it is replaced.
        former = objects.prog_by_id(found.filter.program)
        steps.keep.callback(os.close, former)
        tc.replace(ifindex, loaded.egress.fd, FILTER_NAME, found.filter.program)
        steps.undo.callback(tc.replace, ifindex, former, FILTER_NAME, loaded.egress.id)
    else:
        _add_filter(found.link, target, loaded, steps.undo)
    target.put("tc_program", loaded.egress.id)
    return used


def _put_xdp(found: Found, fd: int, mode: str, steps: Steps, say: Say) -> str:
    ifindex = found.link.ifindex
    former = found.xdp or found.helper
    if former is None:
        used = _attach_xdp(found.link, fd, mode, say)
        steps.undo.callback(xdp.detach, ifindex, fd, used)
        return used
    expected = objects.prog_by_id(former.program)
    steps.keep.callback(os.close, expected)
    xdp.replace(ifindex, fd, expected, former.mode)
    steps.undo.callback(xdp.replace, ifindex, expected, fd, former.mode)
    return former.mode


def _attach_xdp(link: Link, fd: int, mode: str, say: Say) -> str:
    if mode != "auto":
        xdp.attach(link.ifindex, fd, mode)
        return mode
    try:
        xdp.attach(link.ifindex, fd, "native")
        return "native"
    except KernelError as error:
        say(f"{link.name}: no native XDP: {str(error).removesuffix('; nothing changed')}; trying generic")
        xdp.attach(link.ifindex, fd, "generic")
        return "generic"


def _add_filter(link: Link, target: MapSet, loaded: Programs, undo: ExitStack) -> None:
    flags = target.get("flags")
    if tc.clsact_kind(link.ifindex) is None:
        # Before it is so: whoever dies in between must not leave a clsact that nobody removes.
        target.put("flags", flags | _CLSACT_OURS)
    if tc.add_clsact(link.ifindex):
        undo.callback(tc.remove_clsact_if_empty, link.ifindex)
    else:
        target.put("flags", flags)
    tc.add(link.ifindex, loaded.egress.fd, FILTER_NAME)
    undo.callback(tc.remove, link.ifindex, loaded.egress.id)


def remove(found: Found) -> None:
    """Take our programs off; clsact only if we added it and it is empty."""
    ifindex = found.link.ifindex
    if found.xdp is not None:
        fd = objects.prog_by_id(found.xdp.program)
        try:
            xdp.detach(ifindex, fd, found.xdp.mode)
        finally:
            os.close(fd)
    if found.filter is not None and found.filter.program is not None:
        tc.remove(ifindex, found.filter.program)
    if found.current is not None and found.current.get("flags") & _CLSACT_OURS:
        tc.remove_clsact_if_empty(ifindex)
