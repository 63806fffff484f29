"""``load``: a transaction over interfaces. Stage all, then store the control words back to back."""

from __future__ import annotations

from collections.abc import Callable

from xdpguard.errors import Interrupted, KernelError, NotLoadedError, XdpguardError
from xdpguard.generation.compiled import Compiled
from xdpguard.guard.chosen import chosen, reason
from xdpguard.guard.interrupts import Noted
from xdpguard.guard.repair import sweep
from xdpguard.guard.stage import Request, Staged, left_behind, stage
from xdpguard.kernel import link, pins
from xdpguard.kernel.discover import Found
from xdpguard.kernel.netns import inside


def load(
    interfaces: list[str],
    rules: Compiled,
    *,
    mode: str,
    netns: str | None,
    confirm: int | None,
    force: bool,
    say: Callable[[str], None],
    verbose: bool,
    account_owners: bool | None = None,
) -> None:
    """Load the rules on every interface, or on none. Raises XdpguardError; the text tells the state.

    ``account_owners``: count by owner, or no longer; None leaves it as it is.
    """
    pins.ensure_mounted(say)
    request = Request(rules, mode, netns, confirm, force, verbose, say, account_owners)
    inside(netns, _load, interfaces, request)


def _load(interfaces: list[str], request: Request) -> None:
    with chosen(interfaces, "xdpguard load") as (looked, signals):
        settle(commit(looked, request, signals), request, signals)


def commit(looked: list[Found], request: Request, signals: Noted) -> list[Staged]:
    """The first half, on interfaces whose locks are held, in their namespace: the rules are live on all of
    them, or on none if it raises.
    """
    staged = _stage(looked, request, signals)
    for ready in staged:
        ready.commit()
    return staged


def settle(staged: list[Staged], request: Request, signals: Noted) -> None:
    """The second half: clean up behind what was committed, and report. The rules are live, also if it raises;
    NotLoadedError: but on an interface that vanished.
    """
    failures = [why for why in map(_finish, staged) if why]
    failures += _swept(request)
    _report(staged)
    if failures:
        raise KernelError(
            f"{'; '.join(failures)}: the new rules are live, and the next command cleans up behind them"
        )
    if signals.pending:
        raise Interrupted("interrupted too late: the new rules are live")


def _stage(looked: list[Found], request: Request, signals: Noted) -> list[Staged]:
    """All of them, or none."""
    staged: list[Staged] = []
    try:
        for found in looked:
            staged.append(stage(found, request, signals.check))
        for ready in staged:
            ready.prepare()
        signals.check()
    except BaseException as error:
        left_behind(staged, error)
        raise
    return staged


def _finish(staged: Staged) -> str:
    """Clean up behind one interface; what failed, or nothing: it must not keep the others from theirs."""
    try:
        staged.finish()
    except (XdpguardError, OSError) as error:
        return f"{staged.found.link.name}: {reason(error)}"
    return ""


def _swept(request: Request) -> list[str]:
    try:
        sweep(request.say)
    except (XdpguardError, OSError) as error:
        return [f"what other interfaces left cannot be removed: {reason(error)}"]
    return []


def _report(staged: list[Staged]) -> None:
    """Say what is live. NotLoadedError: an interface vanished since it was staged."""
    lost = [one for one in staged if link.by_index(one.found.link.ifindex) is None]
    for one in staged:
        if one not in lost:
            _tell(one)
    if lost:
        names = ", ".join(one.found.link.name for one in lost)
        left = "the others carry the new rules" if len(lost) < len(staged) else "nothing is loaded there"
        raise NotLoadedError(f"{names}: the interface vanished during the load; {left}")


def _tell(staged: Staged) -> None:
    request, name = staged.request, staged.found.link.name
    ingress, egress = request.rules.outline.counts
    rules = f"{ingress} ingress and {egress} egress rules"
    request.say(f"{name}: generation {staged.serial} is live ({staged.mode} XDP + TC), {rules}")
    if request.confirm:
        netns = f" --netns {request.netns}" if request.netns is not None else ""
        request.say(
            f"{name}: run `xdpguard confirm -i {name}{netns}` within {request.confirm} s, or the kernel goes "
            "back to the rules before"
        )
