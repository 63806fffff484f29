"""Reload after reload while more than 100,000 numbered frames a second cross each hook: every frame is
judged by the rules that were in force between its sending and its arrival, none is lost, and the counters
add up to it.

Frames come by eights: four whose port one of four rule sets drops, one that each drops, two that each
passes, one that no rule names. So what decided shows in which of an eight arrive. Each hook is judged
apart: a frame in flight may meet older rules in XDP and newer ones in TC.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from reached import Figures
from reload_stream import KINDS, PORT, SIZE, Seen, Stream, Times
from test_lifecycle_support import Site

from xdpguard.guard.stage import Staged
from xdpguard.stats.model import Count, HookCounts

pytestmark = pytest.mark.usefixtures("no_leaks")
TOGGLED = 4
NEVER, ALWAYS, UNNAMED, LAST = 4, 5, 6, 7
PER_SECOND = 125_000
FRAMES = 1_200_000  # of a hook and round: 10 s
ROUNDS = 2


def rules(toggle: int) -> str:
    """Drops the port of that kind on both hooks; every rule set has the same rules but for this one."""
    text = "version: 1\n"
    for hook in ("ingress", "egress"):
        lines = (("never", PORT + NEVER, "drop"), ("always", PORT + ALWAYS, "pass"),
                 ("last", PORT + LAST, "pass"), ("toggle", PORT + toggle, "drop"))  # fmt: skip
        text += f"{hook}:\n" + "".join(
            f"  - {{name: {name}-{hook}, proto: udp, dport: {port}, action: {action}}}\n"
            for name, port, action in lines
        )
    return text


class Log:
    """Between which times each load made its rules live (CLOCK_MONOTONIC, ns). Load k drops kind k % TOGGLED.

    So narrow, because load follows load: by the time that all of ``load`` took, no frame had one answer.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._began, self._done = [0], [0]
        commit = Staged.commit

        def noted(staged: Staged) -> None:
            self._began.append(time.monotonic_ns())
            commit(staged)
            self._done.append(time.monotonic_ns())

        monkeypatch.setattr(Staged, "commit", noted)

    def __len__(self) -> int:
        return len(self._began)

    def possible(self, sent: Times, arrived: Times) -> tuple[Times, Times]:
        """The first and the last load whose rules may have judged a frame between these times."""
        began, done = np.array(self._began, np.uint64), np.array(self._done, np.uint64)
        first = np.searchsorted(done, sent, side="right") - 1  # done before it was sent: nothing older
        last = np.searchsorted(began, arrived, side="right") - 1
        return first.astype(np.uint64), last.astype(np.uint64)


def judge(seen: Seen, log: Log) -> tuple[int, int]:
    """Every frame of one hook. -> toggled frames that were dropped, eights that met a load."""
    sent, arrived = seen.sent.reshape(-1, KINDS), seen.arrived.reshape(-1, KINDS)
    assert (sent > 0).all()
    assert not arrived[:, NEVER].any(), "a frame that is always dropped arrived"
    for kind in (ALWAYS, UNNAMED, LAST):
        assert arrived[:, kind].all(), f"{(arrived[:, kind] == 0).sum()} frames that always pass were lost"
    # Frames keep their order: the last of an eight arrives after all of it was judged.
    first, last = log.possible(sent[:, 0], arrived[:, LAST])
    dropped = arrived[:, :TOGGLED] == 0
    steady = first == last
    one = np.zeros_like(dropped)
    one[np.arange(len(one)), (first % TOGGLED).astype(int)] = True
    wrong = steady & (dropped != one).any(axis=1)
    assert not wrong.any(), f"{wrong.sum()} eights were judged by other rules than those in force"
    meeting = np.flatnonzero(~steady)
    for place in meeting:
        assert _switched(dropped[place], int(first[place]), int(last[place])), (place, dropped[place])
    _check_order(dropped[meeting], first[meeting], last[meeting])
    return int(dropped.sum()), len(meeting)


def _switched(dropped: np.ndarray, first: int, last: int) -> bool:
    """Is this an eight judged by one load's rules and from some frame on by a later one's?"""
    for before in range(first, last + 1):
        for after in range(before, last + 1):
            for place in range(TOGGLED + 1):
                by = [before if kind < place else after for kind in range(TOGGLED)]
                if all(dropped[kind] == (by[kind] % TOGGLED == kind) for kind in range(TOGGLED)):
                    return True
    return False


def _check_order(dropped: np.ndarray, first: Times, last: Times) -> None:
    """No whole eight is judged by older rules than one before it."""
    newest = 0
    for one, low, high in zip(dropped, first, last, strict=True):
        if one.sum() != 1 or high - low >= TOGGLED:
            continue
        by = next((k for k in range(int(low), int(high) + 1) if one[k % TOGGLED]), None)
        if by is not None and one.sum() == 1:
            newest_possible = max(k for k in range(int(low), int(high) + 1) if one[k % TOGGLED])
            assert newest_possible >= newest
            newest = max(newest, by)


def check_counts(side: HookCounts, hook: str, frames: int, dropped: int) -> None:
    """Over all reloads and rounds: each frame in one place."""
    eights = frames // KINDS
    assert side.seen() == Count(frames, frames * SIZE)
    assert side.actions["drop"].packets == eights + dropped
    names = {name: 0 for name in ("never", "always", "last", "toggle")}
    for rule in side.rules:
        names[rule.name.removesuffix(f"-{hook}")] += rule.count.packets
    assert names == {"never": eights, "always": eights, "last": eights, "toggle": dropped}
    assert side.default.packets == eights + TOGGLED * eights - dropped


@contextmanager
def sending(streams: Iterable[Stream]) -> Iterator[list[subprocess.Popen[str]]]:
    senders = [stream.start(PER_SECOND) for stream in streams]
    try:
        yield senders
    finally:
        for sender in senders:
            sender.kill()  # nothing, if it has ended
            sender.wait()


def reload_for(
    site: Site, monkeypatch: pytest.MonkeyPatch, rounds: int, enough: Callable[[int], bool]
) -> str:
    """Rounds of traffic over reloads. -> what was reached, in a line."""
    dropped, met, took, sending_ns = {"ingress": 0, "egress": 0}, 0, 0.0, 0
    site.load(rules(0))
    log = Log(monkeypatch)
    streams = {hook: Stream(site.end, site.peer, hook, FRAMES) for hook in dropped}
    done = 0
    while done < rounds or not enough(len(log)):
        began = time.monotonic()
        with sending(streams.values()) as senders:
            while any(sender.poll() is None for sender in senders):
                site.load(rules(len(log) % TOGGLED))
            took += time.monotonic() - began
            assert [sender.returncode for sender in senders] == [0, 0]
        for hook, stream in streams.items():
            assert stream.count == FRAMES
            seen = stream.take()
            sending_ns += int(seen.sent[-1] - seen.sent[0])
            more, meeting = judge(seen, log)
            dropped[hook] += more
            met += meeting
        done += 1
    found = site.counts()
    check_counts(found.ingress, "ingress", done * FRAMES, dropped["ingress"])
    check_counts(found.egress, "egress", done * FRAMES, dropped["egress"])
    assert met, "no frame met a load: nothing was shown"
    return (
        f"{len(log) - 1} reloads in {took:.0f} s, {2e9 * done * FRAMES / sending_ns:,.0f} frames a second "
        f"and hook, {2 * done * FRAMES:,} frames, {met} eights met a load"
    )


def test_reloads_under_a_hundred_thousand_frames_a_second_judge_lose_and_count_every_frame_right(
    site: Site, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    figures.say(reload_for(site, monkeypatch, ROUNDS, lambda _: True))


@pytest.mark.soak
def test_two_thousand_reloads_judge_lose_and_count_every_frame_right(
    site: Site, monkeypatch: pytest.MonkeyPatch, figures: Figures
) -> None:
    figures.say(reload_for(site, monkeypatch, ROUNDS, lambda loads: loads > 2000))
