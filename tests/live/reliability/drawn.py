"""Many pairs of a rule set and a frame, judged by as many processes as there are CPUs.

Owns how pairs are drawn and shared out; ``Judge`` compares them. A process stays on one CPU, and what it
draws depends on the seed and the number of a rule set only, not on how many processes there are.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from itertools import islice
from multiprocessing import get_context
from random import Random
from typing import NamedTuple

import lab
from corpus import CORPUS, DENY_DEFAULT
from strategies import edge_packets, mutated, random_rule_file, random_ruleset
from test_verdicts_support import HOOKS, Disagreement, Judge, Met, for_l3_device, nothing_met, runnable

from xdpguard.rules.model import RuleSet
from xdpguard.rules.parse import parse

SEED = int(os.environ.get("XDPGUARD_TEST_SEED", "20"))
Draw = Callable[[Random], tuple[RuleSet, str]]


class Row(NamedTuple):
    """``rules`` on each hook; ``frames`` drawn a hook and rule set, ``mutants`` damaged copies of each."""

    name: str
    rules: int
    from_file: bool
    sets: int
    frames: int
    mutants: int

    @property
    def pairs(self) -> int:
        return self.sets * self.frames * (1 + self.mutants) * len(HOOKS)

    def draw(self, rng: Random) -> tuple[RuleSet, str]:
        """A rule set, and the file that says it if it came by way of the parser.

        ids0 is the only redirect target that these files name.
        """
        if not self.from_file:
            return random_ruleset(rng, self.rules), ""
        text = random_rule_file(rng, self.rules)
        return parse(text.encode(), "drawn.yaml", lab.PINS), text


def largest(rules: int) -> RuleSet:
    """As big as any drawn one: several draws in one."""
    return random_ruleset(Random(0), rules * 4 + 40)


def compare_drawn(judge: Judge, row: Row, part: int = 0, parts: int = 1) -> Met:
    """Every ``parts``-th rule set of the row, from number ``part`` on, at both hooks."""
    met = nothing_met()
    for index in range(part, row.sets, parts):
        seed = f"{SEED}/{row.name}/{index}"
        rng = Random(seed)
        ruleset, text = row.draw(rng)
        if judge.l3:
            ruleset = for_l3_device(ruleset)
        judge.use(ruleset)
        for hook in HOOKS:
            drawn = edge_packets(ruleset, hook, rng, row.frames)
            drawn += [mutated(frame, rng) if frame else frame for frame in drawn * row.mutants]
            if judge.l3:
                drawn = [frame[14:] for frame in drawn]
            try:
                met.add(judge.compare(hook, runnable(hook, drawn)))
            except Disagreement as error:
                raise Disagreement(f"seed {seed!r} (XDPGUARD_TEST_SEED={SEED})\n{error}\n{text}") from None
    return met


# ---- every damage to every frame of the corpus ------------------------------------------------------------
LONGEST = 120  # bytes; a longer frame is cut within these only
FLIPPED = 78  # bytes: Ethernet, a tag, IPv6 and TCP


def damaged(frame: bytes) -> Iterator[bytes]:
    """The frame cut to every length, then with each bit of its headers flipped."""
    yield from (frame[:length] for length in range(14, min(len(frame), LONGEST)))
    whole, bits = int.from_bytes(frame, "big"), len(frame) * 8
    for bit in range(1, min(len(frame), FLIPPED) * 8 + 1):
        yield (whole ^ 1 << bits - bit).to_bytes(len(frame), "big")


def every_damage() -> Iterator[bytes]:
    return (each for case in CORPUS for each in damaged(case.frame))


def compare_damaged(judge: Judge, part: int, parts: int) -> Met:
    """Under a default of drop, where a pass shows: both hooks."""
    met, frames = nothing_met(), list(islice(every_damage(), part, None, parts))
    judge.use(DENY_DEFAULT)
    for hook in HOOKS:
        met.add(judge.compare(hook, runnable(hook, frames)))
    return met


# ---- processes --------------------------------------------------------------------------------------------
@contextmanager
def workers() -> Iterator[tuple[ProcessPoolExecutor, int]]:
    """A process for each CPU that this one may use, and their number."""
    context, cpus = get_context("spawn"), sorted(os.sched_getaffinity(0))
    free = context.Queue()
    for cpu in cpus:
        free.put(cpu)
    with ProcessPoolExecutor(len(cpus), context, initializer=_stay, initargs=(free,)) as pool:
        yield pool, len(cpus)


def _stay(free: object) -> None:
    os.sched_setaffinity(0, {free.get()})  # type: ignore[attr-defined]


def part_of_row(namespace: str, row: Row, l3: bool, part: int, parts: int) -> Met:
    with lab.inside(namespace, Judge, largest(row.rules), l3=l3) as judge:
        return compare_drawn(judge, row, part, parts)


def part_of_damage(namespace: str, part: int, parts: int) -> Met:
    with lab.inside(namespace, Judge, DENY_DEFAULT) as judge:
        return compare_damaged(judge, part, parts)


def together(parts: Iterable[Met]) -> Met:
    met = nothing_met()
    for each in parts:
        met.add(each)
    return met
