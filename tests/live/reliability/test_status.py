"""Foreign hands on what is loaded: ``status`` says exactly what no longer protects and ends with 5; the next
load repairs it, and the counters go on.
"""

from __future__ import annotations

import json
import os
import struct
import threading
from collections.abc import Callable
from pathlib import Path

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import Lab, inside
from test_lifecycle_support import CONSOLE, SIZE, TOGGLED, Site, dropping, run

from xdpguard.errors import ForeignError
from xdpguard.kernel import bpf, objects, tc, xdp
from xdpguard.stats.model import Count

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED
_PROG_ATTACH = 8  # BPF_PROG_ATTACH
Program = Callable[..., int]


def detach_xdp(site: Site) -> None:
    (attached,) = state(site.end).xdp
    fd = objects.prog_by_id(attached.program)
    inside(site.end.name, xdp.detach, site.end.ifindex, fd, attached.mode)
    os.close(fd)


def attach_xdp(site: Site, fd: int) -> None:
    inside(site.end.name, xdp.attach, site.end.ifindex, fd, "native")


def delete_filter(site: Site) -> None:
    network.run(site.end.name, *f"tc filter del dev {site.end.dev} egress".split())


def delete_clsact(site: Site) -> None:
    network.run(site.end.name, *f"tc qdisc del dev {site.end.dev} clsact".split())


def delete_pins(site: Site) -> None:
    for path in sorted(state(site.end).pins, reverse=True):
        Path(path).rmdir() if Path(path).is_dir() else Path(path).unlink()


def delete_one_pin(site: Site) -> None:
    next(Path(path) for path in state(site.end).pins if path.endswith("/totals")).unlink()


def everything(site: Site) -> None:
    detach_xdp(site)
    delete_clsact(site)


NO_XDP = "ingress is not filtered: our XDP program is no longer attached to {dev}"
NO_TC = "egress is not filtered: our TC filter is no longer on {dev}"
NO_PINS = "the pins are lost (verdicts go on): any load, confirm or rollback makes them again"
MISSING: dict[str, tuple[Callable[[Site], None], list[str]]] = {
    "XDP program detached": (detach_xdp, [NO_XDP]),
    "TC filter deleted": (delete_filter, [NO_TC]),
    "clsact deleted": (delete_clsact, [NO_TC]),
    "pins deleted": (delete_pins, [NO_PINS]),
    "one pin deleted": (delete_one_pin, [NO_PINS]),
    "both programs gone": (everything, [NO_XDP, NO_TC]),
}


@pytest.mark.parametrize("case", MISSING)
def test_what_is_missing_is_told_and_made_again_by_the_next_load(site: Site, case: str) -> None:
    harm, problems = MISSING[case]
    site.load(dropping(A))
    site.delivered(A, A)
    before = state(site.end)
    harm(site)
    expected = [problem.format(dev=site.end.dev) for problem in problems]
    shown = site.console("status", "--format", "json")
    (document,) = json.loads(shown.out)["interfaces"]
    assert (shown.code, shown.err) == (5, "")
    assert (document["problems"], document["protected"]) == (expected, False)
    table = site.console("status")
    assert (table.code, "NOT PROTECTED" in table.out) == (5, True)
    assert all(problem in table.out for problem in expected)
    site.load(dropping(B))
    assert site.status().problems == ()
    assert site.verdicts() == {B}
    after = state(site.end)
    assert (after.pins, after.sets) == (before.pins, before.sets)
    assert site.counts().ingress.seen() == Count(3 + 7, 10 * SIZE)
    site.unload()
    await_state(site.end, lambda found: found == CLEAN)


@pytest.mark.parametrize("command", ["confirm", "rollback"])
def test_lost_pins_are_made_again_by_every_command_that_changes_something(site: Site, command: str) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=600)
    before = state(site.end).pins
    delete_pins(site)
    done = site.console(command)
    assert (done.code, "the pins were lost; pinned the maps again" in done.err) == (0, True)
    assert state(site.end).pins == before
    assert site.status().problems == ()


def test_programs_without_pins_are_unloaded(site: Site) -> None:
    site.load(dropping(A))
    delete_pins(site)
    assert site.console("unload").code == 0
    await_state(site.end, lambda found: found == CLEAN)


def test_another_xdp_program_in_our_place_is_told_and_left_alone(site: Site, program: Program) -> None:
    site.load(dropping(A))
    other = program(bpf.PROG_XDP)
    number = objects.prog_info(other).id
    detach_xdp(site)
    attach_xdp(site, other)
    assert site.status().problems == (
        f"ingress is not filtered: {site.end.dev} has another XDP program (id {number})",
    )
    assert site.in_force(hook="egress") == {A}
    with pytest.raises(ForeignError, match=rf"another XDP program \(id {number}, native\).*nothing changed"):
        site.load(dropping(B))
    assert site.in_force(hook="egress") == {A}
    site.unload()
    assert [one.program for one in state(site.end).xdp] == [number]
    await_state(site.end, lambda found: not found.sets and not found.clsact)


def test_another_tc_filter_in_our_place_is_told_and_left_alone(site: Site, program: Program) -> None:
    site.load(dropping(A))
    other = program(bpf.PROG_SCHED_CLS)
    number = objects.prog_info(other).id
    delete_filter(site)
    inside(site.end.name, tc.add, site.end.ifindex, other, "other")
    assert site.status().problems == (
        f"egress is not filtered: TC filter id {number} is in our place on {site.end.dev}",
    )
    with pytest.raises(ForeignError, match=rf"\(program id {number}, priority 16\).*nothing changed"):
        site.load(dropping(B))
    assert site.in_force() == {A}
    site.unload()
    assert [entry[3] for entry in state(site.end).filters] == [number]
    assert state(site.end).clsact


def test_a_filter_in_front_of_ours_is_told(site: Site) -> None:
    site.load(dropping(A))
    earlier = f"tc filter add dev {site.end.dev} egress prio 3 protocol ip u32 match u32 0 0 flowid 1:1"
    network.run(site.end.name, *earlier.split())
    (problem,) = site.status().problems
    assert problem == f"TC filter of kind u32 (priority 3) runs before ours on {site.end.dev}"
    with pytest.raises(ForeignError, match=r"kind u32, priority 3.*in front of it; nothing changed"):
        site.load(dropping(B))
    site.unload()
    assert state(site.end).clsact, "another filter is in it"


def test_a_tcx_program_in_front_of_ours_is_told(site: Site, program: Program) -> None:
    other = program(bpf.PROG_SCHED_CLS, -1)
    number = objects.prog_info(other).id
    site.load(dropping(A))
    try:
        inside(site.end.name, attach_tcx, site.end.ifindex, other)
    except OSError as error:
        pytest.skip(f"this kernel has no TCX (before 6.6): {error.strerror}")
    assert site.status().problems == (f"TCX program id {number} runs before our TC filter on {site.end.dev}",)
    with pytest.raises(ForeignError, match=rf"a TCX program \(id {number}\).*nothing changed"):
        site.load(dropping(B))
    assert site.verdicts() == {A}


def attach_tcx(ifindex: int, fd: int) -> None:
    attributes = bytearray(32)
    struct.pack_into("=III", attributes, 0, ifindex, fd, objects.TCX_EGRESS)
    bpf.call(_PROG_ATTACH, attributes)


def test_our_program_put_back_in_another_mode_is_told(site: Site) -> None:
    site.load(dropping(A))
    (attached,) = state(site.end).xdp
    fd = objects.prog_by_id(attached.program)
    detach_xdp(site)
    inside(site.end.name, xdp.attach, site.end.ifindex, fd, "generic")
    os.close(fd)
    assert site.status().problems == (f"the XDP program of {site.end.dev} is in generic mode, not as loaded",)
    assert site.verdicts() == {A}


def test_a_clsact_that_was_there_before_stays(site: Site) -> None:
    network.run(site.end.name, *f"tc qdisc add dev {site.end.dev} clsact".split())
    site.load(dropping(A))
    site.unload()
    assert state(site.end).clsact


# --- all interfaces -----------------------------------------------------------------------------------------


def test_status_without_an_interface_shows_those_of_every_named_namespace(site: Site, lab: Lab) -> None:
    second = Site.of(lab.veth(ipv6=False), site.folder)
    empty = run(CONSOLE, "status", "--netns", site.end.name)
    assert empty.code == 0
    assert empty.out.startswith("xdpguard is not loaded on any interface")
    site.load(dropping(A))
    second.load(dropping(B))
    found = json.loads(run(CONSOLE, "status", "--format", "json").out)["interfaces"]
    assert {(site.end.dev, site.end.name), (second.end.dev, second.end.name)} <= {
        (one["interface"], one["netns"]) for one in found
    }
    only = json.loads(run(CONSOLE, "status", "--netns", second.end.name, "--format", "json").out)
    assert [one["netns"] for one in only["interfaces"]] == [second.end.name]
    detach_xdp(second)
    everywhere = run(CONSOLE, "status", "--netns", second.end.name)
    assert everywhere.code == 5
    second.unload()


def test_a_command_at_work_is_not_taken_for_a_fault(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.load(dropping(A))
    replace, half_way, looked = tc.replace, threading.Event(), threading.Event()

    def slowly(*arguments: object) -> None:
        half_way.set()  # the XDP program is replaced, the TC filter is not
        assert looked.wait(network.PATIENCE)
        replace(*arguments)  # type: ignore[arg-type]

    def look() -> None:
        assert half_way.wait(network.PATIENCE)
        problems.append(site.status().problems)

    monkeypatch.setattr(tc, "replace", slowly)
    found = state(site.end)
    problems: list[tuple[str, ...]] = []
    first_look(monkeypatch, looked)
    thread = threading.Thread(target=look)
    thread.start()
    site.load(dropping(B, filler=500))
    thread.join()
    assert problems == [()]
    assert state(site.end).xdp != found.xdp


def first_look(monkeypatch: pytest.MonkeyPatch, looked: threading.Event) -> None:
    """Set ``looked`` as soon as status waits for the lock."""
    from xdpguard.kernel import lock

    held = lock.held

    def waiting(*arguments: object, **options: object) -> object:
        if "xdpguard status" in arguments:
            looked.set()
        return held(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(lock, "held", waiting)
