"""The capabilities of docs/guarantees.md: with exactly those a command works, with one less it says which.

The table there is the only one. A command runs as root with the capabilities given and no other; what it
finds on the interface was made with all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from interface_state import await_state, state
from lab import Lab
from privileges import entered, knowing_container, only, published
from test_lifecycle_support import CONSOLE, TOGGLED, Done, Site, dropping, run
from test_restore_support import loaded, reboot
from test_trace_refused import cgroup, connecting, listening
from trace_command import COMMAND, Said, traced

from xdpguard.cli.commands import COMMANDS

__all__ = ["cgroup"]
pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, *_ = TOGGLED
TABLE = published()


# ---- commands that change or show an interface -------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Scene:
    """``before``: what is loaded. ``words``: the command. ``done``: did it do its work?"""

    before: Callable[[Site], None]
    words: Callable[[Site], list[str]]
    done: Callable[[Site, Done], bool]


def nothing(site: Site) -> None:
    pass


def once(site: Site) -> None:
    site.load(dropping(A))


def twice(site: Site) -> None:
    once(site)
    site.load(dropping(B))


def pending(site: Site) -> None:
    once(site)
    site.load(dropping(B), confirm=600)


def owned(site: Site) -> None:
    site.load(dropping(A), account_owners=True)


def rebooted(site: Site) -> None:
    loaded(site, dropping(B))
    reboot(site)


def words(command: str, *more: str) -> Callable[[Site], list[str]]:
    return lambda site: [command, "-i", site.end.dev, *more]


def with_rules(command: str, *more: str) -> Callable[[Site], list[str]]:
    return lambda site: [*words(command, *more)(site), str(site.write(dropping(B)))]


def in_force(*ports: int) -> Callable[[Site, Done], bool]:
    return lambda site, _: site.verdicts() == set(ports)


def shown(text: str) -> Callable[[Site, Done], bool]:
    return lambda _, said: text in said.out


SCENES = {
    "check": Scene(nothing, lambda site: ["check", str(site.write(dropping(A)))], shown(": ok, 3 ingress")),
    "load": Scene(nothing, with_rules("load"), in_force(B)),
    "load over rules in force": Scene(once, with_rules("load"), in_force(B)),
    "load --account-owners": Scene(nothing, with_rules("load", "--account-owners"), in_force(B)),
    "confirm": Scene(
        pending,
        words("confirm"),
        lambda site, _: site.status().confirm_seconds is None and in_force(B)(site, _),
    ),
    "rollback": Scene(twice, words("rollback"), in_force(A)),
    "unload": Scene(
        once, words("unload"), lambda site, _: bool(await_state(site.end, lambda now: not now.pins))
    ),
    "restore": Scene(rebooted, words("restore"), in_force(B)),
    "status": Scene(pending, words("status"), shown("xdpguard confirm")),
    "stats": Scene(once, words("stats"), shown("default (pass)")),
    "stats --by process": Scene(owned, words("stats", "--by", "process"), shown("(unknown)")),
}
TRACES = ["trace", "trace --container NAME", "trace --netns NAME", "trace --netns all"]


def done(site: Site, scene: Scene, *capabilities: str) -> Done:
    return run(*entered(site.end.name), *only(*capabilities), CONSOLE, *scene.words(site))


def beside(name: str, said: Done) -> list[str]:
    """Lines of a ``restore`` that tell what it begins, and what is open now."""
    words = (": restoring ", "xdpguard does not filter its ingress and egress")
    return [one for one in said.err.splitlines() if name == "restore" and any(each in one for each in words)]


def each_need(rows: dict[str, Scene] | list[str]) -> list[tuple[str, str]]:
    return [(name, one) for name in rows if name in TABLE for one in TABLE[name].needs]


def test_the_table_has_every_command_and_every_row_is_tried_here() -> None:
    assert {name.split()[0] for name in TABLE} == set(COMMANDS)
    assert set(TABLE) == {*SCENES, *TRACES}


@pytest.mark.parametrize("name", SCENES)
def test_with_what_it_needs_and_no_more_a_command_does_its_work(site: Site, name: str) -> None:
    scene = SCENES[name]
    scene.before(site)
    said = done(site, scene, *TABLE[name].needs)
    assert said.code == 0, said.err
    assert scene.done(site, said), said


@pytest.mark.parametrize(("name", "lacking"), each_need(SCENES))
def test_one_capability_short_a_command_names_it_and_the_host_is_as_before(
    site: Site, name: str, lacking: str
) -> None:
    scene = SCENES[name]
    scene.before(site)
    before = state(site.end)
    said = done(site, scene, *(one for one in TABLE[name].needs if one != lacking))
    line = said.refusal(3, *beside(name, said))
    assert f"needs root ({lacking})" in line
    assert line.endswith("; nothing changed")
    assert await_state(site.end, lambda now: now.sets == before.sets) == before


# ---- trace -------------------------------------------------------------------------------------------------
def tracing(name: str, ns: str, *capabilities: str) -> tuple[list[str], list[str]]:
    """(what begins the command line, options of ``trace``)."""
    place = [] if "--netns NAME" in name else entered(ns)
    begin = [*knowing_container("shop"), *place, *only(*capabilities)]
    options = name.replace("--netns NAME", f"--netns {ns}").replace("--container NAME", "--container shop")
    return begin, options.split()[1:]


@contextmanager
def traced_as(name: str, ns: str, *capabilities: str) -> Iterator[Said]:
    begin, options = tracing(name, ns, *capabilities)
    with traced(*options, command=[*begin, *COMMAND]) as said:
        yield said


@pytest.mark.parametrize("name", TRACES)
def test_with_what_it_needs_and_no_more_a_trace_tells_who_connects(lab: Lab, cgroup: Path, name: str) -> None:
    """Of containers their names too: their files belong to root."""
    ns, needs = lab.namespace("only"), TABLE[name].needs
    with listening(ns) as port, traced_as(name, ns, *needs) as said, connecting(ns, port, cgroup) as pid:
        pass
    told = [one for one in said.events if one["event"] == "connect" and one["network.peer.port"] == port]
    assert [(one["process.pid"], one["attribution"], one["container.name"]) for one in told] == [
        (pid, "exact", "shop")
    ]


@pytest.mark.parametrize(("name", "lacking"), each_need(TRACES))
def test_one_capability_short_a_trace_names_it(lab: Lab, name: str, lacking: str) -> None:
    left = (one for one in TABLE[name].needs if one != lacking)
    begin, options = tracing(name, lab.namespace("only"), *left)
    line = run(*begin, *COMMAND, *options, "--duration", "1").refusal(3)
    assert lacking in line
    assert line.endswith("; nothing changed")


@pytest.mark.parametrize("name", TRACES)
def test_what_a_trace_may_not_look_into_is_told_with_the_capability(lab: Lab, name: str) -> None:
    ns, row = lab.namespace("only"), TABLE[name]
    lab.namespace("other")
    with traced_as(name, ns, *row.needs) as said:
        pass
    assert (
        "process(es) not seen: permission denied (lacking CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH)" in said.errors
    )
    assert ("entering it needs CAP_SYS_ADMIN" in said.errors) == ("CAP_SYS_ADMIN" in row.wants)
    with traced_as(name, ns, *row.needs, *row.wants) as said:
        pass
    assert "not seen: permission denied (lacking" not in said.errors
    assert "entering it needs" not in said.errors
