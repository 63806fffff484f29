"""A command that is killed at any of its calls: every packet is judged by all the old rules or all the new
ones, ``status`` says which and what is missing, a reboot brings back rules that were in force and confirmed,
the next command repairs it, and nothing is left behind.

A default run kills each command before its first call and after each one that others can see the effect of;
of calls that only make what dies with the process, after the first of each kind. As nothing is changed
between two calls, "before" one is "after" the one ahead of it. The soak kills on both sides of every call.
"""

from __future__ import annotations

import errno
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_calls import READS, Harm
from crash_forks import Ended, Forks
from crash_scenes import Scene, scenes
from reached import Figures
from test_lifecycle_support import Site

pytestmark = pytest.mark.usefixtures("no_leaks", "own_owners")
SCENES = scenes()
_COMMIT = "store word"
PRIVATE = frozenset({"create map", "load program", "bind map", "zero counters", "open lock", "write lock"})
"""What they make dies with the process, until another call pins, attaches or stores it."""
LIKE_A_RELOAD = frozenset({"load to confirm", "load over unconfirmed"})
"""The calls are those of "reload": only the soak goes through them again."""


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    started = Forks()
    yield started
    started.close()


def good_run(scene: Scene, forks: Forks) -> Ended:
    """The command unharmed; afterwards all is as before it."""
    scene.begin()
    scene.check(scene.old)
    good = forks.run(scene.words)
    assert (good.code, good.errors()) == (0, [])
    scene.check(scene.new)
    assert scene.comes_back() == scene.back[1]
    scene.again()
    return good


def committed(ended: Ended, good: Ended) -> bool:
    """Did it come to the store that makes the new rules live? The one before it is the preflight's."""
    return ended.calls.count(_COMMIT) == good.calls.count(_COMMIT)


def kill_at_each(scene: Scene, forks: Forks, figures: Figures, *, every: bool) -> int:
    """How many times it was killed."""
    good, done = good_run(scene, forks), 0
    for name, at in good.places():
        if name in READS or (not every and name in PRIVATE and at > 1):
            continue
        for act in ("kill before", "kill after") if every or not done else ("kill after",):
            ended = forks.run(scene.words, Harm(name, at, act))
            assert ended.code == -signal.SIGKILL or ended.calls.count(name) < at, (at, name, ended)
            scene.check(scene.new if committed(ended, good) else scene.old)
            assert scene.comes_back() in (scene.back if committed(ended, good) else scene.back[:1])
            scene.mend()
            done += 1
    figures.add("kills of a command at a call", done)
    return done


@pytest.mark.parametrize("name", [name for name in SCENES if name not in LIKE_A_RELOAD])
def test_a_command_killed_at_any_call_leaves_old_or_new_rules_and_the_next_repairs_it(
    site: Site, forks: Forks, figures: Figures, name: str
) -> None:
    assert kill_at_each(SCENES[name](site), forks, figures, every=False) > 2


@pytest.mark.soak
@pytest.mark.parametrize("name", SCENES)
def test_a_command_killed_on_either_side_of_any_call_leaves_old_or_new_rules(
    site: Site, forks: Forks, figures: Figures, name: str
) -> None:
    assert kill_at_each(SCENES[name](site), forks, figures, every=True) > 4


@pytest.mark.parametrize("act", ["kill before", "kill after", "fail"])
def test_a_load_that_cannot_keep_its_compiled_programs_is_a_load_or_leaves_nothing(
    site: Site, forks: Forks, tmp_path: Path, act: str
) -> None:
    scene = SCENES["reload"](site)
    scene.begin()
    ended = forks.run(scene.words, Harm("rename", 1, act, errno.ENOSPC), cache=tmp_path / "harmed")
    assert ended.code == (0 if act == "fail" else -signal.SIGKILL), ended
    scene.check(scene.new if act == "fail" else scene.old)
    scene.mend()
