"""Which rule of a set decides each frame, asked of the shipped programs by BPF_PROG_TEST_RUN.

That an answer was remembered shows when the tables say something else meanwhile (``poison``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

from oracle import matches as holds
from oracle import read
from test_verdicts_support import Judge

from xdpguard.abi import abi
from xdpguard.kernel import testrun
from xdpguard.rules.model import Action, Hook, Match, Rule, RuleSet

NUMBERS = abi().numbers
CONTEXT = {"ingress": b"", "egress": bytes(192)}
HOOKS = ("ingress", "egress")
DEFAULT = -1


class Deciders:
    """One rule set in kept maps; tells which rule decided each frame."""

    def __init__(self, ruleset: RuleSet) -> None:
        self.judge = Judge(ruleset)
        self._counts = self.judge._counts

    def close(self) -> None:
        self.judge.close()

    def use(self, ruleset: RuleSet) -> None:
        self.judge.use(ruleset)

    def rules(self, hook: str, frames: Iterable[bytes], expected: Sequence[int]) -> list[int]:
        """Indices of the frames that something else decided than expected (DEFAULT: no rule)."""
        number = HOOKS.index(hook)
        program = (self.judge.bench.programs.ingress, self.judge.bench.programs.egress)[number].fd
        base = self.judge.first(number)
        wrong = []
        for at, (frame, rule) in enumerate(zip(frames, expected, strict=True)):
            cell = base + (
                NUMBERS["XG_COUNT_DEFAULT"] if rule == DEFAULT else NUMBERS["XG_COUNT_RULES"] + rule
            )
            before = self._counts[2 * cell]
            testrun.prog_test_run(program, frame, context=CONTEXT[hook])
            if self._counts[2 * cell] != before + 1:
                wrong.append(at)
        return wrong

    def poison(self, hook: str, rule: int) -> None:
        """From now on the tables say that this rule takes every IP packet, so no later one is looked for."""
        base = abi().offset("xg_blob.hook") + HOOKS.index(hook) * abi().structs["xg_hook"].size
        memory = self.judge.bench.maps.blob(1)
        for family in ("ipv4", "ipv6"):
            at = base + abi().offset(f"xg_hook.{family}")
            abi().put(memory, "xg_addresses.fallback", rule, at)
        memory.close()


def rule(name: str, match: Match, action: Action = Action.DROP) -> Rule:
    return Rule(name, action, match, None, name.encode().hex().rjust(32, "0"), 1, 1)


def chain(*matches: Match) -> RuleSet:
    hook = Hook(Action.PASS, tuple(rule(f"r{at}", match) for at, match in enumerate(matches)))
    return RuleSet("flows.yaml", hook, hook)


def expected(ruleset: RuleSet, frames: Iterable[bytes]) -> list[int]:
    """By the oracle."""
    packets = [read(frame) for frame in frames]
    return [
        next((at for at, each in enumerate(ruleset.ingress.rules) if holds(each.match, packet)), DEFAULT)
        for packet in packets
    ]
