"""The pass-only program on redirect targets: attached where a native target needs it, shown, removed with its
last user.

A veth takes redirected frames when its *peer* has an XDP program, and the kernel says so: no helper helps.
So in most tests the kernel is made to say nothing, as before Linux 6.3, and then a helper is attached.
"""

from __future__ import annotations

from collections.abc import Callable

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import End, Lab, inside
from test_lifecycle_support import TOGGLED, Site, dropping, frame

from xdpguard.errors import PreflightError, UsageError
from xdpguard.guard import targets
from xdpguard.kernel import bpf, features, link, objects, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED
AWAY = "{{name: away, proto: udp, dport: 1003, action: {{redirect: {{interface: {}}}}}}}"
Program = Callable[..., int]


@pytest.fixture
def target(site: Site, lab: Lab) -> tuple[End, End]:
    """A second device of the server, and its peer."""
    pair = lab.veth(client=site.end.name, ipv6=False)
    return pair.client, pair.server


@pytest.fixture
def old_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that cannot say what a device can do."""
    monkeypatch.setattr(features, "xdp_features", lambda _: None)


def redirecting(device: str) -> str:
    return dropping(A, more=AWAY.format(device))


def helper(end: End) -> int | None:
    found = inside(end.name, link.by_index, end.ifindex)
    assert found is not None
    return inside(end.name, targets.helper_of, found)


def test_a_target_that_takes_frames_needs_no_helper(
    site: Site, target: tuple[End, End], program: Program
) -> None:
    end, peer = target
    inside(peer.name, xdp.attach, peer.ifindex, program(bpf.PROG_XDP), "native")
    site.load(redirecting(end.dev))
    assert helper(end) is None
    assert site.status().helpers == ()
    with network.capture(peer.name, peer.dev) as seen:
        network.send(site.peer.name, site.peer.dev, [frame(D)])
        assert len(seen.wait(frame(D)[14:])) == 1


@pytest.mark.usefixtures("old_kernel")
def test_a_helper_is_attached_told_shown_and_removed_with_unload(
    site: Site, target: tuple[End, End], program: Program
) -> None:
    end, peer = target
    inside(peer.name, xdp.attach, peer.ifindex, program(bpf.PROG_XDP), "native")
    site.load(redirecting(end.dev))
    assert helper(end) is not None
    assert f"{end.dev}: attached a pass-only XDP program, so that it takes redirected frames" in site.said
    assert any("this kernel does not tell whether" in line for line in site.said)
    assert site.status().helpers == (end.dev,)
    with network.capture(peer.name, peer.dev) as seen:
        network.send(site.peer.name, site.peer.dev, [frame(D)])
        assert len(seen.wait(frame(D)[14:])) == 1
    site.unload()
    assert helper(end) is None
    assert f"{end.dev}: removed the pass-only XDP program" in site.said
    await_state(site.end, lambda found: found == CLEAN)


@pytest.mark.usefixtures("old_kernel")
def test_a_helper_stays_while_a_rollback_may_need_it_and_goes_with_the_next_load(
    site: Site, target: tuple[End, End]
) -> None:
    end, _ = target
    site.load(redirecting(end.dev))
    first = helper(end)
    site.load(dropping(B))
    assert helper(end) == first
    site.rollback()
    site.rollback()
    assert helper(end) == first
    site.load(dropping(C))
    assert helper(end) is None
    assert site.status().helpers == ()


@pytest.mark.usefixtures("old_kernel")
def test_a_helper_with_two_users_goes_with_the_last(site: Site, lab: Lab, target: tuple[End, End]) -> None:
    end, _ = target
    other = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    for one in (site, other):
        one.load(redirecting(end.dev))
    site.unload()
    assert helper(end) is not None
    assert other.status().helpers == (end.dev,)
    other.unload()
    assert helper(end) is None


@pytest.mark.usefixtures("old_kernel")
def test_a_refused_load_takes_its_helper_along(
    site: Site, target: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    end, _ = target
    monkeypatch.setattr("xdpguard.guard.stage._warn_offload", refuse)
    with pytest.raises(ZeroDivisionError):
        site.load(redirecting(end.dev))
    assert helper(end) is None
    await_state(site.end, lambda found: found == CLEAN)


def refuse(*_: object) -> None:
    raise ZeroDivisionError


@pytest.mark.usefixtures("old_kernel")
def test_a_target_with_a_program_of_its_own_gets_no_helper(
    site: Site, target: tuple[End, End], program: Program
) -> None:
    end, _ = target
    fd = program(bpf.PROG_XDP)
    inside(end.name, xdp.attach, end.ifindex, fd, "native")
    site.load(redirecting(end.dev))
    site.unload()
    found = inside(end.name, link.by_index, end.ifindex)
    assert found is not None
    assert [one.program for one in found.xdp] == [objects.prog_info(fd).id]


@pytest.mark.usefixtures("old_kernel")
def test_a_target_that_is_loaded_itself_swaps_its_helper_and_gets_it_back(
    site: Site, lab: Lab, target: tuple[End, End]
) -> None:
    end, peer = target
    site.load(redirecting(end.dev))
    inner = Site(end, peer, site.folder)
    with pytest.raises(UsageError, match=r"has our pass-only program in native mode.*nothing changed"):
        inner.load(dropping(B), mode="generic")
    inner.load(dropping(B))
    assert helper(end) is None
    assert inner.verdicts() == {B}
    assert site.status().problems == inner.status().problems == ()
    inner.unload()
    assert helper(end) is not None
    assert not state(end).filters
    site.unload()
    assert helper(end) is None


def test_a_helper_that_does_not_help_is_removed_and_the_target_refused(
    site: Site, target: tuple[End, End]
) -> None:
    end, _ = target
    with pytest.raises(
        PreflightError, match=f"{end.dev} cannot take frames from native XDP; a veth can once"
    ):
        site.load(redirecting(end.dev))
    assert helper(end) is None
    assert not any("attached a pass-only" in line for line in site.said)
    await_state(site.end, lambda found: found == CLEAN)


def test_generic_mode_needs_no_helper(site: Site, target: tuple[End, End]) -> None:
    end, peer = target
    site.load(redirecting(end.dev), mode="generic")
    assert helper(end) is None
    with network.capture(peer.name, peer.dev) as seen:
        network.send(site.peer.name, site.peer.dev, [frame(D)])
        assert len(seen.wait(frame(D)[14:])) == 1


@pytest.mark.usefixtures("old_kernel")
def test_a_target_that_is_gone_is_told_while_rules_name_it(site: Site, target: tuple[End, End]) -> None:
    end, _ = target
    site.load(redirecting(end.dev))
    network.run(end.name, "ip", "link", "del", end.dev)
    gone = f"the redirect target {end.dev} (index {end.ifindex}) is gone: its packets are dropped"
    assert site.status().problems == (gone,)
    site.load(dropping(B, filler=500))  # larger maps, which take over the generation that names it
    assert site.verdicts() == {B}
    assert site.status().problems == ()
    site.rollback()
    assert site.status().problems == (gone,)


@pytest.mark.usefixtures("old_kernel")
def test_the_helper_of_an_interface_that_is_gone_goes_with_its_pins(
    site: Site, lab: Lab, target: tuple[End, End]
) -> None:
    end, _ = target
    other = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    other.load(redirecting(end.dev))
    network.run(other.end.name, "ip", "link", "del", other.end.dev)
    site.load(dropping(A))
    assert helper(end) is None
