"""Reloads, rollbacks and larger maps while frames flow in both directions: no frame is judged by other rules
than those before or after, and no count is lost or made up.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable

import pytest
from interface_state import state
from test_lifecycle_pump import Burst, Pump
from test_lifecycle_support import DROPPED, PASSED, SIZE, TOGGLED, UNNAMED, Site, dropping

from xdpguard.errors import PreflightError
from xdpguard.generation import slots
from xdpguard.guard import targets
from xdpguard.kernel import maps
from xdpguard.stats.model import Count, HookCounts

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED

ALWAYS = {PASSED, UNNAMED}


def larger(port: int) -> str:
    """Of the next size class: maps and programs are replaced."""
    return dropping(port, filler=700, addresses=20_000)


class Log:
    """Which port is dropped when: each change with the time before it began and after it was done."""

    def __init__(self, dropped: int) -> None:
        self._changes: list[tuple[int, int, int]] = [(0, 0, dropped)]

    def change(self, dropped: int, act: Callable[[], None]) -> None:
        began = time.monotonic_ns()
        act()
        self._changes.append((began, time.monotonic_ns(), dropped))

    def possible(self, burst: Burst) -> set[int]:
        """The ports that may have been dropped during a burst."""
        ends = [*(done for _, done, _ in self._changes[1:]), burst.ended]
        return {
            dropped
            for (began, _, dropped), end in zip(self._changes, ends, strict=True)
            if began <= burst.ended and end >= burst.began
        }

    def check(self, bursts: list[Burst]) -> None:
        for burst in bursts:
            assert DROPPED not in burst.arrived
            assert burst.arrived >= ALWAYS, "a frame that always passes was lost"
            possible, missing = self.possible(burst), set(TOGGLED) - burst.arrived
            assert missing <= possible, f"{missing} dropped by rules that were not in force ({possible})"
            arrived = set(TOGGLED) & burst.arrived
            assert not any(possible == {port} for port in arrived), f"{possible} passed while it was dropped"


def check_counts(side: HookCounts, suffix: str, bursts: list[Burst]) -> None:
    """Every frame is counted exactly once, wherever its rule is by now."""
    ports: Counter[int] = Counter()
    for burst in bursts:
        ports.update(port for port in TOGGLED if port in burst.arrived)
    sent = len(bursts)
    toggles = 4 * sent - sum(ports.values())
    assert side.seen() == Count(len(Pump.PORTS) * sent, len(Pump.PORTS) * sent * SIZE)
    assert side.actions["drop"].packets == sent + toggles
    assert side.protocols["udp"] == side.seen()
    deciders = [rule.count for rule in side.rules] + [side.default, *side.reasons.values()]
    assert sum(deciders, Count()) == side.seen()
    by_name: Counter[str] = Counter()
    for rule in side.rules:
        by_name[rule.name.removesuffix(suffix)] += rule.count.packets
    assert (by_name["never"], by_name["always"], by_name["toggle"]) == (sent, 2 * sent, toggles)
    assert side.default.packets == sent + sum(ports.values())
    assert [rule.retired for rule in side.rules if rule.name.startswith(("never", "always"))] == [False] * 2


def test_sixty_reloads_under_traffic_lose_and_leak_no_frame_and_no_count(site: Site) -> None:
    site.load(dropping(A))
    log = Log(A)
    with Pump(site.peer, site.end) as ingress, Pump(site.end, site.peer) as egress:
        for number in range(1, 61):
            port = TOGGLED[number % 4]
            log.change(port, lambda port=port: site.load(dropping(port)))  # type: ignore[misc]
        into, out = ingress.finish(), egress.finish()
    assert min(len(into), len(out)) > 60
    log.check(into)
    log.check(out)
    assert any(len(log.possible(burst)) > 1 for burst in into), "no burst met a change"
    found = site.counts()
    check_counts(found.ingress, "", into)
    check_counts(found.egress, "-out", out)
    before = site.counts().ingress
    assert site.verdicts() == {A}
    assert site.counts().ingress.seen() - before.seen() == Count(7, 7 * SIZE)


def test_larger_maps_rollbacks_and_refused_loads_under_traffic_conserve_every_count(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))
    programs = state(site.end).xdp
    log = Log(A)

    def refuse(*_: object) -> None:
        raise PreflightError("refused")

    def refused_load() -> None:
        with monkeypatch.context() as patched:
            patched.setattr(targets, "prepare", refuse)  # after programs and maps were replaced
            with pytest.raises(PreflightError):
                site.load(larger(D))

    with Pump(site.peer, site.end) as ingress, Pump(site.end, site.peer) as egress:
        log.change(B, lambda: site.load(dropping(B)))
        log.change(B, refused_load)
        assert state(site.end).xdp == programs
        log.change(A, site.rollback)
        log.change(C, lambda: site.load(larger(C)))
        assert state(site.end).xdp != programs
        log.change(A, site.rollback)
        log.change(C, site.rollback)
        log.change(B, lambda: site.load(dropping(B)))
        log.change(D, lambda: site.load(dropping(D)))
        into, out = ingress.finish(), egress.finish()
    log.check(into)
    log.check(out)
    found = site.counts()
    check_counts(found.ingress, "", into)
    check_counts(found.egress, "-out", out)
    assert len(state(site.end).sets) == 1


# --- counters, frame by frame -----------------------------------------------------------------------------


def counted(site: Site) -> dict[tuple[str, bool], int]:
    """(name, retired) -> packets of ingress rules that have any."""
    rules = site.counts().ingress.rules
    found: Counter[tuple[str, bool]] = Counter()
    for rule in rules:
        found[rule.name, rule.retired] += rule.count.packets
    return {key: count for key, count in found.items() if count and key[0] != "always"}


def test_a_rule_that_keeps_name_and_meaning_keeps_counting_and_another_retires(site: Site) -> None:
    site.load(dropping(A))
    site.delivered(DROPPED, A, A, A)
    assert counted(site) == {("never", False): 1, ("toggle", False): 3}
    site.load(dropping(B))
    assert counted(site) == {("never", False): 1, ("toggle", True): 3}
    site.delivered(DROPPED, A, B)
    assert counted(site) == {("never", False): 2, ("toggle", True): 3, ("toggle", False): 1}
    site.rollback()
    assert counted(site) == {("never", False): 2, ("toggle", True): 1, ("toggle", False): 3}
    site.load(dropping(C))
    site.load(dropping(A))
    assert counted(site) == {("never", False): 2, ("toggle", True): 1, ("toggle", False): 3}


def test_slots_used_over_and_over_keep_every_count(site: Site) -> None:
    expected: Counter[int] = Counter()
    for number in range(12):
        port = TOGGLED[number % 4]
        site.load(dropping(port))
        site.delivered(*[port] * (number + 1))
        expected[port] += number + 1
    live = [rule.count.packets for rule in site.counts().ingress.rules if rule.name == "toggle"]
    assert sorted(live) == sorted(expected.values())
    assert site.counts().ingress.seen().packets == sum(expected.values()) + 12


def test_a_slot_is_written_only_after_a_grace_period(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    grace, write = maps.MapSet.grace, slots.write

    def noted_grace(found: maps.MapSet) -> None:
        grace(found)
        calls.append("grace")

    def noted_write(found: maps.MapSet, slot: int, data: bytes) -> None:
        calls.append("write")
        write(found, slot, data)

    site.load(dropping(A))
    monkeypatch.setattr(maps.MapSet, "grace", noted_grace)
    monkeypatch.setattr(slots, "write", noted_write)
    for port in TOGGLED:
        site.load(dropping(port))
    assert calls == ["grace", "write"] * 4


def test_counts_of_rules_that_were_never_confirmed_stay(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=600)
    site.delivered(B, B)
    site.rollback()
    site.delivered(A)
    site.load(dropping(C))
    site.load(dropping(D))
    assert counted(site) == {("toggle", True): 3}
    assert site.counts().ingress.seen().packets == 5


def test_counts_start_anew_after_unload(site: Site) -> None:
    site.load(dropping(A))
    site.delivered(A)
    site.unload()
    site.load(dropping(A))
    assert site.counts().ingress.seen() == Count(0, 0)


def test_the_frames_of_the_preflight_are_not_counted(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()  # the real preflight
    monkeypatch.setenv("SSH_CONNECTION", f"{site.peer.ipv4} 50000 {site.end.ipv4} 22")
    site.load(dropping(A))
    site.load(dropping(B))
    assert site.said[-1].startswith(f"{site.end.dev}: generation 3 is live")
    found = site.counts()
    assert (found.ingress.seen(), found.egress.seen()) == (Count(0, 0), Count(0, 0))
