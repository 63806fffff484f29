"""One command on several interfaces: all change or none; and interfaces that vanish."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import Lab, Veth
from test_lifecycle_support import CONSOLE, TOGGLED, Site, dropping, run

from xdpguard.errors import KernelError, NotLoadedError
from xdpguard.generation import compiled
from xdpguard.guard import attach, confirmed, verbs
from xdpguard.guard.load import load
from xdpguard.guard.stage import Staged
from xdpguard.kernel.discover import Found
from xdpguard.rules.parse import parse

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED


@pytest.fixture
def two(site: Site, lab: Lab, tmp_path: Path) -> Iterator[tuple[Site, Site]]:
    pair = lab.veth(server=site.end.name, ipv6=False)
    other = Site.of(pair, tmp_path)
    yield site, other
    try:
        other.unload()
    except NotLoadedError:
        pass  # the test unloaded


def both(two: tuple[Site, Site], command: str, *arguments: object) -> list[object]:
    return [CONSOLE, *two[0].words(command, "-i", two[1].end.dev, *arguments)]


def test_one_command_loads_rolls_back_and_unloads_two_interfaces(two: tuple[Site, Site]) -> None:
    for port in (A, B):
        assert run(*both(two, "load", two[0].write(dropping(port)))).code == 0
        assert [one.verdicts() for one in two] == [{port}] * 2
    assert run(*both(two, "rollback")).code == 0
    assert [one.verdicts() for one in two] == [{A}] * 2
    assert run(*both(two, "unload")).code == 0
    for one in two:
        await_state(one.end, lambda found: found == CLEAN)


@pytest.mark.parametrize("command", ["confirm", "rollback"])
def test_all_interfaces_are_switched_before_anything_else_is_done(
    two: tuple[Site, Site], command: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is kept for a reboot takes the disk's time, in which a deadline may pass."""
    for port in (A, B):
        for one in two:
            one.load(dropping(port), confirm=600 if port == B else None)
    seen = []
    note = confirmed.note

    def noted(*of: Any, **more: Any) -> None:
        words = [state(one.end).word for one in two]
        seen.append([word is not None and (bool(word.deadline_ms), word.active) for word in words])
        note(*of, **more)

    monkeypatch.setattr(confirmed, "note", noted)
    getattr(verbs, command)([one.end.dev for one in two], two[0].end.name, two[0].said.append)
    assert seen[-2][0] == seen[-2][1]
    assert seen[-2:] == [seen[-1]] * 2
    assert seen[-1] != seen[0]


def test_a_load_that_one_interface_refuses_changes_neither(two: tuple[Site, Site]) -> None:
    first, second = two
    first.load(dropping(A))
    network.run(second.end.name, *f"tc qdisc add dev {second.end.dev} clsact".split())
    earlier = f"tc filter add dev {second.end.dev} egress prio 3 protocol ip u32 match u32 0 0 flowid 1:1"
    network.run(second.end.name, *earlier.split())
    before = state(first.end), state(second.end)
    line = run(*both(two, "load", first.write(dropping(B)))).refusal(5)
    assert f"another TC egress filter (kind u32, priority 3) is on {second.end.dev}" in line
    assert line.endswith("nothing changed")
    assert (state(first.end), state(second.end)) == before
    assert first.verdicts() == {A}


@pytest.mark.parametrize("command", ["confirm", "rollback", "unload"])
def test_a_command_that_one_interface_refuses_changes_neither(two: tuple[Site, Site], command: str) -> None:
    first, second = two
    first.load(dropping(A), confirm=600)
    if command != "unload":
        second.load(dropping(A), confirm=1)
        second.await_fallback(set())
    before = state(first.end)
    code = 4 if command == "unload" else 7
    done = run(*both(two, command))
    assert (done.code, done.err.count("error: ")) == (code, 1), done.err
    assert state(first.end) == before


def test_an_unload_that_fails_on_one_interface_goes_on_with_the_others_and_says_both(
    two: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    for one in two:
        one.load(dropping(A))

    def refuse(found: Found) -> None:
        if found.link.name == first.end.dev:
            raise OSError(errno.EROFS, "Read-only file system")
        remove(found)

    remove = attach.remove
    with monkeypatch.context() as patched:
        patched.setattr(attach, "remove", refuse)
        with pytest.raises(KernelError, match=f"the unload of {first.end.dev} stopped half way"):
            verbs.unload([first.end.dev, second.end.dev], first.end.name, first.said.append)
    assert first.said[-1] == f"{second.end.dev}: unloaded; nothing is filtered there any more"
    await_state(second.end, lambda found: found == CLEAN)


def test_two_names_of_one_interface_are_refused(site: Site) -> None:
    dev = site.end.dev
    network.run(site.end.name, *f"ip link property add dev {dev} altname other".split())
    line = site.console("load", "-i", "other", site.write(dropping(A))).refusal(2)
    assert f"{dev} and other are one interface ({dev}); name it once; nothing changed" in line
    assert state(site.end) == CLEAN


def test_an_interface_that_vanishes_after_the_store_is_told_and_forgotten(
    two: tuple[Site, Site], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = two
    finish = Staged.finish

    def vanish(staged: Staged) -> None:
        if staged.found.link.ifindex == second.end.ifindex:
            network.run(second.end.name, "ip", "link", "del", second.end.dev)
        finish(staged)

    monkeypatch.setattr(Staged, "finish", vanish)
    ruleset = parse(dropping(A).encode(), "rules.yaml", first.folder)
    with pytest.raises(NotLoadedError, match="vanished during the load; the others carry the new rules"):
        load(
            [first.end.dev, second.end.dev], compiled.of(ruleset), mode="auto", netns=first.end.name,
            confirm=None, force=False, say=first.said.append, verbose=False,
        )  # fmt: skip
    assert first.verdicts() == {A}
    await_state(second.end, lambda found: found == CLEAN)


def test_pins_of_an_interface_that_is_gone_go_with_the_next_command(two: tuple[Site, Site]) -> None:
    first, second = two
    second.load(dropping(A))
    network.run(second.end.name, "ip", "link", "del", second.end.dev)
    assert state(second.end).pins
    first.load(dropping(A))
    await_state(second.end, lambda found: found == CLEAN)
    assert any("index" in line and "gone" in line for line in first.said)


def test_the_same_interface_in_two_namespaces_has_rules_of_its_own(lab: Lab, tmp_path: Path) -> None:
    sites = [Site.of(lab.veth(ipv6=False), tmp_path), Site.of(reverse(lab.veth(ipv6=False)), tmp_path)]
    assert sites[0].end.ifindex == sites[1].end.ifindex
    for one, port in zip(sites, (A, B), strict=True):
        one.load(dropping(port))
    assert [one.verdicts() for one in sites] == [{A}, {B}]
    for one in sites:
        one.unload()


def reverse(pair: Veth) -> Veth:
    return Veth(pair.server, pair.client)
