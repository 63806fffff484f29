"""Bring an interface from wherever an interrupted command left it to one whole state.

The caller holds the lock. A replacement of programs that stopped half way is finished: both sets hold the
same rules until the control word is stored, so finishing never changes a verdict.
"""

from __future__ import annotations

from collections.abc import Callable

from xdpguard.generation import slots
from xdpguard.guard import attach, programs
from xdpguard.kernel import pins
from xdpguard.kernel.discover import Found
from xdpguard.kernel.maps import MapSet

Say = Callable[[str], None]


def repair(found: Found, say: Say) -> None:
    """Finish, fold in, pin again, clean up; and make an expired deadline the plain state."""
    current, name = found.current, found.link.name
    if current is not None and current.current_abi:
        if found.split():
            _finish_replacement(found, current, say)
        if found.other is not None:
            slots.absorb(current, found.other)
        if slots.expired(current.word):
            say(f"{name}: the last load was not confirmed in time: the rules before it are in force")
        slots.normalise(current)
        if found.place(current).epoch not in found.pinned and (found.xdp or found.filter):
            pins.pin(found.place(current), current)
            say(f"{name}: the pins were lost; pinned the maps again")
    keep = found.place(current).epoch if current is not None else None
    for place in list(pins.places()):
        if (place.inode, place.ifindex) != (found.identity.inode, found.link.ifindex) or place.epoch == keep:
            continue
        pins.remove(place)
        if found.other is None or place.epoch != found.place(found.other).epoch:
            say(f"{name}: removed left-over pins ({place.folder})")


def _finish_replacement(found: Found, current: MapSet, say: Say) -> None:
    steps = attach.Steps()
    with steps.keep:
        loaded = programs.load(current)
        steps.keep.callback(loaded.close)
        attach.put(found, current, loaded, "auto", steps, say)
    say(f"{found.link.name}: finished a replacement of programs that was interrupted")
