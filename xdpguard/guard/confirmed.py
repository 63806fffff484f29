"""Which rule set comes back after a reboot: the one that was confirmed last.

What must never break: rules that wait for a confirmation, or did not get it, are never marked; and a command
that is killed at any point leaves the mark on rules that were in force and confirmed. So the record of a load
is stored before it is live, the mark moves after the control word, and whatever command comes next puts right
a mark that one did not get to (guard/repair.py): ``note`` asks the maps alone.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from xdpguard.errors import NotLoadedError
from xdpguard.generation import slots
from xdpguard.guard.records import Record, Records
from xdpguard.kernel import kept, link, netns, processes
from xdpguard.kernel.discover import Found
from xdpguard.kernel.maps import MapSet

Say = Callable[[str], None]


def records(inode: int, interface: str) -> Records | None:
    """None: of a network namespace without a name, to which nothing can come back after a reboot."""
    if inode == netns.first():
        return Records(None, interface)
    name = netns.names().get(inode)
    return None if name is None else Records(name, interface)


def unnamed() -> str:
    """Why there are no records of a namespace."""
    if netns.first() is not None:
        return "this network namespace has no name: nothing of it is kept"
    why = processes.denied("CAP_SYS_PTRACE")
    return f"/proc/1/ns/net: {why}: whether this is the host's network namespace is not known"


def store(found: Found, target: MapSet, slot: int, record: Record) -> tuple[str, Callable[[], None]]:
    """Keep what was staged in a slot. Why it cannot be, or ""; and how to take it back."""
    where = records(found.identity.inode, found.link.name)
    loaded_at = slots.loaded_at(target, slot)
    if where is None or loaded_at is None or not record.files:
        return (unnamed() if where is None else ""), _nothing
    try:
        path = where.store(loaded_at, record)
    except (OSError, kept.Distrusted) as error:
        return _why(error, where), _nothing
    return "", lambda: path.unlink(missing_ok=True)


def note(found: Found, current: MapSet, say: Say | None = None, *, unkept: str = "") -> None:
    """After a command: mark what is confirmed now, and drop what cannot be gone back to.

    ``unkept``: why what was just loaded is not kept. ``say``: to warn if what is in force is not what comes
    back.
    """
    where = records(found.identity.inode, found.link.name)
    brings = "brings back nothing"
    if where is None:
        why = unkept or unnamed()
        if _of_the_host(found.link.name):
            brings = "may bring back other rules than these"
    else:
        try:
            why = unkept or _mark(where, current)
            if where.marked() is not None:
                brings = "brings back the rules that were confirmed before"
        except OSError as error:
            why, brings = unkept or _why(error, where), "may bring back other rules than these"
    if why and say is not None:
        say(f"warning: {found.link.name}: after a reboot `xdpguard restore` {brings}: {why}")


def _mark(where: Records, current: MapSet) -> str:
    """Why that in force which is confirmed does not come back, or "". OSError."""
    word = current.word
    waiting = bool(word.deadline_ms)
    # Rules that a fallback left in force were not chosen by anybody: no rules least of all.
    chosen = not waiting and not slots.fell_back(current)
    slot = word.previous if waiting else word.active
    loaded_at = None if slot == slots.BUILTIN else slots.loaded_at(current, slot)
    is_kept = loaded_at is not None and where.mark(loaded_at)
    forgotten = False
    if chosen and not is_kept:
        marked = where.marked()
        # Someone went back from what is marked; or, if it is older, what replaced it could not be kept.
        if loaded_at is None or (marked is not None and marked > loaded_at):
            forgotten = where.unmark()
    times = (slots.loaded_at(current, one) for one in {word.active, word.previous} - {slots.BUILTIN})
    with contextlib.suppress(OSError):  # it is only in the way
        where.prune(one for one in times if one is not None)
    if loaded_at is None:
        return "no rules are in force" if forgotten else ""
    return "these rules are not kept on the disk" if chosen and not is_kept else ""


def forget(found: Found, say: Say) -> bool:
    """Nothing of this interface comes back, nor under the name that it had when it was loaded. False: nothing
    would have.
    """
    current = found.current
    former = current.interface if current is not None and current.current_abi else found.link.name
    where = records(found.identity.inode, found.link.name)
    if where is not None and former not in ("", found.link.name) and not _is_there(former):
        _forget(Records(where.netns, former), say)
    if where is None and _of_the_host(found.link.name):
        say(f"warning: {found.link.name}: {unnamed()}: `xdpguard restore` may bring its rules back")
    return where is not None and _forget(where, say)


def _is_there(interface: str) -> bool:
    try:
        link.find(interface)
    except NotLoadedError:
        return False
    return True


def _of_the_host(interface: str) -> bool:
    """May rules be kept of it, in a namespace without a name that may be the host's?"""
    try:
        return netns.first() is None and Records(None, interface).marked() is not None
    except OSError:
        return True


def forget_gone(interface: str, name: str | None, say: Say) -> bool:
    """The same of an interface, or of a namespace with this name, that is not there any more."""
    try:
        inode = netns.inside(name, netns.identity).inode
    except NotLoadedError:
        return name is not None and _forget(Records(name, interface), say)
    if netns.inside(name, _is_there, interface):
        return False
    where = records(inode, interface)
    return where is not None and _forget(where, say)


def _forget(where: Records, say: Say) -> bool:
    try:
        were = where.unmark()
    except OSError as error:
        say(f"warning: {where.interface}: {_why(error, where)}: `xdpguard restore` may bring its rules back")
        return False
    try:
        where.remove()
    except OSError as error:
        say(f"warning: {where.interface}: {_why(error, where)}: rules that do not come back stay kept there")
    return were


def _why(error: OSError | kept.Distrusted, where: Records) -> str:
    return str(error) if isinstance(error, kept.Distrusted) else f"{where.folder}: {error.strerror}"


def _nothing() -> None:
    """There is nothing to take back."""
