"""Redirect targets that go, come back or are replaced: a frame goes to the interface that the rules meant or
nowhere, ``status`` tells it, and the pass-only program stays exactly as long as somebody redirects there.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

import lab as network
import pytest
from lab import End, Lab, inside
from test_lifecycle_support import LAST, TOGGLED, Site, dropping, frame, patched, port_of
from test_status import delete_pins
from test_status_leftovers import make_older

from xdpguard.guard import targets
from xdpguard.kernel import features, link
from xdpguard.kernel.discover import Found, examined
from xdpguard.stats.model import Count

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED
WAYS = {"ingress": C, "egress": D}
RULES = """version: 1
ingress: [{{name: in, proto: udp, dport: 1002, action: {{redirect: {{interface: {0}}}}}}}]
egress: [{{name: out, proto: udp, dport: 1003, action: {{redirect: {{interface: {0}}}}}}}]
"""
HELPED = (
    "version: 1\ningress: [{{name: in, proto: udp, dport: 1002, action: {{redirect: {{interface: {}}}}}}}]\n"
)
OLD_KERNEL = "import xdpguard.kernel.features as f; f.xdp_features = lambda _: None\n"
MEANWHILE = "the redirect target {} (index {}) was gone meanwhile: its packets are dropped: load again"
GONE = "the redirect target {} (index {}) is gone: its packets are dropped"


@dataclass(frozen=True, slots=True)
class Target:
    """A device of the server that rules redirect to, and its peer."""

    end: End
    peer: End


@pytest.fixture
def target(site: Site, lab: Lab) -> Target:
    pair = lab.veth(client=site.end.name, ipv6=False)
    return Target(pair.client, pair.server)


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot say what a device can do, so that every target gets a helper."""
    monkeypatch.setattr(features, "xdp_features", lambda _: None)


def redirected(site: Site, to: Target, hook: str) -> list[int]:
    """The ports of frames that a redirect of the hook takes to that device's peer."""
    sender = site.peer if hook == "ingress" else site.end
    with network.capture(to.peer.name, to.peer.dev) as seen:
        network.send(sender.name, sender.dev, [frame(WAYS[hook])])
        network.send(to.end.name, to.end.dev, [frame(LAST)])
        return [port_of(data) for data in seen.until(frame(LAST))]


def both(site: Site, to: Target) -> list[int]:
    return redirected(site, to, "ingress") + redirected(site, to, "egress")


def another(lab: Lab, end: End) -> Target:
    """Another interface where that one was, of its index."""
    far = lab.namespace("far")
    commands = (
        f"ip link add zz0 index {end.ifindex} type veth peer name zz1 netns {far}",
        "ip link set zz0 up",
    )
    for command in commands:
        network.run(end.name, *command.split())
    network.run(far, "ip", "link", "set", "zz1", "up")
    inside(end.name, network._await_up, "zz0")
    return Target(replace(end, dev="zz0"), replace(end, name=far, dev="zz1"))


def there_and_back(lab: Lab, end: End) -> None:
    other = lab.namespace("other")
    network.run(end.name, "ip", "link", "set", end.dev, "netns", other)
    network.run(other, "ip", "link", "set", end.dev, "netns", end.name)
    network.run(end.name, "ip", "link", "set", end.dev, "up")
    inside(end.name, network._await_up, end.dev)


@contextmanager
def found(site: Site) -> Iterator[Found]:
    with examined(link.find(site.end.dev)) as one:
        yield one


def allow_again(site: Site) -> None:
    def again() -> None:
        with found(site) as one:
            targets.allow_again(one)

    inside(site.end.name, again)


def allowed(site: Site) -> set[int]:
    def ask() -> set[int]:
        with found(site) as one:
            assert one.current is not None
            return targets.allowed(one.current)

    return inside(site.end.name, ask)


def helper(end: End) -> int | None:
    def ask() -> int | None:
        one = link.by_index(end.ifindex)
        assert one is not None
        return targets.helper_of(one)

    return inside(end.name, ask)


def beside(site: Site, lab: Lab) -> Site:
    """Another interface of the same namespace, to be loaded."""
    return Site.of(lab.veth(client=site.peer.name, server=site.end.name, ipv6=False), site.folder)


# ---- frames ---------------------------------------------------------------------------------------------
def test_no_frame_goes_to_another_interface_that_got_the_index_of_a_target(
    site: Site, lab: Lab, target: Target
) -> None:
    site.load(RULES.format(target.end.dev), mode="generic")
    assert both(site, target) == [C, D]
    network.run(target.end.name, "ip", "link", "del", target.end.dev)
    wrong = another(lab, target.end)
    assert both(site, wrong) == []
    counts = site.counts()
    for side in (counts.ingress, counts.egress):
        assert side.actions["redirect"] == side.actions["aborted"] == Count(1, len(frame(C)))
    problem = MEANWHILE.format(target.end.dev, target.end.ifindex)
    assert (site.status().problems, site.console("status").code) == ((problem,), 5)


def test_a_target_that_went_away_and_came_back_is_told_and_the_next_load_redirects_there(
    site: Site, lab: Lab, target: Target
) -> None:
    site.load(RULES.format(target.end.dev), mode="generic")
    there_and_back(lab, target.end)
    assert both(site, target) == []
    problem = MEANWHILE.format(target.end.dev, target.end.ifindex)
    assert (site.status().problems, site.console("status").code) == ((problem,), 5)
    site.load(RULES.format(target.end.dev), mode="generic")
    assert (both(site, target), site.status().problems) == ([C, D], ())


def test_a_target_that_came_back_gets_frames_of_the_rules_before_too_once_it_is_allowed_again(
    site: Site, lab: Lab, target: Target
) -> None:
    site.load(RULES.format(target.end.dev), mode="generic")
    site.load(dropping(A))
    there_and_back(lab, target.end)
    allow_again(site)
    site.rollback()
    assert (both(site, target), site.status().problems) == ([C, D], ())


def test_an_interface_of_another_name_is_not_allowed_for_a_target_whose_index_it_got(
    site: Site, lab: Lab, target: Target
) -> None:
    site.load(RULES.format(target.end.dev), mode="generic")
    network.run(target.end.name, "ip", "link", "del", target.end.dev)
    wrong = another(lab, target.end)
    allow_again(site)
    assert (allowed(site), both(site, wrong)) == (set(), [])


def test_larger_maps_take_no_interface_over_that_got_the_index_of_a_target(
    site: Site, lab: Lab, target: Target
) -> None:
    site.load(RULES.format(target.end.dev), mode="generic")
    network.run(target.end.name, "ip", "link", "del", target.end.dev)
    wrong = another(lab, target.end)
    site.load(dropping(A, filler=500))
    site.rollback()
    assert both(site, wrong) == []
    assert site.status().problems == (MEANWHILE.format(target.end.dev, target.end.ifindex),)


def test_rules_from_before_a_move_redirect_to_no_interface_of_the_new_namespace(
    site: Site, lab: Lab, target: Target
) -> None:
    site.load(RULES.format(target.end.dev), mode="generic")
    elsewhere = lab.namespace("elsewhere")
    network.run(site.end.name, "ip", "link", "set", site.end.dev, "netns", elsewhere)
    network.run(elsewhere, "ip", "link", "set", site.end.dev, "up")
    inside(elsewhere, network._await_up, site.end.dev)
    moved = replace(site, end=replace(site.end, name=elsewhere))
    wrong = another(lab, replace(target.end, name=elsewhere))
    moved.load(dropping(A))
    moved.rollback()
    assert both(moved, wrong) == []
    assert moved.status().problems == (MEANWHILE.format(target.end.dev, target.end.ifindex),)
    moved.unload()
    other = beside(site, lab)
    other.load(dropping(A))  # takes the pins of the former namespace away
    other.unload()


def test_a_load_that_is_taken_back_leaves_the_device_map_as_it_was(
    site: Site, lab: Lab, target: Target, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = lab.veth(client=site.peer.name, server=site.end.name, ipv6=False).server
    site.load(RULES.format(target.end.dev), mode="generic")
    monkeypatch.setattr("xdpguard.guard.stage._warn_offload", refuse)
    with pytest.raises(ZeroDivisionError):
        site.load(RULES.format(other.dev))
    with pytest.raises(ZeroDivisionError):
        site.load(RULES.format(target.end.dev))
    assert allowed(site) == {target.end.ifindex}


def refuse(*_: object) -> None:
    raise ZeroDivisionError


# ---- helpers --------------------------------------------------------------------------------------------
KILLED = (
    "import os; from xdpguard.guard import accounting; accounting.tidy = lambda *_: os.kill(os.getpid(), 9)"
)


@pytest.mark.usefixtures("old_kernel")
def test_a_helper_that_a_killed_load_no_longer_needed_goes_with_the_next_load(
    site: Site, target: Target
) -> None:
    site.load(HELPED.format(target.end.dev))
    site.load(dropping(A))
    killed = patched(OLD_KERNEL + KILLED, site.words("load", site.write(dropping(B))))
    assert (killed.code, helper(target.end) is None) == (-9, False)
    site.load(dropping(C))
    assert (helper(target.end), allowed(site)) == (None, set())
    assert f"{target.end.dev}: removed the pass-only XDP program" in site.said


@pytest.mark.usefixtures("old_kernel")
def test_a_helper_stays_while_rules_of_another_version_redirect_there(
    site: Site, lab: Lab, target: Target
) -> None:
    other = beside(site, lab)
    for one in (site, other):
        one.load(HELPED.format(target.end.dev))
    make_older(site)
    other.unload()
    assert helper(target.end) is not None


@pytest.mark.usefixtures("old_kernel")
def test_a_load_over_rules_of_another_version_removes_the_helper_that_only_they_needed(
    site: Site, target: Target
) -> None:
    site.load(HELPED.format(target.end.dev))
    make_older(site)
    site.load(dropping(A))
    assert helper(target.end) is None


@pytest.mark.usefixtures("old_kernel")
def test_what_another_version_redirects_to_is_known(site: Site, target: Target) -> None:
    site.load(HELPED.format(target.end.dev))
    make_older(site)

    def ask() -> set[int]:
        with found(site) as one:
            assert one.current is not None
            return set(targets.used(one.current).values())

    assert inside(site.end.name, ask) == {target.end.ifindex}


@pytest.mark.usefixtures("old_kernel")
def test_a_helper_stays_while_rules_are_in_force_whose_pins_are_out_of_sight(
    site: Site, lab: Lab, target: Target
) -> None:
    other = beside(site, lab)
    for one in (site, other):
        one.load(HELPED.format(target.end.dev))
    delete_pins(site)  # as in a mount namespace that has another bpf file system
    other.load(dropping(A))
    other.load(dropping(B))
    assert (allowed(other), helper(target.end) is None) == (set(), False)
    other.unload()
    assert helper(target.end) is not None
    site.unload()
    assert helper(target.end) is None
