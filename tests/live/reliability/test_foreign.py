"""Foreign hands with the usual tools (ip, tc, rm) on an interface that is loaded: ``status`` says exactly
what is no longer protected and ends with a code that is not 0; the next ``load`` repairs it.

What is done by bpf(2) and netlink directly is in test_status.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import lab as network
import pytest
from crash_scenes import Verdicts, verdicts
from interface_state import CLEAN, await_state, state
from lab import End, Lab, inside
from test_lifecycle_support import CONSOLE, TOGGLED, Site, dropping, run

from xdpguard.kernel import link

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, _ = TOGGLED
NO_XDP = "ingress is not filtered: our XDP program is no longer attached to {dev}"
NO_TC = "egress is not filtered: our TC filter is no longer on {dev}"


def by(command: str) -> Callable[[Site], None]:
    """A command of the administrator's, on the interface."""

    def act(site: Site) -> None:
        network.run(site.end.name, *command.format(dev=site.end.dev).split())

    return act


def ingress_instead(site: Site) -> None:
    by("tc qdisc del dev {dev} clsact")(site)
    by("tc qdisc add dev {dev} ingress")(site)


def stop_and_start(site: Site) -> None:
    by("ip link set {dev} down")(site)
    by("ip link set {dev} up")(site)


def told(site: Site) -> tuple[int, list[str]]:
    """The exit code of ``status``, and the problems that it tells."""
    shown = site.console("status", "--format", "json")
    assert "Traceback" not in shown.err
    (document,) = json.loads(shown.out)["interfaces"]
    assert document["protected"] == (not document["problems"])
    return shown.code, document["problems"]


def everywhere(site: Site) -> tuple[int, list[tuple[str, list[str]]]]:
    """The same of a ``status`` of the whole namespace, by interface."""
    shown = run(CONSOLE, "status", "--netns", site.end.name, "--format", "json")
    return shown.code, [(one["interface"], one["problems"]) for one in json.loads(shown.out)["interfaces"]]


HARM: dict[str, tuple[str, Callable[[Site], None], list[str], Verdicts]] = {
    "ip link set xdp off": ("native", by("ip link set {dev} xdp off"), [NO_XDP], Verdicts(None, {A})),
    "ip link set xdpgeneric off": (
        "generic", by("ip link set {dev} xdpgeneric off"), [NO_XDP], Verdicts(None, {A}),
    ),
    "tc filter del": ("native", by("tc filter del dev {dev} egress prio 16"), [NO_TC], Verdicts({A}, None)),
    "tc qdisc del": ("generic", by("tc qdisc del dev {dev} clsact"), [NO_TC], Verdicts({A}, None)),
    "down and up": ("native", stop_and_start, [], Verdicts({A}, {A})),
}  # fmt: skip


@pytest.mark.parametrize("case", HARM)
def test_what_an_administrator_took_off_is_told_hook_by_hook_and_put_back_by_the_next_load(
    site: Site, case: str
) -> None:
    mode, harm, problems, left = HARM[case]
    site.load(dropping(A), mode=mode)
    before = state(site.end)
    harm(site)
    assert verdicts(site.end) == left
    assert told(site) == (5 if problems else 0, [text.format(dev=site.end.dev) for text in problems])
    assert site.console("load", site.write(dropping(B))).code == 0
    assert verdicts(site.end) == Verdicts({B}, {B})
    assert told(site) == (0, [])
    after = state(site.end)
    assert (after.pins, after.sets, [one.mode for one in after.xdp]) == (before.pins, before.sets, [mode])
    site.unload()
    await_state(site.end, lambda found: found == CLEAN)


def test_an_ingress_qdisc_in_the_place_of_ours_is_told_and_named_by_load_until_it_is_gone(site: Site) -> None:
    site.load(dropping(A))
    before = state(site.end)
    ingress_instead(site)
    assert told(site) == (5, [NO_TC.format(dev=site.end.dev)])
    line = site.console("load", site.write(dropping(B))).refusal(5)
    assert "a qdisc of kind ingress is in its place" in line
    assert verdicts(site.end) == Verdicts({A}, None)
    by("tc qdisc del dev {dev} ingress")(site)
    site.load(dropping(B))
    assert verdicts(site.end) == Verdicts({B}, {B})
    assert (told(site), state(site.end).clsact) == ((0, []), before.clsact)


# --- interfaces that change -------------------------------------------------------------------------------


def again(site: Site, *, index: int = 0) -> Site:
    """The interface deleted and made anew under its name; ``index``: with this number."""
    end, peer = site.end, site.peer
    network.run(end.name, "ip", "link", "del", end.dev)
    number = f"index {index}" if index else ""
    network.run(
        end.name, *f"ip link add {end.dev} {number} type veth peer name {peer.dev} netns {peer.name}".split()
    )
    network.run(end.name, "ip", "link", "set", end.dev, "up")
    network.run(peer.name, "ip", "link", "set", peer.dev, "up")
    return replace(site, end=numbered(end), peer=numbered(peer))


def numbered(end: End) -> End:
    return replace(end, ifindex=inside(end.name, link.find, end.dev).ifindex)


def test_a_renamed_interface_stays_protected_under_its_new_name(site: Site) -> None:
    site.load(dropping(A))
    before = state(site.end)
    for command in ("ip link set {dev} down", "ip link set {dev} name wan0", "ip link set wan0 up"):
        by(command)(site)
    assert "no such interface: s0" in site.console("status").refusal(4)
    renamed = replace(site, end=replace(site.end, dev="wan0"))
    assert told(renamed) == (0, [])
    assert verdicts(renamed.end) == Verdicts({A}, {A})
    renamed.load(dropping(B))
    assert verdicts(renamed.end) == Verdicts({B}, {B})
    assert (state(renamed.end).pins, state(renamed.end).sets) == (before.pins, before.sets)
    renamed.unload()
    await_state(renamed.end, lambda found: found == CLEAN)


def test_an_interface_that_takes_the_name_of_a_protected_one_is_not_taken_for_it(
    site: Site, lab: Lab
) -> None:
    other = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    site.load(dropping(A))
    for dev, name in ((site.end.dev, "old0"), (other.end.dev, site.end.dev)):
        for command in (
            f"ip link set {dev} down",
            f"ip link set {dev} name {name}",
            f"ip link set {name} up",
        ):
            network.run(site.end.name, *command.split())
    assert f"{site.end.dev}: xdpguard is not loaded there" in site.console("status").refusal(4)
    shown = run(CONSOLE, "status", "--netns", site.end.name, "--format", "json")
    assert [one["interface"] for one in json.loads(shown.out)["interfaces"]] == ["old0"]
    swapped = replace(site, end=replace(other.end, dev=site.end.dev))
    swapped.load(dropping(B))
    assert (verdicts(site.end), verdicts(other.end)) == (Verdicts({A}, {A}), Verdicts({B}, {B}))
    swapped.unload()
    replace(site, end=replace(site.end, dev="old0")).unload()


def test_a_new_interface_of_the_same_name_is_told_as_not_loaded_and_load_protects_it(site: Site) -> None:
    site.load(dropping(A))
    former = state(site.end).pins
    new = again(site, index=site.end.ifindex + 40)
    assert verdicts(new.end) == Verdicts(None, None)
    before = f"{new.end.dev} before (index {site.end.ifindex}), which is gone: load again, or unload"
    assert everywhere(new) == (5, [(new.end.dev, [f"nothing is filtered: what was loaded was the {before}"])])
    line = new.console("status").refusal(4)
    assert f"{new.end.dev}: xdpguard is not loaded there, but on the interface of that name before" in line
    assert new.console("load", new.write(dropping(B))).code == 0
    assert (told(new), verdicts(new.end)) == ((0, []), Verdicts({B}, {B}))
    assert everywhere(new) == (0, [(new.end.dev, [])])
    assert not any(Path(pin).exists() for pin in former)
    new.unload()
    await_state(new.end, lambda found: found == CLEAN)


def test_what_is_left_of_the_interface_of_that_name_before_goes_with_an_unload(site: Site) -> None:
    site.load(dropping(A))
    former = state(site.end).pins
    new = again(site, index=site.end.ifindex + 40)
    assert everywhere(new)[0] == 5
    assert "xdpguard is not loaded there" in new.console("unload").err
    assert not any(Path(pin).exists() for pin in former)
    assert everywhere(new) == (0, [])


def test_a_load_elsewhere_does_not_silence_what_is_told_of_an_interface_made_anew(
    site: Site, lab: Lab
) -> None:
    other = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    site.load(dropping(A))
    new = again(site, index=site.end.ifindex + 40)
    other.load(dropping(B))
    other.unload()
    assert everywhere(new)[0] == 5
    new.load(dropping(B))
    assert everywhere(new)[0] == 0
    new.unload()


def test_an_interface_that_is_gone_and_has_no_successor_is_not_told(site: Site, lab: Lab) -> None:
    site.load(dropping(A))
    network.run(site.end.name, "ip", "link", "del", site.end.dev)
    assert everywhere(site) == (0, [])
    other = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    assert everywhere(site) == (0, [])
    other.load(dropping(B))
    other.unload()  # which sweeps what the first one left


def test_the_successor_of_a_renamed_interface_is_told_by_the_name_at_its_last_load(site: Site) -> None:
    site.load(dropping(A))
    for command in ("ip link set {dev} down", "ip link set {dev} name wan0", "ip link set wan0 up"):
        by(command)(site)
    renamed = replace(site, end=replace(site.end, dev="wan0"))
    renamed.load(dropping(B))
    new = again(renamed, index=site.end.ifindex + 40)
    assert [name for name, _ in everywhere(new)[1]] == ["wan0"]
    new.load(dropping(C))
    new.unload()


def test_a_new_interface_of_the_same_name_and_index_is_told_as_not_filtered(site: Site) -> None:
    site.load(dropping(A))
    site.delivered(A)
    new = again(site, index=site.end.ifindex)
    assert verdicts(new.end) == Verdicts(None, None)
    code, problems = told(new)
    assert (code, problems) == (5, [text.format(dev=new.end.dev) for text in (NO_XDP, NO_TC)])
    assert new.console("load", new.write(dropping(B))).code == 0
    assert (told(new), verdicts(new.end)) == ((0, []), Verdicts({B}, {B}))
    assert len(state(new.end).sets) == 1
    new.unload()
    await_state(new.end, lambda found: found == CLEAN)


def test_what_an_interface_lost_on_its_way_to_another_namespace_is_told_there(site: Site, lab: Lab) -> None:
    site.load(dropping(A))
    elsewhere = lab.namespace("moved")
    network.run(site.end.name, "ip", "link", "set", site.end.dev, "netns", elsewhere)
    moved = replace(site, end=numbered(replace(site.end, name=elsewhere)))
    now = verdicts(moved.end)
    code, problems = told(moved)
    for hook, one in (("ingress", now.ingress), ("egress", now.egress)):
        assert any(text.startswith(f"{hook} is not filtered") for text in problems) == (one is None)
    assert (code != 0) == bool(problems)
    assert moved.console("load", moved.write(dropping(B))).code == 0
    assert (told(moved), verdicts(moved.end)) == ((0, []), Verdicts({B}, {B}))
    moved.unload()
    # The pins of its former namespace go with the next load there.
    other = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    other.load(dropping(C))
    other.unload()
    await_state(moved.end, lambda found: found == CLEAN)
