"""A command that is interrupted at any step, or fails while it is undone: all the old rules or all the new
ones, and nothing is left that the next command does not clean up. Killed ones: reliability/test_crash.py.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest
from interface_state import CLEAN, State, await_state, state
from test_lifecycle_forks import Forks, Step, chosen
from test_lifecycle_support import SIZE, TOGGLED, Site, dropping

from xdpguard.kernel import xdp
from xdpguard.stats.model import Count

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, _ = TOGGLED
LARGE = dropping(B, filler=500)  # needs larger maps, so other programs


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    started = Forks()
    yield started
    started.close()


def settled(site: Site, expected: State) -> None:
    await_state(site.end, lambda found: found == expected)


def broken(site: Site, forks: Forks, first: str | None, second: str) -> tuple[list[str], list[Step]]:
    """The command and the steps to break it at. Leaves ``first`` (or nothing) in force."""
    words = site.words("load", site.write(second))
    prepare(site, first)
    steps = chosen(forks.steps(words))
    site.unload()
    settled(site, CLEAN)
    return words, steps


def prepare(site: Site, first: str | None) -> None:
    if first is not None:
        site.load(first)


# --- Ctrl-C, SIGTERM, SIGHUP --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "number"),
    [
        (None, dropping(B), signal.SIGINT),
        (dropping(A), dropping(B), signal.SIGTERM),
        (dropping(A), LARGE, signal.SIGHUP),
    ],
    ids=["first load", "reload", "larger maps"],
)
def test_an_interrupted_load_is_undone_or_done(
    site: Site, forks: Forks, first: str | None, second: str, number: signal.Signals
) -> None:
    words, steps = broken(site, forks, first, second)
    prepare(site, first)
    before, old = state(site.end), {A} if first else set()
    outcomes = []
    for step in steps[:: max(1, len(steps) // 8)]:
        done = forks.run(words, step, number)
        assert (done.code, done.err.count("error: ")) == (130, 1), (step, done.err)
        outcomes.append("the new rules are live" in done.err)
        if outcomes[-1]:
            assert site.verdicts() == {B}, step
            assert site.status().problems == ()
            break
        assert done.err.endswith("interrupted before anything was in force; nothing changed\n"), done.err
        settled(site, before)
    assert len(outcomes) > 4, "no step came before the store"
    if not outcomes[-1]:
        assert site.verdicts() == old
        late = next(step for step in reversed(steps) if step.name == "store word")
        assert "the new rules are live" in forks.run(words, late, number).err
        assert site.verdicts() == {B}


@pytest.mark.parametrize(
    ("command", "number"),
    [("confirm", signal.SIGINT), ("rollback", signal.SIGTERM), ("unload", signal.SIGINT)],
)
def test_an_interrupted_verb_is_done_or_not_begun(
    site: Site, forks: Forks, command: str, number: signal.Signals
) -> None:
    words = site.words(command)
    site.load(dropping(A), confirm=600)
    steps = chosen(forks.steps(words))
    for step in steps[:: 1 + len(steps) // 12]:
        if command == "unload" and not state(site.end).xdp:
            site.load(dropping(A))
        elif command == "confirm":
            site.load(dropping(A), confirm=600)
        before = state(site.end)
        done = forks.run(words, step, number)
        assert (done.code, done.err.count("error: ")) == (130, 1), (step, done.err)
        if done.err.endswith("nothing changed\n"):
            assert state(site.end) == before
            continue
        assert f"interrupted too late: {command} is done" in done.err
        if command == "unload":
            settled(site, CLEAN)
        else:
            assert site.status().confirm_seconds is None
            assert site.status().problems == ()


# --- half-way states ----------------------------------------------------------------------------------------


def test_a_load_that_fails_while_it_is_undone_says_so(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.load(dropping(A))
    replace = xdp.replace
    calls: list[int] = []

    def once(*arguments: object) -> None:
        calls.append(1)
        if len(calls) > 1:
            raise OSError(16, "Device or resource busy")
        replace(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(xdp, "replace", once)
    monkeypatch.setattr("xdpguard.guard.targets.prepare", refuse)
    with pytest.raises(ZeroDivisionError):
        site.load(LARGE)
    assert any(line.startswith(f"warning: {site.end.dev}: not all could be undone: ") for line in site.said)
    monkeypatch.undo()
    assert site.verdicts() == {A}
    assert "a replacement of programs was interrupted: load again" in site.status().problems
    site.rollback()
    site.rollback()
    assert site.verdicts() == {A}
    assert site.status().problems == ()


def test_counts_of_a_replacement_that_died_while_it_was_undone_stay(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))

    def refuse_later(*_: object) -> list[int]:
        site.delivered(A, B)  # judged by the programs that are about to go
        raise ZeroDivisionError

    with monkeypatch.context() as patched:
        patched.setattr("xdpguard.guard.targets.prepare", refuse_later)
        patched.setattr("xdpguard.generation.slots.absorb", lambda *_: None)
        patched.setattr("xdpguard.kernel.pins.remove", lambda *_: None)
        with pytest.raises(ZeroDivisionError):
            site.load(LARGE)
    assert len(state(site.end).sets) == 2
    site.load(dropping(C))
    assert len(state(site.end).sets) == 1
    assert site.counts().ingress.seen() == Count(3, 3 * SIZE)


def test_a_refused_load_leaves_the_rules_to_go_back_to(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.load(dropping(A))
    site.load(dropping(B))
    with monkeypatch.context() as patched:
        patched.setattr("xdpguard.guard.targets.prepare", refuse)
        for text in (dropping(C), LARGE):
            with pytest.raises(ZeroDivisionError):
                site.load(text)
    assert site.verdicts() == {B}
    site.rollback()
    assert site.verdicts() == {A}


def refuse(*_: object) -> list[int]:
    raise ZeroDivisionError
