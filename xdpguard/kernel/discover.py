"""What of ours is on an interface: attached programs first, pins second.

Only looks. The attached programs say what is in force; a pinned set without any program attached is either
ours and detached by someone (``current`` with neither program), or left over.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import maps, netns, objects, pins, tc
from xdpguard.kernel.delivery import Observation
from xdpguard.kernel.link import Link, XdpProgram, by_index
from xdpguard.kernel.maps import MapSet

_LETS_GO = 0.5  # seconds: a grace period of RCU and a turn of a work queue, with much to spare
PASS_NAME = "xdpguard_pass"  # of the pass-only program on redirect targets, as the kernel cuts it


@dataclass(slots=True)
class Found:
    """``xdp`` and ``filter`` are ours; ``foreign_*`` are in our place but not ours."""

    link: Link
    identity: netns.Identity
    current: MapSet | None = None
    other: MapSet | None = None  # a second set in use: a replacement was interrupted, or is not absorbed yet
    xdp: XdpProgram | None = None
    xdp_set: MapSet | None = None
    filter: tc.Filter | None = None
    filter_set: MapSet | None = None
    helper: XdpProgram | None = None  # our pass-only program
    foreign_xdp: tuple[XdpProgram, ...] = ()
    foreign_filter: tc.Filter | None = None
    earlier_filters: tuple[tc.Filter, ...] = ()  # foreign, and run before ours
    tcx: tuple[int, ...] = ()  # ids of TCX programs: they run before every filter
    pinned: dict[int, MapSet] = field(default_factory=dict)  # by epoch

    @property
    def moved(self) -> bool:
        """It came here from another network namespace after its load. Without cookies nobody can tell."""
        return self.current is not None and self.current.get("netns_cookie") != self.identity.cookie

    def place(self, found: MapSet) -> pins.Place:
        return pins.Place(self.identity.inode, self.link.ifindex, found.get("epoch"))

    @property
    def delivery(self) -> Observation:
        return Observation(self.identity.inode, self.link.ifindex)

    def split(self) -> bool:
        """The two hooks run programs of two sets: a replacement was interrupted."""
        xdp, egress = self.xdp_set, self.filter_set
        return xdp is not None and egress is not None and xdp.get("epoch") != egress.get("epoch")

    def sets(self) -> Iterator[MapSet]:
        seen: set[int] = set()
        for one in (self.current, self.other, self.xdp_set, self.filter_set, *self.pinned.values()):
            if one is not None and id(one) not in seen:
                seen.add(id(one))
                yield one

    def close(self) -> None:
        for one in self.sets():
            one.close()


@contextmanager
def examined(link: Link) -> Iterator[Found]:
    """Look at an interface of the current namespace; the maps are open inside the block."""
    found = Found(link, netns.identity())
    try:
        try:
            _programs(found)
        except NotLoadedError as error:  # it vanished: the kernel knows it by its index only
            raise NotLoadedError(f"no such interface: {link.name}; nothing changed") from error
        for place in pins.of(found.identity.inode, link.ifindex):
            opened = pins.open_set(place)
            if opened is not None:
                found.pinned[place.epoch] = opened
        _choose(found)
        yield found
    finally:
        found.close()


def _programs(found: Found) -> None:
    for program in found.link.xdp:
        ours = maps.from_program(program.program)
        if ours is not None and _is_of_another(ours, program.program, found):
            ours.close()
            ours = None
        if ours is not None:
            found.xdp, found.xdp_set = program, ours
        elif is_helper(program.program):
            found.helper = program
        else:
            found.foreign_xdp += (program,)
    found.tcx = objects.prog_query(found.link.ifindex, objects.TCX_EGRESS)
    for entry in tc.attached(found.link.ifindex):
        ours = maps.from_program(entry.program) if entry.is_our_place() and entry.program else None
        if ours is not None:
            found.filter, found.filter_set = entry, ours
        elif entry.is_our_place():
            found.foreign_filter = entry
        elif entry.priority <= tc.PRIORITY and found.filter is None:
            found.earlier_filters += (entry,)


def _is_of_another(one: MapSet, program: int, found: Found) -> bool:
    """Is it the program of another interface of this namespace, which someone has put here as well?"""
    if one.get("ifindex") == found.link.ifindex or one.get("netns_cookie") != found.identity.cookie:
        return False
    owner = by_index(one.get("ifindex"))
    return owner is not None and program in (each.program for each in owner.xdp)


def is_helper(program: int) -> bool:
    """Is this our pass-only program? A program that is gone is not."""
    try:
        return objects.prog_info_by_id(program).name == PASS_NAME
    except OSError:
        return False


def _choose(found: Found) -> None:
    """Which set is in force. With two attached, the one that names the other as its predecessor."""
    xdp, egress = found.xdp_set, found.filter_set
    if xdp is not None and egress is not None and found.split():
        newer, older = (xdp, egress) if xdp.get("predecessor") == egress.get("epoch") else (egress, xdp)
        found.current, found.other = newer, older
        return
    found.current = xdp or egress
    if found.current is None:
        # What is attached somewhere is of an interface that moved away and left its index behind.
        pinned = [one for one in found.pinned.values() if was_attached(one, found.identity)]
        detached = [one for one in pinned if _is_detached(one)]
        replaced = {one.get("predecessor") for one in detached}
        newest = [one for one in detached if one.get("epoch") not in replaced]
        found.current = newest[0] if newest else None
    if found.current is not None and found.current.get("predecessor"):
        found.other = found.pinned.get(found.current.get("predecessor"))


def _is_detached(one: MapSet) -> bool:
    """The kernel lets go of a filter's program a moment after the filter."""
    deadline = time.monotonic() + _LETS_GO
    while is_attached(one):
        if time.monotonic() >= deadline:
            return False
        time.sleep(_LETS_GO / 50)
    return True


def is_attached(one: MapSet) -> bool:
    """Do its programs exist? Only maps are pinned: a program that is there is on an interface."""
    return any(_exists(one.get(name)) for name in ("xdp_program", "tc_program"))


def _exists(program: int) -> bool:
    try:
        objects.prog_info_by_id(program)
    except FileNotFoundError:
        return False
    return True


def was_attached(one: MapSet, here: netns.Identity) -> bool:
    """Once in force in this namespace: the cookie tells a namespace from a later one with the same inode.

    Without cookies (before Linux 5.14) nobody can tell, and a dead interface's maps must not be taken up.
    """
    return bool(one.get("xdp_program")) and here.cookie != 0 and one.get("netns_cookie") == here.cookie
