"""Everything of ours that is on the host for one interface, to be compared and waited for."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import lab as network
from lab import End, inside

from xdpguard.kernel import bpf, link, maps, netns, objects, tc

_MAP_NEXT_ID = 12  # BPF_MAP_GET_NEXT_ID


@dataclass(frozen=True, slots=True)
class State:
    """Everything of ours on the host that belongs to one interface, and what is attached there at all."""

    xdp: tuple[link.XdpProgram, ...]
    filters: tuple[tuple[str, int, int, int | None], ...]
    clsact: bool
    pins: frozenset[str]
    sets: frozenset[int]  # ids of the control maps, which live as long as a program or set of maps does
    word: maps.Word | None


def map_ids() -> Iterable[int]:
    """Every map of the host."""
    attributes = bytearray(16)
    while True:
        try:
            bpf.call(_MAP_NEXT_ID, attributes)
        except FileNotFoundError:
            return
        attributes[:4] = attributes[4:8]
        yield int.from_bytes(attributes[:4], "little")


def _controls(cookie: int, ifindex: int) -> dict[int, maps.Word]:
    found = {}
    for number in map_ids():
        try:
            fd = objects.map_by_id(number)
        except FileNotFoundError:
            continue
        if objects.map_info(fd).name == "xg_control":
            page = maps.Control(fd)
            if (page.get("netns_cookie"), page.get("ifindex")) == (cookie, ifindex):
                found[number] = page.word
            page.close()
        else:
            os.close(fd)
    return found


def state(end: End) -> State:
    identity = inside(end.name, netns.identity)
    controls = _controls(identity.cookie, end.ifindex)
    there = inside(end.name, link.by_index, end.ifindex)
    filters = inside(end.name, tc.attached, end.ifindex) if there else []
    qdiscs = network.run(end.name, "tc", "qdisc", "show").stdout
    folder = network.PINS / f"{identity.inode}-{end.ifindex}"
    return State(
        there.xdp if there else (),
        tuple((one.kind, one.priority, one.handle, one.program) for one in filters),
        f"clsact ffff: dev {end.dev} " in qdiscs,
        frozenset(str(pin) for pin in folder.glob("**/*")),
        frozenset(controls),
        next(iter(controls.values())) if len(controls) == 1 else None,
    )


def await_state(end: End, wanted: Callable[[State], bool]) -> State:
    """The kernel frees programs and maps a moment after their last use."""
    deadline = time.monotonic() + network.PATIENCE
    while not wanted(found := state(end)):
        assert time.monotonic() < deadline, found
    return found


CLEAN = State((), (), False, frozenset(), frozenset(), None)
