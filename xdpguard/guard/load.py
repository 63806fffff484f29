"""``load``: a transaction over interfaces. Stage all, then store the control words back to back."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

from xdpguard.errors import Interrupted
from xdpguard.guard.stage import Request, Staged, stage
from xdpguard.kernel import link, lock, pins
from xdpguard.kernel.discover import examined
from xdpguard.kernel.netns import inside
from xdpguard.rules.model import RuleSet


def load(
    interfaces: list[str],
    ruleset: RuleSet,
    *,
    mode: str,
    netns: str | None,
    confirm: int | None,
    force: bool,
    say: Callable[[str], None],
    verbose: bool,
) -> None:
    """Load the rule set on every interface, or on none. Raises XdpguardError; the text tells the state."""
    pins.ensure_mounted(say)
    inside(netns, _load, interfaces, Request(ruleset, mode, confirm, force, verbose, say))


def _load(interfaces: list[str], request: Request) -> None:
    links = [link.find(name) for name in interfaces]
    with lock.held(links, "xdpguard load"), ExitStack() as stack:
        staged: list[Staged] = []
        try:
            for one in links:
                staged.append(stage(stack.enter_context(examined(one)), request))
        except BaseException as error:
            for ready in reversed(staged):
                ready.abandon()
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted("interrupted before the rules were live; nothing changed") from None
            raise
        _commit(staged)
        for ready in staged:
            ready.finish()
            _report(ready)


def _commit(staged: list[Staged]) -> None:
    """Every store, whatever comes in between: a Ctrl-C here is too late to stop anything."""
    left = list(staged)
    while left:
        try:
            left[0].commit()
            left.pop(0)
        except KeyboardInterrupt:
            continue


def _report(staged: Staged) -> None:
    request, name = staged.request, staged.found.link.name
    rules = (
        f"{len(request.ruleset.ingress.rules)} ingress and {len(request.ruleset.egress.rules)} egress rules"
    )
    request.say(f"{name}: generation {staged.serial} is live ({staged.mode} XDP + TC), {rules}")
    if request.confirm:
        request.say(
            f"{name}: run `xdpguard confirm -i {name}` within {request.confirm} s, or the kernel goes back "
            "to the rules before"
        )
