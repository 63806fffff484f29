"""``confirm``, ``rollback``, ``unload``: one store or one detach on every named interface, or on none."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from xdpguard.errors import ForeignError, Interrupted, KernelError, NotLoadedError, XdpguardError
from xdpguard.generation import slots
from xdpguard.guard import attach, confirmed, targets
from xdpguard.guard.chosen import chosen, restated
from xdpguard.guard.repair import drop_left_over, repair, sweep
from xdpguard.guard.status import warn
from xdpguard.kernel import pins, processes
from xdpguard.kernel.discover import Found
from xdpguard.kernel.maps import MapSet, Word
from xdpguard.kernel.netns import inside

Say = Callable[[str], None]
Step = Callable[[], Callable[[], None]]
"""Changes what is in force; what it returns tells of it, and does what may take longer."""
_FORGOTTEN = "its kept rules are removed: `xdpguard restore` brings nothing back"


def confirm(interfaces: list[str], netns: str | None, say: Say) -> None:
    """Keep the rules that a ``load --confirm`` made live. KernelError past the deadline."""
    inside(netns, _each, interfaces, "confirm", _confirm, say)


def rollback(interfaces: list[str], netns: str | None, say: Say) -> None:
    """Go back to the rules before. KernelError: there are none."""
    inside(netns, _each, interfaces, "rollback", _rollback, say)


def unload(interfaces: list[str], netns: str | None, say: Say) -> None:
    """Take xdpguard off, and let nothing come back. What is not ours stays."""
    try:
        inside(netns, _each, interfaces, "unload", _unload, say)
    except NotLoadedError as error:
        # Of an interface that is gone there may be rules yet that would come back with it.
        if len(interfaces) == 1 and confirmed.forget_gone(interfaces[0], netns, say):
            why = str(error).removesuffix("; nothing changed")
            raise NotLoadedError(f"{why}; {_FORGOTTEN}") from None
        raise


def _each(interfaces: list[str], verb: str, plan: Callable[[Found, Say], Step], say: Say) -> None:
    """Plan all: any may refuse. Then act on all."""
    with chosen(interfaces, f"xdpguard {verb}") as (looked, signals):
        for found in looked:
            if found.current is None:
                state = _not_loaded(found, verb, say) if len(looked) == 1 else "nothing changed"
                raise NotLoadedError(f"{found.link.name}: xdpguard is not loaded there; {state}")
        steps = [plan(found, say) for found in looked]
        signals.check()
        behind: list[Callable[[], None]] = []
        try:
            for step in steps:  # one store each, and nothing between them
                behind.append(step())
        finally:
            _finish(behind)
        if signals.pending:
            raise Interrupted(f"interrupted too late: {verb} is done")


def _finish(behind: list[Callable[[], None]]) -> None:
    """What failed on one interface does not keep the others from theirs; each says what it has done."""
    failures: list[Exception] = []
    for rest in behind:
        try:
            rest()
        except (XdpguardError, OSError) as error:
            failures.append(error)
    if len(failures) > 1:
        raise KernelError("; ".join(map(str, failures)))
    if failures:
        raise failures[0]


def _not_loaded(found: Found, verb: str, say: Say) -> str:
    """Remove what is left of a former load. -> the state of the host."""
    drop_left_over(found, say)
    if verb != "unload":
        return "nothing changed"
    state = _FORGOTTEN if confirmed.forget(found, say) else "nothing changed"
    try:
        sweep(say, found.link.name)
    except XdpguardError as error:
        raise restated(error, state) from error
    return state


def _current(found: Found) -> MapSet:
    if found.current is None:
        raise AssertionError("checked by _each")
    if not found.current.current_abi:
        raise ForeignError(
            f"{found.link.name} was loaded by another version of xdpguard (map format "
            f"{found.current.get('abi_version')}): load again, or unload; nothing changed"
        )
    return found.current


def _confirm(found: Found, say: Say) -> Step:
    current, name = _current(found), found.link.name
    repair(found, say)
    word = current.word
    if not word.deadline_ms:
        why = (
            "it came too late: the rules before are in force"
            if slots.fell_back(current)
            else "nothing waits for it"
        )
        raise KernelError(f"{name}: cannot confirm: {why}; nothing changed")

    def keep() -> Callable[[], None]:
        if slots.expired(current.word):
            raise KernelError(f"{name}: cannot confirm: it came too late: the rules before are in force")
        current.word = Word(word.active, word.previous)
        return tell

    def tell() -> None:
        confirmed.note(found, current, say)
        say(f"{name}: generation {slots.serial(current, word.active)} is confirmed")
        warn(found, current, say)

    return keep


def _rollback(found: Found, say: Say) -> Step:
    current, name = _current(found), found.link.name
    repair(found, say)
    word = current.word
    if word.active == word.previous:
        raise KernelError(f"{name}: there are no rules to go back to; nothing changed")

    def swap() -> Callable[[], None]:
        slots.choose(current, Word(word.previous, word.active))
        return tell

    def tell() -> None:
        confirmed.note(found, current, say)
        what = "no rules: everything passes" if word.previous == slots.BUILTIN else "the rules before"
        say(f"{name}: back to generation {slots.serial(current, word.previous)} ({what})")
        warn(found, current, say)

    return swap


def _unload(found: Found, say: Say) -> Step:
    if found.xdp is not None or found.filter is not None:
        # Not found out half way: the store that opens the interface comes before the programs are detached.
        processes.require("xdpguard unload", "CAP_NET_ADMIN")
    return lambda: partial(_take_off, found, say)


def _take_off(found: Found, say: Say) -> None:
    current, name = found.current, found.link.name
    if current is None:
        raise AssertionError("checked by _each")
    used = targets.used(current)
    if current.current_abi:
        # Open in one store for both hooks; then the programs may go one after the other.
        current.word = Word(slots.BUILTIN, slots.BUILTIN)
    try:
        attach.remove(found)
    except (XdpguardError, OSError) as error:
        half = f"the unload of {name} stopped half way: `xdpguard status` tells what is left, unload again"
        raise restated(error, half) from error  # the word was stored
    # Marked as taken off: pins that are out of reach here, or that a kill leaves, then count as left over.
    current.put("xdp_program", 0)
    confirmed.forget(found, say)
    try:
        _clean_up(found, used, say)
    except (XdpguardError, OSError) as error:
        state = f"{name} is unloaded, and `xdpguard status` tells what is left elsewhere"
        raise restated(error, state) from error
    say(f"{name}: unloaded; nothing is filtered there any more")


def _clean_up(found: Found, used: dict[str, int], say: Say) -> None:
    """Behind an interface whose programs are off. ``used``: its redirect targets."""
    own = found.current.get("epoch") if found.current is not None else 0
    targets.release(used, say, own)  # while the pins can tell of them, should this die
    found.delivery.remove()
    for place in pins.of(found.identity.inode, found.link.ifindex):
        pins.remove(place)
    if targets.users(found.link.ifindex):
        targets.help_again(found.link, say)
    sweep(say, found.link.name)
