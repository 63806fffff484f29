"""On every kernel: kprobes tell whose 101 scripted connections are, whatever CPU completes them.

Each kernel boots once for the smoke test and for this (lab_fixtures.py); trace_run.py says what is run.
"""

from __future__ import annotations

from collections import Counter

import pytest
from scripted_judge import Verdict
from trace_run import ACROSS, PLAIN, TraceRun

pytestmark = pytest.mark.whole_lab

_RUNS = (PLAIN, ACROSS)


def verdict(traced: TraceRun, name: str) -> Verdict:
    assert traced.truths[name]["connections"] == 101
    return traced.verdict(name)


def test_the_events_come_from_kprobes_which_lack_nothing(traced: TraceRun) -> None:
    assert traced.kprobes
    assert "warning" not in traced.told


@pytest.mark.parametrize("name", _RUNS)
def test_every_event_is_exact(traced: TraceRun, name: str) -> None:
    found = verdict(traced, name)
    assert found.faults == []
    assert (found.unknown, found.without_peer, found.unseen) == ([], [], [])
    assert found.right == len(traced.truths[name]["events"])


def test_what_another_cpu_completes_was_steered_there(traced: TraceRun) -> None:
    """All of the script ran on CPU 0, all packets were received on CPU 1, where another process ran."""
    assert traced.steered > 101


def test_segments_sent_again_are_told_with_the_process_that_sends(traced: TraceRun) -> None:
    who, count = traced.sender["who"], traced.sender["sent_again"]
    told = [one for one in traced.lines if one["event"] == "retransmit" and who.items() <= one.items()]
    assert count >= 2
    assert len(told) >= count
    assert {one["attribution"] for one in told} == {"exact"}


def test_every_event_is_in_the_ledger(traced: TraceRun) -> None:
    ledger = traced.lines[-1]
    told: Counter[str] = Counter()
    for event in traced.lines[:-1]:
        datagrams = event["network.transport"] == "udp"
        told[event["event"]] += (event["packets_sent"] or event["packets_received"]) if datagrams else 1
    assert (ledger["adds_up"], ledger["lost"]) == (True, {})
    assert told == {kind: one["emitted"] for kind, one in ledger["kinds"].items() if one["emitted"]}
