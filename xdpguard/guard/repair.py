"""Bring an interface from wherever an interrupted command left it to one whole state.

The caller holds the lock. A replacement of programs that stopped half way is finished: both sets hold the
same rules until the control word is stored, so finishing never changes a verdict.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from xdpguard.generation import slots
from xdpguard.guard import attach, confirmed, programs, targets
from xdpguard.kernel import link, netns, objects, owners, pins, survey
from xdpguard.kernel.delivery import Observation, observations
from xdpguard.kernel.discover import Found
from xdpguard.kernel.link import XdpProgram
from xdpguard.kernel.maps import CHANGES, OWNERS, MapSet

Say = Callable[[str], None]


def repair(found: Found, say: Say) -> None:
    """Finish, fold in, pin again, clean up; make an expired deadline the plain state; mark what comes back
    after a reboot.
    """
    current, name = found.current, found.link.name
    if current is not None and current.current_abi:
        if found.split():
            _finish_replacement(found, current, say)
        if found.other is not None:
            slots.absorb(current, found.other)
        _absorb_abandoned(found, current)
        if slots.expired(current.word):
            say(f"{name}: the last load was not confirmed in time: the rules before it are in force")
        slots.normalise(current)
        targets.allow_again(found)
        confirmed.note(found, current)
        if found.place(current).epoch not in found.pinned:
            _pin_again(found, current, say)
    drop_left_over(found, say)


def drop_left_over(found: Found, say: Say) -> None:
    """Unpin every set of this interface but the one in force; end an observation that is not whole."""
    keep = found.place(found.current).epoch if found.current is not None else None
    former = found.place(found.other).epoch if found.other is not None else None
    for place in pins.of(found.identity.inode, found.link.ifindex):
        if place.epoch == keep:
            continue
        left = found.pinned.get(place.epoch)
        used = targets.used(left) if left is not None else {}
        pins.remove(place)
        if place.epoch != former:
            say(f"{found.link.name}: removed left-over pins ({place.folder})")
        targets.release(used, say)
    delivery = found.delivery
    if delivery.exists() and (found.current is None or not delivery.whole()):
        delivery.remove()
        say(f"{found.link.name}: removed left-over pins ({delivery.folder})")


def _finish_replacement(found: Found, current: MapSet, say: Say) -> None:
    steps = attach.Steps()
    with steps.keep:
        loaded = programs.load(current)
        steps.keep.callback(loaded.close)
        mode = attach.put(found, current, loaded, "auto", steps, say)
    found.xdp, found.xdp_set = XdpProgram(mode, loaded.ingress.id), current
    if found.filter is not None:
        found.filter, found.filter_set = replace(found.filter, program=loaded.egress.id), current
    say(f"{found.link.name}: finished a replacement of programs that was interrupted")


def _absorb_abandoned(found: Found, current: MapSet) -> None:
    """Take over what a replacement counted that was taken back, but not to its end."""
    for one in found.pinned.values():
        if one.current_abi and one.get("predecessor") == current.get("epoch"):
            slots.absorb(current, one)


def _pin_again(found: Found, current: MapSet, say: Say) -> None:
    name = found.link.name
    if not pins.mounted():
        say(f"{name}: no bpf file system on {pins.BPFFS}: the maps stay without pins (verdicts go on)")
        return
    pins.pin(found.place(current), current)
    if OWNERS in current.fds:
        owners.shared(owners.Owners(current.fds[OWNERS], current.fds[CHANGES])).close()
    say(f"{name}: the pins were lost; pinned the maps again")


def sweep(say: Say, unloaded: str = "") -> None:
    """Unpin what was loaded on interfaces that are gone: only the pins keep it alive.

    But not while another of that name is there, unfiltered: `status` knows by them that it is no longer
    protected. ``unloaded``: a name of which that is wanted.
    """
    inode = netns.identity().inode
    # Before the namespaces are: what is loaded meanwhile in one that is new is then not among them.
    places, observed = list(pins.places()), list(observations())
    living = _living(places)
    for place in places:
        if place.inode not in living:
            pins.remove(place)
            say(f"removed the pins of a network namespace that is gone ({place.folder.parent.name})")
    _sweep_interfaces(say, unloaded)
    _sweep_observations(observed, inode, living)
    owners.release()


def _sweep_interfaces(say: Say, unloaded: str) -> None:
    gone = survey.gone()
    missed = {former for name, _, former in survey.succeeding(gone) if name != unloaded}
    for place in gone:
        if place.ifindex in missed:
            continue
        opened = pins.open_set(place)
        used: dict[str, int] = {}
        if opened is not None:
            used = targets.used(opened)
            opened.close()
        pins.remove(place)
        say(f"removed the pins of the interface with index {place.ifindex}, which is gone")
        targets.release(used, say)


def _living(places: list[pins.Place]) -> set[int]:
    """Network namespaces that are there, or may be: those that are seen, and those where programs use what is
    pinned. The programs of an interface go with it, and it goes with its namespace or leaves it.
    """
    living = {netns.identity().inode, *netns.living()}
    unseen = [place for place in places if place.inode not in living]
    used = objects.maps_of_programs() if unseen else set()
    return living.union(place.inode for place in unseen if used & pins.map_ids(place))


def _sweep_observations(observed: list[Observation], inode: int, living: set[int]) -> None:
    """End those of interfaces that are gone; not said apart from their sets of maps."""
    for one in observed:
        gone = link.by_index(one.ifindex) is None if one.inode == inode else one.inode not in living
        if gone:
            one.remove()
