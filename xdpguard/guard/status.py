"""``status``: what is loaded where, and whether it is what was loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from xdpguard.errors import KernelError, NotLoadedError, PrivilegeError
from xdpguard.generation import slots
from xdpguard.guard import attach, targets
from xdpguard.guard.chosen import explained
from xdpguard.guard.model import Generation, InterfaceStatus
from xdpguard.kernel import link, lock, netns, pins, processes, tc
from xdpguard.kernel.discover import Found, examined
from xdpguard.kernel.maps import MapSet
from xdpguard.kernel.survey import Spot, Successor, spots, successors


def status(interface: str | None, netns_name: str | None) -> list[InterfaceStatus]:
    """One interface, or every one that carries xdpguard (of one namespace, or of all that have a name).

    NotLoadedError: no such interface, or nothing of ours on it. PrivilegeError: not permitted.
    """
    processes.require("xdpguard status", "CAP_SYS_ADMIN")
    with explained("xdpguard status", "nothing changed"):
        if interface is not None:
            found = netns.inside(netns_name, _one, interface, netns_name)
            if found is None:
                raise NotLoadedError(
                    f"{interface}: xdpguard is not loaded there{_former(interface, netns_name)}"
                )
            return [found]
        loaded = [one for spot in spots(netns_name) for one in _at(spot)]
        return loaded + [_unfiltered(one) for one in successors(netns_name)]


def _former(interface: str, netns_name: str | None) -> str:
    same = [
        one.former for one in successors(netns_name) if (one.interface, one.netns) == (interface, netns_name)
    ]
    return f", but on the interface of that name before (index {same[0]}), which is gone" if same else ""


def _unfiltered(one: Successor) -> InterfaceStatus:
    problem = (
        f"nothing is filtered: what was loaded was the {one.interface} before (index {one.former}), which is "
        f"gone: load again, or unload"
    )
    return _bare(one.interface, one.ifindex, one.netns, problem)


def _at(spot: Spot) -> Iterator[InterfaceStatus]:
    try:
        found = netns.inside(spot.netns, _one, spot.interface, spot.netns)
    except NotLoadedError:
        return  # gone since it was listed
    if found is not None:
        yield found


def _one(interface: str, netns_name: str | None) -> InterfaceStatus | None:
    found = _look(interface, netns_name)
    if found is None or found.protected():
        return found
    # A command at work looks like a fault: look again when it is done.
    try:
        with lock.held([link.find(interface)], "xdpguard status"):
            return _look(interface, netns_name)
    except (KernelError, PrivilegeError):
        return found  # it hangs, and what it left is what there is; or nobody can hold a lock here


def _look(interface: str, netns_name: str | None) -> InterfaceStatus | None:
    with examined(link.find(interface)) as found:
        return _describe(found, netns_name) if found.current is not None else None


def _describe(found: Found, netns_name: str | None) -> InterfaceStatus:
    current = found.current
    if current is None or not current.current_abi:
        return _unreadable(found, netns_name)
    slots.settle(current, found.link)
    word = current.word
    fell_back = slots.expired(word) or slots.fell_back(current)
    active = slots.in_force(word)
    previous = None if word.previous == active else word.previous
    pending = word.deadline_ms and not slots.expired(word)
    return InterfaceStatus(
        interface=found.link.name,
        ifindex=found.link.ifindex,
        netns=netns_name,
        mode=found.xdp.mode if found.xdp else "none",
        active=_generation(current, active),
        previous=None if previous is None else _generation(current, previous),
        confirm_seconds=(word.deadline_ms - slots.boot_ms()) / 1000 if pending else None,
        fell_back=fell_back,
        xdp_program=found.xdp.program if found.xdp else None,
        tc_program=found.filter.program if found.filter else None,
        helpers=_helpers(current),
        table_bytes=len(slots.blob_bytes(current, active)),
        problems=tuple(_problems(found, current)),
    )


def _unreadable(found: Found, netns_name: str | None) -> InterfaceStatus:
    version = found.current.get("abi_version") if found.current else 0
    problem = f"loaded by another version of xdpguard (map format {version}): load again, or unload"
    return replace(
        _bare(found.link.name, found.link.ifindex, netns_name, problem),
        mode=found.xdp.mode if found.xdp else "none",
        xdp_program=found.xdp.program if found.xdp else None,
        tc_program=found.filter.program if found.filter else None,
    )


def _bare(interface: str, ifindex: int, netns_name: str | None, problem: str) -> InterfaceStatus:
    """With one problem and nothing else to tell."""
    return InterfaceStatus(
        interface=interface,
        ifindex=ifindex,
        netns=netns_name,
        mode="none",
        active=None,
        previous=None,
        confirm_seconds=None,
        fell_back=False,
        xdp_program=None,
        tc_program=None,
        helpers=(),
        table_bytes=0,
        problems=(problem,),
    )


def _generation(current: MapSet, slot: int) -> Generation | None:
    names = slots.describe(current, slot)
    if names is None:
        return None
    ingress, egress = (len(rules) for rules in names.rules)
    return Generation(
        slots.serial(current, slot), names.file, names.content_hash, names.loaded_at, ingress, egress
    )


def _helpers(current: MapSet) -> tuple[str, ...]:
    carrying = []
    for name, ifindex in sorted(targets.named(current).items()):
        target = link.by_index(ifindex)
        if target is not None and targets.helper_of(target) is not None:
            carrying.append(name)
    return tuple(carrying)


def warn(found: Found, current: MapSet, say: Callable[[str], None]) -> None:
    """Rules that are in force may have nobody who asks them."""
    for problem in _unprotected(found, current):
        say(f"warning: {found.link.name}: {problem}")


def _unprotected(found: Found, current: MapSet) -> Iterator[str]:
    """Where packets are not judged by our programs, or not by them first, a line each."""
    name = found.link.name
    if found.foreign_xdp:
        ids = ", ".join(str(one.program) for one in found.foreign_xdp)
        yield f"ingress is not filtered: {name} has another XDP program (id {ids})"
    elif found.xdp is None:
        yield f"ingress is not filtered: our XDP program is no longer attached to {name}"
    elif attach.mode_name(current.get("mode")) != found.xdp.mode:
        yield f"the XDP program of {name} is in {found.xdp.mode} mode, not as loaded"
    if found.foreign_filter is not None:
        yield f"egress is not filtered: {_called(found.foreign_filter)} is in our place on {name}"
    elif found.filter is None:
        yield f"egress is not filtered: our TC filter is no longer on {name}"
    for number in found.tcx:
        yield f"TCX program id {number} runs before our TC filter on {name}"
    # Of a u32 filter the kernel lists the hash table too.
    for called in dict.fromkeys(f"{_called(one)} (priority {one.priority})" for one in found.earlier_filters):
        yield f"{called} runs before ours on {name}"


def _problems(found: Found, current: MapSet) -> Iterator[str]:
    """What is not as it was loaded, a line each."""
    yield from _unprotected(found, current)
    if found.split():
        yield "a replacement of programs was interrupted: load again"
    if pins.mounted() and found.place(current).epoch not in found.pinned:
        yield "the pins are lost (verdicts go on): any load, confirm or rollback makes them again"
    names = slots.describe(current, slots.in_force(current.word))
    there = targets.allowed(current)
    for target, ifindex in sorted(names.targets.items() if names is not None else ()):
        called = f"the redirect target {target} (index {ifindex})"
        if link.by_index(ifindex) is None:
            yield f"{called} is gone: its packets are dropped"
        elif ifindex not in there:
            yield f"{called} was gone meanwhile: its packets are dropped: load again"


def _called(entry: tc.Filter) -> str:
    return f"TC filter of kind {entry.kind}" if entry.program is None else f"TC filter id {entry.program}"
