"""Compares what a trace said with what the scripted connections know of themselves. Pure.

Every event must be right, or say that its process is unknown; none may be missing, wrong, or about something
that did not happen.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Container, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

Line = Mapping[str, Any]
Name = tuple[Any, ...]

_WHAT = ("event", "network.transport", "network.local.address", "network.local.port")
_PEER = ("network.peer.address", "network.peer.port")
_WHO = (
    "process.pid", "thread.id", "thread.name", "process.executable.path", "process.real_user.id", "gid",
    "process.parent_pid",
)  # fmt: skip
_SUMS = ("bytes_sent", "bytes_received", "packets_sent", "packets_received")
_NULL = dict.fromkeys(_WHO)


@dataclass(slots=True)
class Verdict:
    """Every expected event is ``right``, ``unknown`` (said to be, and nothing else claimed) or in ``faults``.

    ``without_peer``: right but for a peer that such probes cannot know; ``unseen``: what they cannot see.
    """

    right: int = 0
    unknown: list[str] = field(default_factory=list)
    without_peer: list[str] = field(default_factory=list)
    unseen: list[str] = field(default_factory=list)
    again: int = 0  # segments sent again, each of a connection of the script
    faults: list[str] = field(default_factory=list)


def judge(
    truth: Mapping[str, Any], lines: Iterable[Line], *, kprobes: bool, untold: Container[str] = ()
) -> Verdict:
    """``lines``: of ``trace --format json``, all of its namespaces; those of the script's are judged.

    ``untold``: events that the trace said it has no source for.
    """
    told: dict[Name, list[Line]] = defaultdict(list)
    again: list[Line] = []
    for line in lines:
        if line["event"] == "ledger" or line["netns"] != truth["netns"]:
            continue
        if line["event"] == "retransmit":
            again.append(line)
        else:
            told[_name(line)].append(line)
    verdict = Verdict()
    for expected in truth["events"]:
        if expected["event"] in untold:
            verdict.unseen.append(expected["_connection"])
            continue
        _one(verdict, expected, _dealt(told, expected, truth["events"]), kprobes)
    verdict.faults += [f"invented: {_show(line)}" for rest in told.values() for line in rest]
    _sent_again(verdict, truth["events"], again)
    return verdict


def parsed(output: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in output.splitlines()]


def _name(line: Line, peer: bool = True) -> Name:
    """What tells one event of the script from every other."""
    return (
        tuple(line[key] for key in _WHAT),
        tuple(line[key] for key in _PEER) if peer else (None,) * len(_PEER),
    )


def _dealt(told: dict[Name, list[Line]], expected: Line, events: Iterable[Line]) -> dict[Name, list[Line]]:
    """What was told, for one expected event.

    A slow machine may use a port again, once its former connection has been in TIME_WAIT for a second
    (tcp_tw_reuse on loopback): then each of both gets what is most like it.
    """
    name = _name(expected)
    alike = [event for event in events if _name(event) == name and event["event"] == expected["event"]]
    lines = told.get(name, [])
    if not 1 < len(lines) <= len(alike) or expected["network.transport"] != "tcp":
        return told
    own = min(lines, key=lambda line: sum(line.get(key) != value for key, value in expected.items()))
    told[name] = [line for line in lines if line is not own]
    return {name: [own]}


def _one(verdict: Verdict, expected: Line, told: dict[Name, list[Line]], kprobes: bool) -> None:
    connection = expected["_connection"]
    found = told.pop(_name(expected), [])
    if not found and not kprobes and "_needs" in expected:
        verdict.unseen.append(connection)
        return
    if not found and not kprobes and "_needs_for_peer" in expected:
        found = told.pop(_name(expected, peer=False), [])
        verdict.without_peer.append(connection)
    if not found:
        verdict.faults.append(f"missing: {connection}: {_show(expected)}")
        return
    line = found[0] if len(found) == 1 or expected["network.transport"] == "tcp" else _summed(found)
    if len(found) > 1 and line is found[0]:
        verdict.faults.append(f"told {len(found)} times: {connection}: {_show(expected)}")
    wanted = {key: value for key, value in expected.items() if not key.startswith("_") and key not in _PEER}
    if line["attribution"] == "unknown" != expected["attribution"]:
        verdict.unknown.append(f"{connection}: {expected['event']}")
        wanted |= {"attribution": "unknown"} | {key: None for key in _NULL if key in wanted}
    wrong = {key: (value, line[key]) for key, value in wanted.items() if line[key] != value}
    if wrong:
        verdict.faults.append(f"wrong: {connection}: {_show(line)}: (true, told): {wrong}")
    elif line["attribution"] == expected["attribution"]:
        verdict.right += 1


def _summed(lines: list[Line]) -> Line:
    """UDP is told in parts. A fact about which they differ is none."""
    whole: dict[str, Any] = {}
    for key, value in lines[0].items():
        values = [line[key] for line in lines]
        if key in _SUMS and value is not None:
            whole[key] = sum(values)
        else:
            whole[key] = value if values == [value] * len(values) else values
    return whole


def _sent_again(verdict: Verdict, events: Iterable[Line], again: Iterable[Line]) -> None:
    """No part of the script, but a slow machine sends again what was not lost: as its connection's owner."""
    owners: dict[Name, list[Line]] = defaultdict(list)
    for event in events:
        owners[_name({**event, "event": None})].append(event)
    for line in again:
        possible = owners.get(_name({**line, "event": None}), [])
        ids = ("process.pid", "thread.id")
        if line["attribution"] != "unknown" and not any(
            all(line[key] == one[key] for key in ids) for one in possible
        ):
            verdict.faults.append(f"wrong: sent again by another: {_show(line)}")
        verdict.again += 1


def _show(line: Line) -> str:
    ends = " ".join(str(line[key]) for key in (*_WHAT, *_PEER))
    return f"{ends} [{line['attribution']} {line.get('process.pid')} {line.get('thread.name')}]"
