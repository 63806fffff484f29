"""Redirect targets: which interfaces a rule set names, whether they take frames, our pass-only helper.

Owns the helper program: a native target that takes no frames without an XDP program gets one that passes
everything. It is removed with its last user.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from xdpguard.classify.tables import Target
from xdpguard.errors import ForeignError, KernelError, NotLoadedError, PreflightError
from xdpguard.generation import slots
from xdpguard.generation.outline import Outline
from xdpguard.guard import programs
from xdpguard.kernel import bpf, features, link, netns, objects, pins, xdp
from xdpguard.kernel.discover import is_helper
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
    """Redirect targets of each generation that is or may come in force: name -> ifindex.

    Those are the active one, the previous one and a staged one, which is newer than both.
    """
    targets: dict[str, int] = {}
    held = (found.word.active, found.word.previous)
    newest = max(slots.serial(found, slot) for slot in held)
    for slot in range(SLOTS):
        if slot not in held and slots.serial(found, slot) <= newest:
            continue
        targets |= slots.targets(found, slot)
    return targets


def users(ifindex: int) -> bool:
    """Does any interface of this namespace redirect to this one?"""
    inode = netns.identity().inode
    for place in pins.places():
        opened = pins.open_set(place) if place.inode == inode else None
        if opened is None:
            continue
        used = opened.current_abi and ifindex in named(opened).values()
        opened.close()
        if used:
            return True
    return False


def tidy(found: MapSet, before: dict[str, int], say: Say) -> None:
    """Drop what only generations that are gone had used: device map entries, and helpers without a user."""
    wanted = set(named(found).values())
    for key in bpf.map_keys(found.fds["targets"], 4):
        if int.from_bytes(key, "little") not in wanted:
            bpf.map_delete(found.fds["targets"], key)
    release({name: ifindex for name, ifindex in before.items() if ifindex not in wanted}, say)


def release(targets: dict[str, int], say: Say) -> None:
    """Remove the helper from targets that nobody uses any more."""
    for name, ifindex in targets.items():
        target = link.by_index(ifindex)
        if target is not None and helper_of(target) is not None and not users(ifindex):
            remove_helper(ifindex)
            say(f"{name}: removed the pass-only XDP program")


def allow(found: MapSet, targets: dict[str, Target]) -> None:
    """Enter the targets into the device map."""
    for target in targets.values():
        index = target.ifindex.to_bytes(4, "little")
        bpf.map_update(found.fds["targets"], index, index)
