"""The shipped programs judged against the oracle, fast: one test run and four counter reads a frame.

Owns ``Judge``: programs and maps that are kept while rule sets change. What it must never do is excuse a
difference: verdict, decider, protocol, bytes counted and bytes of the frame afterwards must all agree.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import pytest
from kept_run import KeptRun
from oracle import Verdict, decide
from programs import Bench, can_run

from xdpguard.abi import abi, reasons
from xdpguard.classify.compile import build
from xdpguard.classify.tables import Target, first_counter
from xdpguard.generation import slots
from xdpguard.kernel import bpf
from xdpguard.rules.model import Action, Redirect, RuleSet
from xdpguard.stats.model import PROTOCOLS

_NUMBERS = abi().numbers
_ACTIONS, _REASONS = _NUMBERS["XG_ACTIONS"], _NUMBERS["XG_COUNT_REASONS"]
_DEFAULT, _RULES = _NUMBERS["XG_COUNT_DEFAULT"], _NUMBERS["XG_COUNT_RULES"]
HOOKS = ("ingress", "egress")
# Without a context the kernel's test run of TC says that a packet has no bytes on the wire.
_CONTEXT = {"ingress": b"", "egress": bytes(192)}
# uapi/linux/pkt_cls.h: TC_ACT_UNSPEC, _SHOT, _REDIRECT
_TC = {Action.PASS: 0xFFFFFFFF, Action.DROP: 2, Action.ABORTED: 2, Action.TX: 7, Action.REDIRECT: 7}

PRESENT, GONE = 1, 0x7FFF0000
TARGETS = {"ids0": Target(PRESENT, bytes.fromhex("02000000aa00")), "ids1": Target(GONE, b"\2\0\0\0\xaa\1")}
"""Redirect targets of tests/strategies.py. ids1 is not in the device map, as after it has vanished."""


class Disagreement(AssertionError):
    """The programs and the oracle differ about one frame."""


@dataclass(slots=True)
class Met:
    """What a comparison has met, so that a test can tell that it was not empty."""

    pairs: int
    deciders: set[str]
    actions: set[Action]
    protocols: set[str]

    def add(self, other: Met) -> None:
        self.pairs += other.pairs
        self.deciders |= other.deciders
        self.actions |= other.actions
        self.protocols |= other.protocols


@pytest.fixture(scope="module", autouse=True)
def one_cpu() -> Iterator[None]:
    """Counters are per CPU: on one CPU each frame moves known cells. Autouse where it is imported."""
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    yield
    os.sched_setaffinity(0, allowed)


def nothing_met() -> Met:
    return Met(0, set(), set(), set())


def runnable(hook: str, frames: Iterable[bytes]) -> list[bytes]:
    """The frames, with zeros behind those that the kernel's test run would refuse."""
    return [frame if can_run(hook, frame) else frame.ljust(60, b"\0") for frame in frames]


def expected_frame(verdict: Verdict, redirect: Redirect | None, frame: bytes) -> bytes:
    """The bytes afterwards: tx swaps the MACs, redirect with dst_mac sets both, nothing else changes any."""
    if verdict.action is Action.TX:
        return frame[6:12] + frame[:6] + frame[12:]
    if redirect is not None and redirect.dst_mac is not None:
        return redirect.dst_mac + TARGETS[redirect.interface].mac + frame[12:]
    return frame


def expected_action(verdict: Verdict, redirect: Redirect | None) -> Action:
    """A redirect to a device that is not in the device map is aborted."""
    if redirect is not None and TARGETS[redirect.interface].ifindex == GONE:
        return Action.ABORTED
    return verdict.action


class Judge:
    """Kept maps and programs. The calling thread must stay on one CPU (fixture ``one_cpu``)."""

    def __init__(self, largest: RuleSet, *, l3: bool = False, account_owners: bool = False) -> None:
        """``largest``: its tables set the size class, and no later rule set may need more."""
        self.bench = Bench(largest, l3=l3, targets=TARGETS, account_owners=account_owners)
        self.l3 = l3
        index = PRESENT.to_bytes(4, "little")
        bpf.map_update(self.bench.maps.fds["targets"], index, index)
        self._memory = self.bench.maps.counters(1)
        cpu = self.bench.maps.size.counter_at(min(os.sched_getaffinity(0)), 0)
        words = self.bench.maps.size.counters * 2
        self._counts = memoryview(self._memory)[cpu : cpu + words * 8].cast("Q")
        both = (self.bench.programs.ingress, self.bench.programs.egress)
        self._runs = [KeptRun(program.fd, _CONTEXT[hook]) for program, hook in zip(both, HOOKS, strict=True)]

    def close(self) -> None:
        self._counts.release()
        self._memory.close()
        self.bench.close()

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def first(self, number: int) -> int:
        """Of a hook: the number of its first counter."""
        rules = self.bench.ruleset
        return first_counter(number, (len(rules.ingress.rules), len(rules.egress.rules)))

    def use(self, ruleset: RuleSet) -> None:
        tables = build(ruleset, 2, TARGETS)
        size = self.bench.maps.size
        assert len(tables.blob) <= size.blob_bytes
        assert tables.counters <= size.counters
        slots.write(self.bench.maps, 1, tables.blob.tobytes())
        self.bench.ruleset = ruleset

    def compare(self, hook: str, frames: Sequence[bytes]) -> Met:
        """Every frame through the hook's program and through the oracle. Raises Disagreement."""
        ruleset, number = self.bench.ruleset, HOOKS.index(hook)
        chain = (ruleset.ingress, ruleset.egress)[number]
        deciders = {name: _REASONS + at for at, name in enumerate(reasons())} | {"default": _DEFAULT}
        deciders |= {rule.name: _RULES + at for at, rule in enumerate(chain.rules)}
        redirects = {rule.name: rule.redirect for rule in chain.rules if rule.redirect is not None}
        run, counts, met = self._runs[number].run, self._counts, nothing_met()
        expected = counts.tolist()
        cells = {name: at * _ACTIONS for at, name in enumerate(PROTOCOLS)}
        base, ethernet = self.first(number), not self.l3
        for frame in frames:
            verdict = decide(ruleset, hook, frame, ethernet=ethernet)
            redirect = redirects.get(verdict.decider)
            action = expected_action(verdict, redirect)
            returned, left = run(frame)
            cell, decider = (
                2 * (base + cells[verdict.protocol] + action),
                2 * (base + deciders[verdict.decider]),
            )
            for place in (cell, decider):
                expected[place] += 1
                expected[place + 1] += len(frame)
            if (
                counts[cell] != expected[cell]
                or counts[cell + 1] != expected[cell + 1]
                or counts[decider] != expected[decider]
                or counts[decider + 1] != expected[decider + 1]
                or left != expected_frame(verdict, redirect, frame)
                or returned != (action if number == 0 else _TC[action])
            ):
                raise self._differs(hook, frame, verdict, returned, left)
            met.deciders.add(verdict.decider)
            met.actions.add(action)
            met.protocols.add(verdict.protocol)
        if counts.tolist() != expected:
            raise Disagreement(f"{hook}: other counters moved than those that decide")
        met.pairs = len(frames)
        return met

    def _differs(self, hook: str, frame: bytes, verdict: Verdict, returned: int, left: bytes) -> Disagreement:
        """The whole case in words. The frame is run once more, alone, for its decider."""
        try:
            alone: object = self.bench.run(hook, frame, context=_CONTEXT[hook])
        except (AssertionError, ValueError) as error:
            alone = f"counters are wrong: {error}"
        rules = (self.bench.ruleset.ingress, self.bench.ruleset.egress)[HOOKS.index(hook)].rules
        named = [rule for rule in rules if rule.name in (verdict.decider, getattr(alone, "decider", ""))]
        shown = rules if len(rules) <= 10 else named
        return Disagreement(
            f"{hook}{' of an L3 device' if self.l3 else ''}, frame {frame.hex()}\n"
            f"oracle:  {verdict}\n"
            f"program: {alone}\n"
            f"first run returned {returned:#x}, frame {left.hex()}\n"
            f"malformed {self.bench.ruleset.malformed.name}, "
            f"drop_fragments {self.bench.ruleset.drop_fragments}; rules ({len(shown)} of {len(rules)}):\n"
            + "\n".join(repr(rule) for rule in shown)
        )


def for_l3_device(ruleset: RuleSet) -> RuleSet:
    """The rule set as a device without Ethernet header may have it: ``load`` refuses redirects there."""

    ingress, egress = (
        replace(
            hook,
            rules=tuple(
                replace(rule, action=Action.TX, redirect=None) if rule.redirect is not None else rule
                for rule in hook.rules
            ),
        )
        for hook in (ruleset.ingress, ruleset.egress)
    )
    return replace(ruleset, ingress=ingress, egress=egress)
