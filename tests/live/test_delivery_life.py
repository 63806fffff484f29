"""The observation of delivery comes with rules that send and ends with unload, whatever command dies; where
it cannot be had the rules are loaded all the same.
"""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import End, Lab
from test_delivery_support import AWAY, BACK, COUNT, await_lost, down, lost, of, send, sending, target
from test_lifecycle_forks import Forks, Step
from test_lifecycle_support import Site

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import bpf, btf, objects

__all__ = ["target"]  # fixture
pytestmark = pytest.mark.usefixtures("no_leaks")
NOTHING = "version: 1\ningress: []\n"
UNOBSERVED = "it is not observed whether tx and redirect are delivered: "


@pytest.fixture(scope="module")
def forks() -> Iterator[Forks]:
    started = Forks()
    yield started
    started.close()


def pinned(site: Site) -> set[str]:
    folder = of(site).folder
    return {path.name for path in folder.iterdir()} if folder.exists() else set()


WHOLE = {"counts", "redirect_err", "devmap_xmit", "bulk_tx", "exception"}


def kernel_objects(site: Site) -> list[partial[int]]:
    """What opens the counters' map and each program of the observation by its id."""
    folder = of(site).folder
    counts = objects.obj_get(folder / "counts")
    found = [partial(objects.map_by_id, objects.map_info(counts).id)]
    os.close(counts)
    for event in sorted(WHOLE - {"counts"}):
        opened = objects.obj_get(folder / event)
        # struct bpf_link_info: type, id, prog_id
        number = int.from_bytes(objects._info(opened, 64)[8:12], "little")
        found.append(partial(objects.prog_by_id, number))
        os.close(opened)
    return found


def await_gone(opening: list[partial[int]]) -> None:
    """The kernel frees them a moment after their last use."""
    deadline = time.monotonic() + network.PATIENCE
    for one in opening:
        while True:
            try:
                os.close(one())
            except FileNotFoundError:
                break
            assert time.monotonic() < deadline


# --- the end ------------------------------------------------------------------------------------------------


def test_unload_leaves_no_link_no_program_no_map_and_no_pin(site: Site) -> None:
    site.load(sending())
    assert pinned(site) == WHOLE
    left = kernel_objects(site)
    for one in left:
        os.close(one())
    site.unload()
    await_gone(left)
    await_state(site.end, lambda found: found == CLEAN)


def test_a_refused_load_takes_its_observation_along(
    site: Site, target: tuple[End, End], monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(NOTHING)
    before = state(site.end)
    with monkeypatch.context() as patched:
        patched.setattr("xdpguard.guard.targets.prepare", refuse)
        with pytest.raises(ZeroDivisionError):
            site.load(sending())
    assert state(site.end) == before
    site.load(sending(target[0].dev))
    with monkeypatch.context() as patched:
        patched.setattr("xdpguard.guard.targets.prepare", refuse)
        with pytest.raises(ZeroDivisionError):
            site.load(sending(filler=500))
    down(target[0])
    send(site, AWAY, 3)
    await_lost(site, 0, 3)  # that of the rules before goes on


def refuse(*_: object) -> list[int]:
    raise ZeroDivisionError


def test_the_observation_of_an_interface_that_is_gone_goes_with_its_pins(site: Site, lab: Lab) -> None:
    gone = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    gone.load(sending())
    left = kernel_objects(gone)
    network.run(gone.end.name, "ip", "link", "del", gone.end.dev)
    site.load(NOTHING)
    await_gone(left)
    await_state(gone.end, lambda found: found == CLEAN)


def test_the_observation_of_a_namespace_that_is_gone_goes_with_its_pins(site: Site, lab: Lab) -> None:
    gone = Site.of(lab.veth(ipv6=False), site.folder)
    gone.load(sending())
    left, observation = kernel_objects(gone), of(gone)
    subprocess.run(["ip", "netns", "delete", gone.end.name], check=True)
    site.load(NOTHING)
    await_gone(left)
    assert not observation.exists()
    subprocess.run(["ip", "netns", "add", gone.end.name], check=True)  # the lab removes what it made


# --- commands that die --------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [None, NOTHING], ids=["first load", "reload"])
def test_a_load_killed_around_the_observation_is_repaired(
    site: Site, forks: Forks, first: str | None
) -> None:
    words = site.words("load", site.write(sending()), "--mode", "native")
    if first is not None:
        site.load(first, mode="native")
    names = forks.steps(words)
    pins = [number for number, name in enumerate(names, 1) if name == "pin"]
    steps = [Step(number, "pin", before=False) for number in pins[-len(WHOLE) :]]
    site.unload()
    partial = 0
    for step in steps:
        if first is not None:
            site.load(first, mode="native")
        assert forks.run(words, step, signal.SIGKILL).code == -signal.SIGKILL, step
        found = pinned(site)
        partial += found not in (set(), WHOLE)
        check_after_a_kill(site, step, loaded=bool(state(site.end).xdp))
    assert partial == len(WHOLE) - 1  # the steps were the right ones


def check_after_a_kill(site: Site, step: Step, *, loaded: bool) -> None:
    whole = pinned(site) == WHOLE
    if loaded:
        assert lost(site) == ((0, 0) if whole else (None, None)), step
        site.load(NOTHING)
        assert pinned(site) in (set(), WHOLE)
    else:
        with pytest.raises(NotLoadedError):
            site.unload()
        assert pinned(site) == set()
    site.load(sending(), mode="native")
    send(site, BACK, 3)
    await_lost(site, 3, 0)
    site.unload()
    await_state(site.end, lambda found: found == CLEAN)


def test_a_new_namespace_does_not_take_over_an_observation(site: Site) -> None:
    of(site).attach(1, exact=True)  # as one left by a namespace that had the same inode number
    site.load(NOTHING)
    assert any("removed left-over pins" in line for line in site.said)
    assert pinned(site) == set()


# --- where it cannot be had ---------------------------------------------------------------------------------


def break_btf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btf, "VMLINUX", Path("/nonexistent"))


def break_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btf.Btf, "arguments", lambda *_: ("__data", "renamed"))


def break_open(monkeypatch: pytest.MonkeyPatch) -> None:
    break_call(monkeypatch, 17, errno.EPERM)


def break_pin(monkeypatch: pytest.MonkeyPatch) -> None:
    """As before Linux 5.7, which cannot pin a link."""
    pin = objects.obj_pin

    def refuse_links(fd: int, path: Path) -> None:
        if path.name == "redirect_err":
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        pin(fd, path)

    monkeypatch.setattr(objects, "obj_pin", refuse_links)


def break_call(monkeypatch: pytest.MonkeyPatch, refused: int, code: int) -> None:
    call = bpf.call

    def refusing(command: int, attributes: bytearray) -> int:
        if command == refused:
            raise OSError(code, os.strerror(code))
        return call(command, attributes)

    monkeypatch.setattr(bpf, "call", refusing)


BROKEN: dict[str, tuple[Callable[[pytest.MonkeyPatch], None], str]] = {
    "no BTF": (break_btf, "no BTF of the kernel: /nonexistent: No such file or directory"),
    "other arguments": (break_arguments, "xdp_redirect_err has no argument called xdp on this kernel"),
    "not permitted": (break_open, "Operation not permitted"),
    "no pins of links": (break_pin, "Invalid argument"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_where_it_cannot_be_observed_rules_are_loaded_and_the_reason_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    spoil, why = BROKEN[case]
    with monkeypatch.context() as patch:
        spoil(patch)
        site.load(sending(), mode="native")
    assert [line for line in site.said if UNOBSERVED in line] == [f"{site.end.dev}: {UNOBSERVED}{why}"]
    assert pinned(site) == set()
    send(site, BACK)
    assert lost(site) == (None, None)
    assert site.counts().ingress.actions["tx"].packets == COUNT
    assert "tx not observed" in site.console("stats").out
    site.load(sending())  # once it can
    assert lost(site) == (0, 0)
