"""``restore``: what was confirmed last is in force again, after a reboot or a lost bpf file system.

What must never break: it looks and loads under one lock, so that it never takes the place of rules that a
command has loaded meanwhile; rules in force are left, also those that wait for a confirmation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from xdpguard.errors import Interrupted, NotLoadedError, PrivilegeError, RulesError, XdpguardError
from xdpguard.generation import slots
from xdpguard.generation.compiled import Compiled, read
from xdpguard.guard import confirmed, records
from xdpguard.guard.chosen import chosen, explained
from xdpguard.guard.load import commit, settle
from xdpguard.guard.model import Restored
from xdpguard.guard.records import Record, Records, refused
from xdpguard.guard.repair import repair
from xdpguard.guard.stage import Request
from xdpguard.guard.status import warn
from xdpguard.kernel import link, netns, pins
from xdpguard.kernel.discover import Found, examined

Say = Callable[[str], None]


def restore(interface: str | None, name: str | None, say: Say, *, force: bool = False) -> Iterator[Restored]:
    """One interface, or every one of which rules are kept (of the namespace ``name``, or of all); a result as
    each is done. ``force``: load even if the preflight refuses.

    Raises XdpguardError if it cannot begin.
    """
    with explained("xdpguard restore", "nothing changed"):
        here = netns.identity().inode == netns.first()
        wanted = _kept(name) if interface is None else [_named(interface, name)]
    if not wanted:
        say(f"no confirmed rules are kept in {records.FOLDER}: nothing to restore")
        return
    pins.ensure_mounted(say)
    for where in wanted:
        if interface is None and name is None and where.netns is None and netns.first() is None:
            error = PrivilegeError(f"restore {where.interface}: {confirmed.unnamed()}; nothing changed")
            yield Restored(where.interface, None, "failed", error=error)
            continue
        if interface is None and name is None and where.netns is None and not here:
            say(f"{where.interface}: is of the host's network namespace: run restore there; nothing changed")
            continue
        result = _one(where, where.netns if interface is None and name is None else name, say, force)
        if interface is None and result.result == "missing":
            say(str(result.error))  # it may come yet
            result = Restored(result.interface, result.netns, result.result)
        yield result
        if isinstance(result.error, Interrupted):
            return


def _named(interface: str, name: str | None) -> Records:
    inode = netns.inside(name, netns.identity).inode
    try:
        interface = netns.inside(name, link.find, interface).name  # it may be an alternative name
    except NotLoadedError:
        pass  # told where it is to be loaded
    found = confirmed.records(inode, interface)
    if found is None:
        kind = PrivilegeError if netns.first() is None else NotLoadedError
        raise kind(f"{interface}: {confirmed.unnamed()}; nothing changed")
    return found


def _kept(name: str | None) -> list[Records]:
    if name is None:
        return list(records.every())
    inode = netns.inside(name, netns.identity).inode
    # Of several names one is used.
    home = None if inode == netns.first() else netns.names().get(inode)
    return [one for one in records.every() if one.netns == home]


def _one(where: Records, name: str | None, say: Say, force: bool) -> Restored:
    """``name``: of the namespace to enter for it."""
    try:
        with explained(f"restore {where.interface}", "nothing changed"):
            missing = _missing(where, name)
            if missing is not None:
                return Restored(where.interface, name, "missing", error=missing)
            return netns.inside(name, _restore, where, name, say, force)
    except XdpguardError as error:
        return Restored(where.interface, name, "failed", None, error, _unfiltered(where, name))


def _missing(where: Records, name: str | None) -> NotLoadedError | None:
    try:
        netns.inside(name, link.find, where.interface)
    except NotLoadedError as error:
        kept = where.marked() is not None
        state = f"its confirmed rules stay kept in {where.folder}" if kept else "nothing changed"
        return NotLoadedError(f"{str(error).removesuffix('; nothing changed')}; {state}")
    return None


def _unfiltered(where: Records, name: str | None) -> tuple[str, ...]:
    def look() -> tuple[str, ...]:
        with examined(link.find(where.interface)) as found:
            hooks = {"ingress": found.xdp is None, "egress": found.filter is None}
            return tuple(hook for hook, is_open in hooks.items() if is_open)

    try:
        return netns.inside(name, look)
    except (XdpguardError, OSError):
        return ()  # it cannot be told


def _restore(where: Records, name: str | None, say: Say, force: bool) -> Restored:
    with chosen([where.interface], "xdpguard restore") as (looked, signals):
        (found,) = looked
        left = _in_force(found, say)
        if left:
            return Restored(where.interface, name, left)
        record = where.read()
        say(f"{where.interface}: restoring {record.file} as it was confirmed (kept in {where.folder})")
        request = Request(
            _compiled(record, where, say), _mode(record, found), name, None, force or record.force,
            verbose=False, say=say, account_owners=record.account_owners,
        )  # fmt: skip
        staged = commit(looked, request, signals)
        try:
            settle(staged, request, signals)
        except NotLoadedError:
            raise
        except XdpguardError as error:  # of the cleaning up: the rules are in force
            return Restored(where.interface, name, "restored", record.file, error)
        return Restored(where.interface, name, "restored", record.file)


def _in_force(found: Found, say: Say) -> str:
    """What is to be left as it is: "in force", "pending", or "" if there is nothing."""
    current = found.current
    if current is None or not current.current_abi or not _is_whole(found):
        return ""
    repair(found, say)
    if current.word.active == slots.BUILTIN:
        return ""
    confirmed.note(found, current, say)
    warn(found, current, say)
    if current.word.deadline_ms:
        say(f"{found.link.name}: rules that wait for their confirmation are in force: left as they are")
        return "pending"
    say(f"{found.link.name}: rules are in force: left as they are")
    return "in force"


def _is_whole(found: Found) -> bool:
    """Does our program decide on both hooks?"""
    ours = found.xdp is not None and found.filter is not None
    return ours and not found.foreign_xdp and found.foreign_filter is None


def _compiled(record: Record, where: Records, say: Say) -> Compiled:
    try:
        return read(record.file, say, files=record.files)
    except RulesError as error:
        last = refused(where.folder, "this version of xdpguard refuses the rules that are kept there")
        raise RulesError([*error.problems, *last.problems]) from None


def _mode(record: Record, found: Found) -> str:
    """Native if it can be had, else generic, which filters as well; what was generic stays so."""
    return "generic" if record.mode == "generic" and found.xdp is None and found.helper is None else "auto"
