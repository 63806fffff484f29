"""`load --confirm` whose command dies as soon as its rules are live: the kernel goes back by itself.

Many interfaces at once. What decides is asked of the attached programs by BPF_PROG_TEST_RUN, and the clock
is the one that they compare with, CLOCK_BOOTTIME: a run that began at or past the deadline of the control
word must give the old rules, one that ended before it the new ones. So the bound is the kernel's own, to
the millisecond, and a slow machine makes no difference.
"""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle, islice
from pathlib import Path

import lab as network
import pytest
from crash_scenes import Halves, verdicts
from interface_state import state
from lab import End, Lab, inside
from reached import Figures
from test_lifecycle_support import TOGGLED, Site, dropping, keep_judges

from xdpguard.generation import slots
from xdpguard.kernel import link

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, _, _ = TOGGLED
LOST = "commands lost after a load to confirm, all taken back in time"

LINGERING = """
import os, signal, sys
from xdpguard.cli import main
from xdpguard.kernel import maps
store = maps.Control._store
def lingering(page, field, value):
    store(page, field, value)
    if field == "word" and value >> 16:  # with a deadline: the rules are live
        os.write(READY, b"live")
        signal.pause()
maps.Control._store = lingering
READY = int(sys.argv.pop(1))
main.entry()
"""
"""The command as it is, but that it waits for the signal that comes right after its rules are live."""


@dataclass(slots=True)
class Run:
    """One interface. ``before``, ``after``: how many test runs ended before the deadline, began past it."""

    site: Site
    how: str
    deadline_ms: int = 0
    before: int = 0
    after: int = 0
    said: list[str] = field(default_factory=list)

    def look(self) -> None:
        """One test run on both hooks."""
        began = slots.boot_ms()
        try:
            found = verdicts(self.site.end)
        except Halves:
            assert began <= self.deadline_ms <= slots.boot_ms(), "a switch that is no fallback"
            return
        ended = slots.boot_ms()
        if ended < self.deadline_ms:
            assert (found.ingress, found.egress) == ({B}, {B}), "the new rules were not in force"
            self.before += 1
        if began >= self.deadline_ms:
            late = began - self.deadline_ms
            assert (found.ingress, found.egress) == ({A}, {A}), f"no fallback {late} ms past the deadline"
            self.after += 1


def ends(lab: Lab, count: int) -> list[tuple[End, End]]:
    """Pairs of interfaces without addresses, all in one namespace each side."""
    inner, outer = lab.namespace("s"), lab.namespace("c")
    lines = []
    for number in range(count):
        lines.append(f"link add c{number} type veth peer name s{number} netns {inner}")
        lines.append(f"link set c{number} up")
    for name in (inner, outer):
        inside(name, network._quieten, False)
    network._batch(outer, *lines)
    network._batch(inner, *(f"link set s{number} up" for number in range(count)))
    return [(_end(inner, f"s{number}"), _end(outer, f"c{number}")) for number in range(count)]


def _end(name: str, dev: str) -> End:
    found = inside(name, link.find, dev)
    return End(name, dev, found.ifindex, found.mac.hex(":"), "", "")


def hang_up(process: subprocess.Popen[bytes], _: int) -> None:
    process.send_signal(signal.SIGHUP)


def kill(process: subprocess.Popen[bytes], _: int) -> None:
    process.send_signal(signal.SIGKILL)


def close_terminal(_: subprocess.Popen[bytes], terminal: int) -> None:
    os.close(terminal)


HOW: dict[str, Callable[[subprocess.Popen[bytes], int], None]] = {
    "SIGHUP": hang_up,
    "SIGKILL": kill,
    "closed terminal": close_terminal,
}
ENDS_WITH = {"SIGHUP": (130,), "SIGKILL": (-signal.SIGKILL,), "closed terminal": (130,)}


def lose(run: Run, seconds: int) -> None:
    """Start the load on a terminal of its own, and take the command away once its rules are live."""
    words = run.site.words("load", run.site.folder / "new.yaml", "--confirm", seconds)
    terminal, slave = pty.openpty()
    ready, told = os.pipe()
    began = slots.boot_ms()
    process = subprocess.Popen(
        [sys.executable, "-c", LINGERING, str(told), *words], stdin=slave, stdout=slave, stderr=slave,
        pass_fds=[told], process_group=None, preexec_fn=_take_terminal,
    )  # fmt: skip
    os.close(slave)
    os.close(told)
    try:
        live = os.read(ready, 4)
        assert live == b"live", os.read(terminal, 4096)
        word = state(run.site.end).word
        assert word is not None
        run.deadline_ms = word.deadline_ms
        assert began + 1000 * seconds <= run.deadline_ms <= slots.boot_ms() + 1000 * seconds
        run.look()
        HOW[run.how](process, terminal)
        assert process.wait(60) in ENDS_WITH[run.how]
    finally:
        process.kill()
        process.wait()
        os.close(ready)
        if run.how != "closed terminal":
            os.close(terminal)


def _take_terminal() -> None:
    """In the child: a session of its own, whose terminal is standard input."""
    os.setsid()
    import fcntl
    import termios

    fcntl.ioctl(0, termios.TIOCSCTTY, 0)


@pytest.fixture
def runs(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[Run]]]:
    """``runs(count)``: interfaces with the old rules in force, the ways to lose the command in turn."""
    made: list[Run] = []
    keep_judges(monkeypatch)

    def make(count: int) -> list[Run]:
        for (end, peer), how in zip(ends(lab, count), islice(cycle(HOW), count), strict=True):
            made.append(Run(Site(end, peer, tmp_path), how))
            made[-1].site.load(dropping(A))
        made[0].site.write(dropping(B), "new.yaml")
        return made

    yield make
    for run in made:
        run.site.unload()


def all_fall_back(runs: list[Run], seconds: int) -> None:
    for place, run in enumerate(runs):
        lose(run, seconds)
        for other in runs[: place + 1]:
            other.look()
    while waiting := [run for run in runs if not run.after]:
        for run in waiting:
            run.look()
        time.sleep(
            0.02
        )  # so as not to keep the processors from who fall back: the deadline itself is awaited
    assert all(run.before for run in runs), "rules were never seen in force: nothing was shown"
    for run in runs:
        run.look()
        assert run.site.status().fell_back
        assert run.site.status().problems == ()


def test_a_command_lost_after_a_load_to_confirm_locks_nobody_out(
    runs: Callable[[int], list[Run]], figures: Figures
) -> None:
    made = runs(9)
    all_fall_back(made, seconds=3)
    figures.add(LOST, len(made))


@pytest.mark.soak
def test_fifty_commands_lost_after_a_load_to_confirm_lock_nobody_out(
    runs: Callable[[int], list[Run]], figures: Figures
) -> None:
    made = runs(50)
    all_fall_back(made, seconds=5)
    figures.add(LOST, len(made))
