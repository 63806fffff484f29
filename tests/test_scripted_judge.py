"""The judge of the scripted connections: what it must not let pass."""

from __future__ import annotations

from typing import Any

import pytest
from scripted_judge import Verdict, judge

NETNS = 4026531840
WHO = {"process.pid": 10, "thread.id": 11, "thread.name": "curl"}
ENDS = {
    "network.local.address": "127.0.0.1",
    "network.local.port": 4000,
    "network.peer.address": "127.0.0.1",
    "network.peer.port": 80,
}
CONNECT = {"event": "connect", "attribution": "exact", "network.transport": "tcp", **ENDS, **WHO}
SENT = {**CONNECT, "event": "udp-send", "network.transport": "udp", "packets_sent": 3, "bytes_sent": 15}
GOT = {**CONNECT, "event": "udp-recv", "network.transport": "udp"}
NOBODY = {"attribution": "unknown", **dict.fromkeys(WHO)}
NO_PEER = {"network.peer.address": None, "network.peer.port": None}


def judged(expected: list[dict[str, Any]], told: list[dict[str, Any]], *, kprobes: bool = True) -> Verdict:
    events = [{"_connection": "one", **one} for one in expected]
    lines = [{"netns": NETNS, **line} for line in told]
    return judge({"netns": NETNS, "events": events}, [*lines, {"event": "ledger"}], kprobes=kprobes)


def test_what_is_told_as_it_was_is_right() -> None:
    found = judged([CONNECT, SENT], [{**CONNECT, "incoming": False}, SENT])
    assert (found.right, found.faults, found.unknown) == (2, [], [])


@pytest.mark.parametrize("wrong", [{"process.pid": 9}, {"thread.name": "sh"}, {"attribution": "late"}])
def test_another_owner_is_a_fault(wrong: dict[str, Any]) -> None:
    found = judged([CONNECT], [CONNECT | wrong])
    assert (found.right, len(found.faults)) == (0, 1)


def test_a_process_that_is_said_to_be_unknown_is_no_fault_but_is_told() -> None:
    found = judged([CONNECT], [CONNECT | NOBODY])
    assert (found.right, found.faults, found.unknown) == (0, [], ["one: connect"])


def test_an_unknown_owner_with_a_process_is_a_fault() -> None:
    assert judged([CONNECT], [{**CONNECT, "attribution": "unknown"}]).faults


def test_a_process_where_nobody_can_be_is_a_fault() -> None:
    assert judged([CONNECT | NOBODY], [CONNECT]).faults
    assert judged([CONNECT | NOBODY], [CONNECT | NOBODY]).right == 1


def test_two_connections_of_the_same_ends_each_get_what_was_told_of_their_process() -> None:
    other = {**CONNECT, "process.pid": 12, "thread.id": 13}
    found = judged([CONNECT, other], [other, CONNECT])
    assert (found.right, found.faults) == (2, [])
    assert judged([CONNECT, other], [CONNECT, CONNECT]).faults
    assert judged([CONNECT, other], [CONNECT]).faults


@pytest.mark.parametrize("told", [[], [CONNECT, CONNECT], [CONNECT, {**CONNECT, "network.local.port": 4001}]])
def test_a_missing_a_doubled_and_an_invented_event_are_faults(told: list[dict[str, Any]]) -> None:
    assert len(judged([CONNECT], told).faults) == 1


def test_another_namespace_is_not_judged() -> None:
    assert judged([CONNECT], [CONNECT, {**CONNECT, "netns": 1}]).faults == []


def test_datagrams_may_be_told_in_parts_by_the_same_process() -> None:
    parts = [SENT | {"packets_sent": 1, "bytes_sent": 5}, SENT | {"packets_sent": 2, "bytes_sent": 10}]
    assert judged([SENT], parts).right == 1
    assert judged([SENT], parts[:1]).faults
    assert judged([SENT], [parts[0], parts[1] | {"process.pid": 9}]).faults


def test_what_only_kprobes_see_may_be_missing_without_them_only() -> None:
    early = CONNECT | {"_needs": "kprobe"}
    assert judged([early], []).faults
    assert judged([early], [], kprobes=False).unseen == ["one"]
    nameless = GOT | {"_needs_for_peer": "kprobe"}
    assert judged([nameless], [GOT | NO_PEER]).faults
    assert judged([nameless], [GOT | NO_PEER], kprobes=False).without_peer == ["one"]


def test_what_the_trace_has_no_source_for_must_be_missing() -> None:
    def judged_without(told: list[dict[str, Any]]) -> Verdict:
        truth = {"netns": NETNS, "events": [{"_connection": "one", **SENT}]}
        return judge(truth, [{"netns": NETNS, **one} for one in told], kprobes=False, untold={"udp-send"})

    assert (judged_without([]).unseen, judged_without([]).faults) == (["one"], [])
    assert judged_without([SENT]).faults


def test_a_segment_sent_again_must_be_of_its_connections_owner() -> None:
    again = CONNECT | {"event": "retransmit"}
    assert (judged([CONNECT], [CONNECT, again]).faults, judged([CONNECT], [CONNECT, again]).again) == ([], 1)
    assert judged([CONNECT], [CONNECT, again | NOBODY]).faults == []
    assert judged([CONNECT], [CONNECT, again | {"process.pid": 9}]).faults
