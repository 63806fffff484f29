"""Real frames through a loaded interface: who is where, what arrived, what was counted.

Owns the lab's shape (client - server with the filter - sensor behind a redirect target), and the comparison
of counters: ``counted`` of a snapshot and ``expected`` of what was sent are dictionaries of one shape, so one
equality says that every counter is right and that no other one moved.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import lab as network
import pytest
from lab import Capture, End, Lab, Veth
from oracle import decide
from packets import Packet, arp, eth

from xdpguard.abi import reasons
from xdpguard.generation import compiled
from xdpguard.guard import verbs
from xdpguard.guard.load import load
from xdpguard.kernel import xdp
from xdpguard.rules.model import Action, RuleSet
from xdpguard.rules.parse import parse
from xdpguard.stats.model import HookCounts, InterfaceCounts
from xdpguard.stats.read import snapshot

HOOKS = ("ingress", "egress")
MODES = ("native", "generic")
SENTINEL = b"the last frame"
LAST = bytes(eth() / arp(2) / SENTINEL)
"""Passes whatever the default is (reason ``essential``); the stacks ignore it: it is not to their MAC."""

UNREADABLE = "malformed_unreadable"

Tally = dict[tuple[str, str], tuple[int, int]]
"""(what, name) -> (packets, bytes) of one hook; counters that are zero are left out."""


class Row(NamedTuple):
    """One frame of a table and what must happen to it, written by hand."""

    name: str
    frame: bytes
    decider: str
    action: Action
    protocol: str


@dataclass(frozen=True, slots=True)
class Net:
    """client -- server (the filter's place) -- sensor. ``target``: the server's device towards the sensor."""

    client: End
    server: End
    target: End
    sensor: End


def three(lab: Lab, *, mtu: int = 1500) -> Net:
    """Three namespaces that send nothing by themselves."""
    pair = lab.veth(ipv6=False, mtu=mtu)
    second = lab.veth(client=pair.server.name, ipv6=False, mtu=mtu)
    return Net(pair.client, pair.server, second.client, second.server)


def attach_pass(end: End, program: int) -> None:
    """A veth delivers native tx and redirect only where its peer has an XDP program."""
    network.inside(end.name, xdp.attach, end.ifindex, program, "native")


@dataclass(slots=True)
class Loaded:
    """The filter while it is loaded. ``said``: the lines that ``load`` said."""

    end: End
    rules: RuleSet
    mode: str
    said: list[str] = field(default_factory=list)

    def counts(self) -> InterfaceCounts:
        (one,) = snapshot(self.end.dev, self.end.name).interfaces
        assert (one.mode, one.interface, one.netns) == (self.mode, self.end.dev, self.end.name)
        for side in (one.ingress, one.egress):
            check_identity(side)
        return one

    def tallies(self) -> dict[str, Tally]:
        one = self.counts()
        return {"ingress": counted(one.ingress), "egress": counted(one.egress)}


@contextmanager
def loaded(end: End, text: str, mode: str) -> Iterator[Loaded]:
    """Load rules on one end by the real verb; unload at the end, also after a failure."""
    filter = Loaded(end, parse(text.encode(), "traffic.yaml", Path("/nonexistent")), mode)
    load(
        [end.dev], compiled.of(filter.rules), mode=mode, netns=end.name, confirm=None, force=False,
        say=filter.said.append, verbose=False,
    )  # fmt: skip
    try:
        yield filter
    finally:
        verbs.unload([end.dev], end.name, filter.said.append)


# ---- counters -------------------------------------------------------------------------------------------
def counted(side: HookCounts) -> Tally:
    found = {("action", name): count for name, count in side.actions.items()}
    found |= {("protocol", name): count for name, count in side.protocols.items()}
    found |= {("decider", name): count for name, count in side.reasons.items()}
    found |= {("decider", rule.name): rule.count for rule in side.rules}
    found["decider", "default"] = side.default
    return {key: (count.packets, count.bytes) for key, count in found.items() if count.packets or count.bytes}


def expected(rows: Iterable[Row]) -> Tally:
    """One packet of its whole length for each row."""
    found: Tally = {}
    for row in rows:
        names = (("action", row.action.name.lower()), ("protocol", row.protocol), ("decider", row.decider))
        for key in names:
            packets, size = found.get(key, (0, 0))
            found[key] = (packets + 1, size + len(row.frame))
    return found


LAST_ROW = Row("the last", LAST, "essential", Action.PASS, "arp")


def check_identity(side: HookCounts) -> None:
    """seen = sum of actions = sum of protocols = sum of rules + default + sum of reasons."""
    deciders = [rule.count for rule in side.rules] + [side.default, *side.reasons.values()]
    for part in (side.protocols.values(), deciders):
        assert sum(one.packets for one in part) == side.seen().packets
        assert sum(one.bytes for one in part) == side.seen().bytes


# ---- tables of rows -------------------------------------------------------------------------------------
every_hook = pytest.mark.parametrize("hook", HOOKS)
every_mode = pytest.mark.parametrize("mode", MODES)
every_place = pytest.mark.parametrize(
    ("hook", "mode"), [("ingress", "native"), ("ingress", "generic"), ("egress", "native")]
)
"""What a verdict can depend on: the mode is one of XDP, and TC egress has none."""
silent = pytest.mark.parametrize("veth", [{"ipv6": False}], indirect=True, ids=["veth"])


def text(rules: Sequence[str], *, default: str = "pass", head: str = "") -> str:
    """A rule file with the same rules at both hooks; the hook and a dash go before each rule's name."""
    lines = [f"version: 1\n{head}\ndefault: {{ingress: {default}, egress: {default}}}\n"]
    for hook in HOOKS:
        lines.append(f"{hook}:\n" if rules else f"{hook}: []\n")
        lines += [f"- {{name: {hook}-{rule}}}\n" for rule in rules]
    return "".join(lines)


def row(name: str, packet: Packet | bytes, decider: str, action: Action, protocol: str) -> Row:
    return Row(name, bytes(packet), decider, action, protocol)


def at(hook: str, table: Sequence[Row]) -> list[Row]:
    """The table with the rules' names at this hook: a decider with a dash in front is a rule of ``text``."""
    return [
        each._replace(decider=hook + each.decider) if each.decider.startswith("-") else each for each in table
    ]


# ---- traffic --------------------------------------------------------------------------------------------
def ways(net: Net | Veth, hook: str) -> tuple[End, End]:
    """(who sends, who receives) through a hook of the server."""
    return (net.client, net.server) if hook == "ingress" else (net.server, net.client)


def through(net: Net | Veth, hook: str, frames: Sequence[bytes]) -> list[bytes]:
    """Send frames and LAST through a hook; return what arrived behind it, in order."""
    source, sink = ways(net, hook)
    with network.capture(sink.name, sink.dev) as seen:
        network.send(source.name, source.dev, [*frames, LAST])
        return seen.until(SENTINEL)


def up_to_last(seen: Capture, sender: End) -> list[bytes]:
    """What a capture has, once a LAST sent towards it has come."""
    network.send(sender.name, sender.dev, [LAST])
    return seen.until(SENTINEL)


def check_rows(net: Net | Veth, hook: str, mode: str, text: str, rows: Sequence[Row]) -> None:
    """Every row's frame: decided as written here, by the oracle too; passed unchanged or gone; counted."""
    with loaded(net.server, text, mode) as filter:
        for row in rows:
            if row.decider == UNREADABLE:
                continue  # the oracle reads a whole frame
            assert decide(filter.rules, hook, row.frame) == (row.action, row.decider, row.protocol), row.name
        arrived = through(net, hook, [row.frame for row in rows])
        assert arrived == [row.frame for row in rows if row.action is Action.PASS]
        other = HOOKS[1 - HOOKS.index(hook)]
        assert filter.tallies() == {hook: expected([*rows, LAST_ROW]), other: {}}


def deciders(rows: Iterable[Row]) -> frozenset[str]:
    """Those among the rows that are reasons."""
    return frozenset(row.decider for row in rows) & frozenset(reasons())
