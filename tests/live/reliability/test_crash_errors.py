"""A command of which one call is refused with an error that the kernel can give: it is done, or it says in
one line what went wrong and in what state the host is, and that is so; the next command finds nothing in
its way.

A default run takes one call of each kind in each command, with the errors of the kind in turn. The soak
takes every call with every error.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from crash_calls import ERRNOS, Harm, number_of
from crash_forks import Ended, Forks
from crash_scenes import Scene, scenes
from interface_state import State, await_state, state
from reached import Figures
from test_crash import LIKE_A_RELOAD, good_run
from test_lifecycle_support import Site

pytestmark = pytest.mark.usefixtures("no_leaks", "own_owners")
SCENES = scenes()
REFUSED = "calls of a command refused with an error"


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    started = Forks()
    yield started
    started.close()


def check(scene: Scene, ended: Ended, before: State) -> None:
    """What the command said is what there is."""
    assert "Traceback" not in ended.err
    if ended.code == 0:
        assert ended.errors() == []
        scene.check(scene.new)
        assert scene.comes_back() == scene.back[1] or "`xdpguard restore`" in ended.err
        return
    assert len(ended.errors()) == 1
    line = ended.errors()[0]
    assert scene.comes_back() in scene.back
    if "the new rules are live" in line:
        scene.check(scene.new)
    elif line.endswith("nothing changed"):
        scene.check(scene.old)
        assert scene.comes_back() == scene.back[0]
        await_state(scene.site.end, lambda found: found == before)
    else:  # it claims nothing, or points to `xdpguard status`
        scene.check(scene.old if scene.look().whole(scene.old) else scene.new)


def refuse(scene: Scene, forks: Forks, name: str, at: int, error: str) -> None:
    before = state(scene.site.end)
    ended = forks.run(scene.words, Harm(name, at, "fail", number_of(error)))
    try:
        check(scene, ended, before)
        scene.mend()
    except AssertionError as failed:
        raise AssertionError(f"{name} {at} with {error}: {ended.err}") from failed


def sampled(good: Ended, shift: int) -> Iterator[tuple[str, int, str]]:
    """One call of each kind, and one of the kind's errors."""
    for number, name in enumerate(sorted(set(good.calls) & set(ERRNOS)), shift):
        yield name, number % good.calls.count(name) + 1, ERRNOS[name][number % len(ERRNOS[name])]


@pytest.mark.parametrize("name", [name for name in SCENES if name not in LIKE_A_RELOAD])
def test_a_refused_call_is_told_in_a_line_that_is_true(
    site: Site, forks: Forks, figures: Figures, name: str
) -> None:
    scene = SCENES[name](site)
    good = good_run(scene, forks)
    for called, at, error in sampled(good, shift=list(SCENES).index(name)):
        refuse(scene, forks, called, at, error)
        figures.add(REFUSED)


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENES)
def test_any_call_refused_with_any_error_is_told_in_a_line_that_is_true(
    site: Site, forks: Forks, figures: Figures, name: str
) -> None:
    scene = SCENES[name](site)
    good = good_run(scene, forks)
    wrong = []
    for called, at in good.places():
        for error in ERRNOS.get(called, ()):
            figures.add(REFUSED)
            try:
                refuse(scene, forks, called, at, error)
            except AssertionError as failed:  # the whole matrix is told, not its first hole
                wrong.append(str(failed))
                scene.again()
    assert not wrong, "\n".join(wrong)
