"""Redirect targets: which interfaces a rule set names, whether they take frames, our pass-only helper.

Owns the helper program: a native target that takes no frames without an XDP program gets one that passes
everything. It is removed with its last user.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing

from xdpguard.classify.tables import Target
from xdpguard.errors import ForeignError, KernelError, NotLoadedError, PreflightError
from xdpguard.generation import slots
from xdpguard.generation.outline import Outline
from xdpguard.guard import programs
from xdpguard.kernel import bpf, features, link, maps, netns, objects, pins, xdp
from xdpguard.kernel.discover import Found, is_helper
from xdpguard.kernel.link import Link
from xdpguard.kernel.maps import SLOTS, MapSet

Say = Callable[[str], None]


def resolve(plan: Outline, source: Link) -> dict[str, Target]:
    """Every target by name. NotLoadedError: there is no such interface. PreflightError: not Ethernet."""
    found: dict[str, Target] = {}
    links: dict[str, Link] = {}
    for hook, name, rule, where in plan.redirects:
        place = f"{where}: rule {rule}: redirect"
        try:
            target = links[name] = links.get(name) or link.find(name)
        except NotLoadedError:
            raise NotLoadedError(f"{place} target {name}: no such interface; nothing changed") from None
        if hook == 1 and target.ifindex == source.ifindex:
            raise PreflightError(
                f"{place} from egress of {name} to itself would run in circles; nothing changed"
            )
        if source.is_l3 or target.is_l3:
            bare = source.name if source.is_l3 else name
            raise PreflightError(
                f"{place} from {source.name} to {name}: {bare} has no Ethernet header; nothing changed"
            )
        found[name] = Target(target.ifindex, target.mac)
    return found


def prepare(plan: Outline, source: Link, mode: str, say: Say) -> list[int]:
    """See that native redirects can be delivered. Returns the interfaces that got our helper just now.

    PreflightError: the kernel's xdp-features (Linux 6.3) say that a target cannot take frames.
    """
    helped: list[int] = []
    if mode != "native":
        return helped
    try:
        for hook, name, rule, where in plan.redirects:
            target = link.find(name) if hook == 0 else None
            if target is not None and _help(target, f"{where}: rule {rule}", say):
                helped.append(target.ifindex)
    except BaseException:
        for ifindex in helped:
            remove_helper(ifindex)
        raise
    if plan.tx and source.kind == "veth":
        able = features.xdp_features(source.ifindex)
        if able is None or not able & features.NDO_XMIT:
            say(
                f"warning: {source.name} is a veth: tx frames are delivered only once its peer has an XDP "
                "program (or GRO: ethtool -K PEER gro on)"
            )
    return helped


def _help(target: Link, place: str, say: Say) -> bool:
    """Attach the helper if the target needs one. True: we did."""
    able = features.xdp_features(target.ifindex)
    if able is not None and able & features.NDO_XMIT:
        return False
    attached = not target.xdp and _attach_helper(target, say)
    try:
        able = features.xdp_features(target.ifindex)
    except BaseException:
        if attached:
            remove_helper(target.ifindex)
        raise
    if able is None:
        say(f"warning: {place}: this kernel does not tell whether {target.name} can take redirected frames")
    elif not able & features.NDO_XMIT:
        if attached:
            remove_helper(target.ifindex)
        hint = "; a veth can once its peer has an XDP program or GRO" if target.kind == "veth" else ""
        raise PreflightError(
            f"{place}: {target.name} cannot take frames from native XDP{hint}; nothing changed"
        )
    if attached:
        _tell(target, say)
    return attached


def _tell(target: Link, say: Say) -> None:
    say(f"{target.name}: attached a pass-only XDP program, so that it takes redirected frames")


def _attach_helper(target: Link, say: Say) -> bool:
    helper = programs.load_pass()
    try:
        xdp.attach(target.ifindex, helper.fd, "native")
    except KernelError as error:
        say(f"warning: {target.name}: no pass-only program for redirects: {error}")
        return False
    finally:
        os.close(helper.fd)
    return True


def help_again(target: Link, say: Say) -> None:
    """A former filter interface that others redirect to: see that it still takes their frames."""
    able = features.xdp_features(target.ifindex)
    if (able is None or not able & features.NDO_XMIT) and _attach_helper(target, say):
        _tell(target, say)


def helper_of(target: Link) -> int | None:
    """The id of our pass-only program on an interface, or None."""
    return next((one.program for one in target.xdp if is_helper(one.program)), None)


def remove_helper(ifindex: int) -> None:
    """Detach our pass-only program from an interface, if it is there."""
    target = link.by_index(ifindex)
    program = helper_of(target) if target is not None else None
    if target is None or program is None:
        return
    fd = objects.prog_by_id(program)
    try:
        xdp.detach(ifindex, fd, "native")
    except (ForeignError, NotLoadedError):
        return  # someone was quicker: it is no longer ours to remove
    finally:
        os.close(fd)


def named(found: MapSet) -> dict[str, int]:
    """Redirect targets of each generation that is or may come in force: name -> ifindex."""
    return dict(sorted(_wanted(found)))


def _wanted(found: MapSet) -> set[tuple[str, int]]:
    """The same, of a name that meant two interfaces one after the other both.

    The generations are the active one, the previous one and a staged one, which is newer than both.
    """
    held = (found.word.active, found.word.previous)
    newest = max(slots.serial(found, slot) for slot in held)
    kept = [slot for slot in range(SLOTS) if slot in held or slots.serial(found, slot) > newest]
    return {each for slot in kept for each in slots.targets(found, slot).items()}


def allowed(found: MapSet) -> set[int]:
    """What is in the device map, which any version of us can read. An interface that is not gets no frames.

    The kernel takes one out when it goes, also to another namespace, and puts no other in its place.
    """
    return {int.from_bytes(key, "little") for key in bpf.map_keys(found.fds["targets"], 4)}


def still_there(found: MapSet) -> set[int]:
    """The targets that frames can still be redirected to."""
    return {ifindex for _, ifindex in _wanted(found)} & allowed(found)


def used(found: MapSet) -> dict[str, int]:
    """All that a set of maps, of any version, may redirect to: name, or what it is without one -> ifindex."""
    known = named(found) if found.current_abi else {}
    others = allowed(found) | ({each for _, each in _wanted(found)} if known else set())
    return known | {f"index {each}": each for each in others.difference(known.values())}


def users(ifindex: int, besides: int = 0) -> bool:
    """Does any interface of this namespace redirect to this one? ``besides``: epoch of a set not to ask."""
    for one in _sets():
        with closing(one):
            if one.get("epoch") != besides and ifindex in used(one).values():
                return True
    return False


def _sets() -> Iterator[MapSet]:
    """Of this namespace: what is pinned, then what is attached, whose pins may be out of sight."""
    here = netns.identity()
    for place in pins.places():
        pinned = pins.open_set(place) if place.inode == here.inode else None
        if pinned is not None:
            yield pinned
    for ifindex, _ in socket.if_nameindex():
        one = link.by_index(ifindex)
        for program in one.xdp if one is not None else ():
            attached = maps.from_program(program.program)
            if attached is not None:
                yield attached


def tidy(found: MapSet, before: dict[str, int], say: Say) -> None:
    """Drop what only generations that are gone had used: device map entries, and helpers without a user.

    Helpers first: an entry of the device map tells the next load what a killed one has left.
    """
    unwanted = (allowed(found) | set(before.values())) - {ifindex for _, ifindex in _wanted(found)}
    release({f"index {ifindex}": ifindex for ifindex in sorted(unwanted)}, say, found.get("epoch"))
    withdraw(found, unwanted)


def release(targets: dict[str, int], say: Say, besides: int = 0) -> None:
    """Remove the helper from targets that nobody uses any more. ``besides``: as in ``users``."""
    for ifindex in targets.values():
        target = link.by_index(ifindex)
        if target is not None and helper_of(target) is not None and not users(ifindex, besides):
            remove_helper(ifindex)
            say(f"{target.name}: removed the pass-only XDP program")


def allow(found: MapSet, targets: Iterable[int]) -> set[int]:
    """Enter targets into the device map. Returns those that were not there."""
    wanted = set(targets)
    new = wanted - allowed(found)
    for ifindex in wanted:
        index = ifindex.to_bytes(4, "little")
        bpf.map_update(found.fds["targets"], index, index)
    return new


def withdraw(found: MapSet, targets: Iterable[int]) -> None:
    """Take targets out of the device map. What has gone from there by itself is fine."""
    for ifindex in targets:
        try:
            bpf.map_delete(found.fds["targets"], ifindex.to_bytes(4, "little"))
        except FileNotFoundError:
            continue


def allow_again(found: Found) -> None:
    """Targets that went away and are there again, by the same name and index, get their frames again.

    Where the interface was moved to, its targets' names may mean others: only a load resolves those.
    """
    current = found.current
    if current is None or found.moved:
        return
    there = allowed(current)
    missing = {(name, ifindex) for name, ifindex in _wanted(current) if ifindex not in there}
    allow(current, (ifindex for name, ifindex in missing if _is_called(name, ifindex)))


def _is_called(name: str, ifindex: int) -> bool:
    try:
        return link.find(name).ifindex == ifindex
    except NotLoadedError:
        return False
