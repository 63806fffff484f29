"""Rates and sums between two snapshots, and the identity check."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_ui_samples import broken, hook, interface, later, snapshot

from xdpguard.stats.model import Count, RuleCount, Snapshot
from xdpguard.ui.identity import faults
from xdpguard.ui.rows import Rate, Row, collect, total


def row(now: Snapshot, before: Snapshot | None, kind: str, name: str) -> Row:
    [found] = [row for row in collect(now, before)[0].hooks[0].of(kind) if row.name == name]
    return found


def test_a_rate_is_per_second_and_counts_bits() -> None:
    before = snapshot()
    now = later(before, 2.0, drop=6, tcp=6, telnet=6)
    for kind, name in (("action", "drop"), ("protocol", "tcp"), ("rule", "telnet")):
        assert row(now, before, kind, name).rate == Rate(packets=3.0, bits=2400.0)
    assert collect(now, before)[0].hooks[0].seen.rate == Rate(3.0, 2400.0)
    assert collect(now, before)[0].hooks[1].seen.rate == Rate(0.0, 0.0)


def test_without_an_earlier_snapshot_there_is_no_rate() -> None:
    assert row(snapshot(), None, "action", "drop").rate is None


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_clock_that_stood_still_or_went_back_gives_no_rate(seconds: float) -> None:
    before = snapshot()
    assert row(later(before, seconds, drop=6), before, "action", "drop").rate is None


def test_counters_that_went_back_give_no_rate() -> None:
    before = snapshot()
    assert row(later(before, 1.0, drop=-1), before, "action", "drop").rate is None


def test_an_interface_that_came_back_with_another_ifindex_has_no_rate() -> None:
    before = snapshot()
    now = later(snapshot(interface(ifindex=8)), 1.0, drop=6)
    assert row(now, before, "action", "drop").rate is None


def test_the_same_interface_name_in_another_namespace_is_another_interface() -> None:
    before = snapshot(interface(netns="red"))
    assert row(later(snapshot(), 1.0), before, "action", "drop").rate is None


def test_after_a_reload_rules_have_no_rate_for_one_interval_and_actions_have() -> None:
    before = snapshot()
    now = later(snapshot(interface(generation=4)), 1.0, drop=6, telnet=6)
    assert row(now, before, "rule", "telnet").rate is None
    assert row(now, before, "action", "drop").rate == Rate(6.0, 4800.0)


def test_a_live_rule_never_takes_the_rate_of_a_retired_one_of_the_same_name() -> None:
    def with_rules(live: int, retired: int) -> Snapshot:
        rules = (RuleCount("a", "drop", Count(live)), RuleCount("a", "drop", Count(retired), retired=True))
        return snapshot(replace(interface(), ingress=replace(hook(), rules=rules)), time=float(live))

    rows = collect(with_rules(3, 100), with_rules(1, 100))[0].hooks[0].of("rule")
    assert [row.rate for row in rows] == [Rate(1.0, 0.0), Rate(0.0, 0.0)]


def test_a_total_has_a_rate_only_if_every_part_has() -> None:
    known = Row("rule", "a", "drop", Count(1, 10), Rate(1.0, 2.0))
    assert total("rules", [known, known]).rate == Rate(2.0, 4.0)
    assert total("rules", [known, replace(known, rate=None)]).rate is None
    assert total("rules", [known, known]).count == Count(2, 20)


def test_sums_that_differ_are_named_with_their_hook() -> None:
    [fault] = faults(broken())
    assert fault.startswith("veth0 (netns blue) ingress: THE COUNTERS DO NOT ADD UP: packets")
    assert "seen (sum of actions) 1990, sum of protocols 1990, rules + default + reasons 1989" in fault


def test_bytes_that_differ_are_a_fault_too() -> None:
    wrong = replace(interface(), egress=replace(hook(), default=Count(0, 1)))
    [fault] = faults(snapshot(wrong))
    assert "egress" in fault
    assert "bytes seen (sum of actions) 0, sum of protocols 0, rules + default + reasons 1" in fault
