"""On every kernel: a trace tells whose 101 scripted connections are, whatever CPU completes them.

Each kernel boots once for the smoke test and for this; trace_run.py says what is run. A run of all stages has
the oldest and the newest kernel only (lab_fixtures.py). How many owners were unknown stands at the end of
pytest's output.
"""

from __future__ import annotations

from collections import Counter

import pytest
from scripted_judge import Verdict
from trace_run import ACROSS, PLAIN, Traced, TraceRun
from vmlab.owned import ASKED

_RUNS = (PLAIN, ACROSS)
_EARLY = ["no route IPv4", "no route IPv6"]
_NOT_ASKED = ["UDP connected IPv4 not asked 0"]


@pytest.fixture(params=["kprobes", "tracepoints"])
def told(traced: TraceRun, request: pytest.FixtureRequest) -> Traced:
    """By kprobes, or on a kernel that has none."""
    found = getattr(traced, request.param)
    assert isinstance(found, Traced)
    return found


def verdict(told: Traced, name: str) -> Verdict:
    assert told.truths[name]["connections"] == 101
    return told.verdict(name)


def test_kprobes_lack_nothing(traced: TraceRun) -> None:
    assert traced.kprobes.kprobes
    assert traced.kprobes.untold == []
    assert "warning" not in traced.kprobes.told


@pytest.mark.parametrize("name", _RUNS)
def test_every_event_is_exact_under_kprobes(traced: TraceRun, name: str) -> None:
    found = verdict(traced.kprobes, name)
    assert found.faults == []
    assert (found.unknown, found.without_peer, found.unseen) == ([], [], [])
    assert found.right == len(traced.kprobes.truths[name]["events"])


@pytest.mark.parametrize("name", _RUNS)
def test_tracepoints_alone_lack_what_they_say_that_they_lack(traced: TraceRun, name: str) -> None:
    """No connect() that fails early, no peer that nobody asks for, and before Linux 6.3 no UDP."""
    told = traced.tracepoints
    found = verdict(told, name)
    udp = {one["_connection"] for one in told.truths[name]["events"] if one["event"] in told.untold}
    assert not told.kprobes
    assert set(told.untold) in (set(), {"udp-send", "udp-recv"})
    assert all(f"{event}: this kernel has neither" in told.told for event in told.untold)
    assert (found.faults, found.unknown) == ([], [])
    assert set(found.unseen) == {*_EARLY, *udp}
    assert found.without_peer == ([] if told.untold else _NOT_ASKED)


@pytest.mark.parametrize("kprobes", [True, False], ids=["kprobes", "tracepoints"])
def test_what_another_cpu_completes_was_steered_there(traced: TraceRun, kprobes: bool) -> None:
    """All of the script ran on CPU 0, all packets were received on CPU 1, where another process ran."""
    assert traced.steered[kprobes] > 101


def test_segments_sent_again_are_told_with_the_process_that_sends(traced: TraceRun) -> None:
    """By `trace -r`. A rule of ours drops at the peer's TC egress what would have acknowledged them."""
    who, count = traced.sender["who"], traced.sender["sent_again"]
    told = traced.again.lines[:-1]
    assert count >= 2
    assert len(told) >= count
    assert {one["event"] for one in told} == {"retransmit"}
    assert [one for one in told if not who.items() <= one.items()] == []
    assert {one["attribution"] for one in told} == {"exact"}


@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_packets_are_those_of_the_process_whose_connection_the_trace_told(
    traced: TraceRun, hook: str
) -> None:
    """All but those that pass before it can be known whose they are: the SYN, or its answer."""
    assert traced.owned is not None
    found = traced.owned.packets(hook)
    assert found.keys() <= {traced.owned.pid, "(kernel)", "(unknown)"}
    assert found[traced.owned.pid] >= ASKED
    assert found.get("(unknown)", 0) <= 1
    assert sum(found.values()) == traced.owned.seen(hook)


def test_every_event_is_in_the_ledger(told: Traced) -> None:
    ledger = told.lines[-1]
    seen: Counter[str] = Counter()
    for event in told.lines[:-1]:
        datagrams = event["network.transport"] == "udp"
        seen[event["event"]] += (event["packets_sent"] or event["packets_received"]) if datagrams else 1
    assert ledger["adds_up"]
    # A kernel that preempts a process inside bpf() runs no probe on that CPU meanwhile, and counts those that
    # it leaves out, also where they had nothing to tell. Whether the script lost any event, the judge says.
    assert set(ledger["lost"]) <= {"missed"}
    assert seen == {kind: one["emitted"] for kind, one in ledger["kinds"].items() if one["emitted"]}
