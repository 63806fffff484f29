"""A command and the state it starts from; what decides on both hooks now; and whether a state is whole.

Verdicts are asked of the attached programs by BPF_PROG_TEST_RUN. Such frames are counted like any other, so
``Scene.judged`` is what the counters must show.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from interface_state import CLEAN, State, await_state, state
from lab import End, inside
from test_lifecycle_support import DROPPED, PASSED, TOGGLED, Site, compiled_of, dropping, frame

from xdpguard.errors import NotLoadedError
from xdpguard.generation.compiled import Compiled
from xdpguard.guard.load import load
from xdpguard.guard.records import Records
from xdpguard.kernel import link, maps, objects, tc, testrun

A, B, C, _ = TOGGLED
TX = "{name: back, proto: udp, dport: 7, action: tx}"
RULES = {
    "a.yaml": (dropping(A), {A}),
    "b.yaml": (dropping(B), {B}),
    "large.yaml": (dropping(B, filler=500), {B}),  # needs larger maps, so other programs
    "tx.yaml": (dropping(B, more=TX), {B}),  # begins to observe delivery: tracepoints and links
}
"""Rule file -> its text, and the toggled ports that it drops."""
OPEN: set[int] = set()
_XDP_DROP, _TC_SHOT = 1, 2
_ASKED = (DROPPED, PASSED, *TOGGLED)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Per hook the toggled ports that are dropped; None: no program of ours, everything passes."""

    ingress: set[int] | None
    egress: set[int] | None

    def frames(self) -> int:
        return len(_ASKED) * sum(one is not None for one in (self.ingress, self.egress))

    def whole(self, expected: set[int]) -> bool:
        """Is this what decides everywhere? Without a program everything passes."""
        return all((one or set()) == expected for one in (self.ingress, self.egress))


class Halves(AssertionError):
    """Of one rule set some frames, of another one the others: a switch fell between two of them."""


def verdicts(end: End) -> Verdicts:
    """Of the attached programs."""
    return inside(end.name, _verdicts, end.ifindex)


def _verdicts(ifindex: int) -> Verdicts:
    there = link.by_index(ifindex)
    assert there is not None
    filters = [one.program for one in tc.attached(ifindex) if one.is_our_place()]
    return Verdicts(_dropped([one.program for one in there.xdp], _XDP_DROP), _dropped(filters, _TC_SHOT))


def _dropped(programs: list[int] | list[int | None], verdict: int) -> set[int] | None:
    if not programs:
        return None
    (number,) = programs
    assert number is not None
    fd = objects.prog_by_id(number)
    try:
        dropped = {port for port in _ASKED if testrun.prog_test_run(fd, frame(port)).verdict == verdict}
    finally:
        os.close(fd)
    assert PASSED not in dropped
    if (DROPPED in dropped) != bool(dropped - {DROPPED}):
        raise Halves(f"half a rule set decides: {dropped}")
    return dropped - {DROPPED}


@dataclass(slots=True)
class Scene:
    """``start``: what is done in this process before the command, as (rule file, seconds to confirm).

    ``back``: what a reboot would bring back before the command and after it.
    """

    site: Site
    start: tuple[tuple[str, int | None], ...]
    command: str
    arguments: tuple[str, ...]
    old: set[int]
    new: set[int]
    back: tuple[set[int] | None, set[int] | None]
    account_owners: bool = False
    judged: int = 0
    ended: int = 0  # of those, before both programs were gone
    shape: State = CLEAN
    serial: int = 0
    words: list[str] = field(default_factory=list)
    compiled: dict[str, Compiled] = field(default_factory=dict)

    def begin(self) -> None:
        """From nothing to the state before the command."""
        arguments = [
            str(self.site.write(RULES[one][0], one)) if one in RULES else one for one in self.arguments
        ]
        self.words = self.site.words(self.command, *arguments)
        self.judged = self.ended = self.serial = 0
        self._prepare()
        self.shape = state(self.site.end)

    def again(self) -> None:
        """From wherever it is to the state before the command."""
        try:
            self.site.unload()
        except NotLoadedError:
            pass  # the command unloaded
        await_state(self.site.end, lambda found: found == CLEAN)
        self.begin()

    def _prepare(self) -> None:
        for file, seconds in self.start:
            load(
                [self.site.end.dev], self._compiled(file), mode="auto", netns=self.site.end.name,
                confirm=seconds, force=False, say=self.site.said.append, verbose=False,
                account_owners=self.account_owners,
            )  # fmt: skip

    def _compiled(self, file: str) -> Compiled:
        if file not in self.compiled:
            self.compiled[file] = compiled_of(RULES[file][0], file, self.site.folder)
        return self.compiled[file]

    def look(self) -> Verdicts:
        found = verdicts(self.site.end)
        self.judged += found.frames()
        if found == Verdicts(None, None):
            self.ended = self.judged
        return found

    def check(self, expected: set[int]) -> None:
        """Every packet is judged by these rules, and ``status`` says what there is."""
        now = self.look()
        assert now.whole(expected), now
        try:
            found = self.site.status()
        except NotLoadedError:
            assert now == Verdicts(None, None)
            return
        assert found.active is not None
        named = RULES[Path(found.active.file).name][1] if found.active.file else OPEN
        assert named == expected, (found, now)
        for hook, one in (("ingress", now.ingress), ("egress", now.egress)):
            told = any(problem.startswith(f"{hook} is not filtered") for problem in found.problems)
            assert told == (one is None), (found, now)

    def comes_back(self) -> set[int] | None:
        """What a reboot would bring back now: it can be read."""
        try:
            record = Records(self.site.end.name, self.site.end.dev).read()
        except NotLoadedError:
            return None
        return RULES[Path(record.file).name][1]

    def mend(self) -> None:
        """The next command makes everything whole, loses no count, and leaves nothing of the one before.

        Afterwards all is as after ``begin``.
        """
        end = self.site.end
        if state(end) == self.shape == CLEAN:
            return  # there is nothing to repair, and the next command is the same on a clean host
        if not self.start:
            self._load_and_unload()
            return
        self._prepare()
        found = self.site.status()
        assert found.problems == ()
        assert found.active is not None
        if await_state(end, lambda found: len(found.sets) == 1).sets == self.shape.sets:
            assert found.active.serial > self.serial
        self.serial = found.active.serial
        self._check_mended()
        assert self.comes_back() == self.back[0]
        now = state(end)
        if (now.sets, now.pins) != (self.shape.sets, self.shape.pins):  # other maps, or more is observed
            self.again()

    def _check_mended(self) -> None:
        dropped = RULES[self.start[-1][0]][1]
        assert self.look().whole(dropped)
        shape = await_state(self.site.end, lambda found: len(found.sets) == 1)
        assert [len(part) for part in (shape.xdp, shape.filters, shape.sets)] == [1, 1, 1], shape
        assert _maps(shape) == _maps(self.shape)
        seen = self.site.counts()
        # Counts go with what was taken off whole, unless it was still known when the next load came.
        packets = (seen.ingress.seen() + seen.egress.seen()).packets
        assert packets in (self.judged, self.judged - self.ended), (packets, self.judged, self.ended)
        self.judged, self.ended = packets, 0

    def _load_and_unload(self) -> None:
        ruleset = dropping(C)
        self.site.load(ruleset)
        assert self.look().whole({C})
        assert self.site.status().problems == ()
        assert len(state(self.site.end).sets) == 1
        self.site.unload()
        await_state(self.site.end, lambda found: found == CLEAN)
        self.judged = 0


def _maps(found: State) -> list[str]:
    """The names of the pinned maps of its rules."""
    return sorted(Path(pin).name for pin in found.pins if Path(pin).name in maps.NAMES)


def scenes() -> dict[str, Callable[[Site], Scene]]:
    """Every command from every state that takes another way through it."""
    a, pending = (("a.yaml", None),), (("a.yaml", None), ("b.yaml", 600))
    return {
        "first load": lambda site: Scene(site, (), "load", ("b.yaml",), OPEN, {B}, (None, {B})),
        "reload": lambda site: Scene(site, a, "load", ("b.yaml",), {A}, {B}, ({A}, {B})),
        "larger maps": lambda site: Scene(site, a, "load", ("large.yaml",), {A}, {B}, ({A}, {B})),
        "load to confirm": lambda site: Scene(
            site, a, "load", ("b.yaml", "--confirm", "600"), {A}, {B}, ({A}, {A})
        ),
        "load over unconfirmed": lambda site: Scene(site, pending, "load", ("a.yaml",), {B}, {A}, ({A}, {A})),
        "observed delivery": lambda site: Scene(site, a, "load", ("tx.yaml",), {A}, {B}, ({A}, {B})),
        "owners": lambda site: Scene(site, a, "load", ("b.yaml", "--account-owners"), {A}, {B}, ({A}, {B})),
        "confirm": lambda site: Scene(site, pending, "confirm", (), {B}, {B}, ({A}, {B})),
        "rollback": lambda site: Scene(site, (*a, ("b.yaml", None)), "rollback", (), {B}, {A}, ({B}, {A})),
        "unload": lambda site: Scene(
            site, (("tx.yaml", None),), "unload", (), {B}, OPEN, ({B}, None), account_owners=True
        ),
    }
