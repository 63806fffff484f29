"""101 scripted connections of every sort: each event is told right or said to be unknown, none invented."""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import scripted_connections
from lab import Lab
from scripted_judge import Verdict, judge
from trace_command import Said, traced

from xdpguard.kernel import netns

SCRIPT = Path(scripted_connections.__file__)


@dataclass(slots=True)
class Case:
    """One run of the script under a trace."""

    truth: dict[str, Any]
    said: Said
    verdict: Verdict


@pytest.fixture(scope="module")
def case(clean_host: None, tmp_path_factory: pytest.TempPathFactory) -> Case:
    truth = tmp_path_factory.mktemp("scripted") / "truth.json"
    lab = Lab("scripted connections")
    try:
        ns = lab.namespace("script")
        with traced("--netns", ns) as said:
            inside = ["nsenter", f"--net={netns.FOLDER / ns}", sys.executable, "-E", "-S"]
            subprocess.run([*inside, str(SCRIPT), str(truth)], check=True, timeout=100)
    finally:
        lab.close()
    found = json.loads(truth.read_text())
    return Case(found, said, judge(found, said.events, kprobes=said.kprobes))


def test_the_script_makes_101_connections(case: Case) -> None:
    assert case.truth["connections"] == 101


def test_no_event_is_wrong_missing_or_invented(case: Case) -> None:
    assert case.verdict.faults == []


def test_no_process_is_unknown_that_this_kernel_can_tell(case: Case) -> None:
    assert case.verdict.unknown == []


def test_what_the_probes_lack_is_what_they_say_that_they_lack(case: Case) -> None:
    """Without kprobes: no connect() that fails early, and no peer that the process does not ask for."""
    verdict, told = case.verdict, case.said.errors
    if case.said.kprobes:
        assert (verdict.unseen, verdict.without_peer) == ([], [])
        assert "warning" not in told
    else:
        assert verdict.unseen == ["no route IPv4", "no route IPv6"]
        assert verdict.without_peer == ["UDP connected IPv4 not asked 0"]
        assert "without kprobes a connect() that fails before a packet is sent" in told
        assert "udp-recv: no peer where the socket is not connected" in told


def test_every_event_is_in_the_ledger(case: Case) -> None:
    """Seen is what the script did: of UDP each datagram, of everything else each line."""
    ledger = case.said.ledger
    assert (ledger["adds_up"], ledger["lost"]) == (True, {})
    told: Counter[str] = Counter()
    for event in case.said.events:
        datagrams = event["network.transport"] == "udp"
        told[event["event"]] += (event["packets_sent"] or event["packets_received"]) if datagrams else 1
    assert told == {kind: one["emitted"] for kind, one in ledger["kinds"].items() if one["emitted"]}
