"""One run of the benchmark: what it shares, and what it has found so far."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

import generator
import public_sets
from figures import BARS, Row, number
from filterset import Filters
from harness import Harness


@dataclass(frozen=True, slots=True)
class Table:
    """For the report: shown as it is. ``words`` stand above it."""

    title: str
    words: str
    heads: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(slots=True)
class Study:
    """``curves``: panel -> contender -> [(rules, ns)]. ``failures``: what could not be done, and why."""

    quick: bool
    harness: Harness
    rows: dict[str, Row] = field(default_factory=dict)
    tables: list[Table] = field(default_factory=list)
    curves: dict[str, dict[str, list[tuple[int, float]]]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    began: float = field(default_factory=time.monotonic)

    @property
    def rounds(self) -> int:
        return 5 if self.quick else 9

    @property
    def times(self) -> int:
        """Runs of a whole command."""
        return 1 if self.quick else 5

    @property
    def working_sets(self) -> tuple[int, ...]:
        return (256, 65_536) if self.quick else (1, 256, 4_096, 65_536)

    def say(self, text: str) -> None:
        print(f"{time.monotonic() - self.began:6.0f} s  {text}", flush=True)

    def answer(self, key: str, value: float | None, note: str = "") -> None:
        self.rows[key] = Row(key, value, note)
        figure, shown, bar, verdict, _ = self.rows[key].words()
        said = f"{figure}: {shown} ({bar}): {verdict}".replace("*", "")
        self.say(f"  {said}{f'; {note}' if note else ''}")

    def mean(self, key: str, values: Iterable[float]) -> None:
        """The row of an average over filter sets, and of the worst if there is a row for it."""
        found = list(values)
        if not found:
            self.answer(key, None, "no set could be measured")
            return
        self.answer(key, sum(found) / len(found), f"{len(found)} sets, worst {number(max(found))}")
        if f"{key} worst" in BARS:
            self.answer(f"{key} worst", max(found))

    def curve(self, panel: str, contender: str, rules: int, nanoseconds: float) -> None:
        self.curves.setdefault(panel, {}).setdefault(contender, []).append((rules, nanoseconds))

    def attempt(self, what: str, step: Callable[[], None]) -> None:
        """A step whose failure is told and ends nothing but itself."""
        self.say(what)
        try:
            step()
        except KeyboardInterrupt:
            raise
        except Exception as error:  # whatever it is: the other figures are still wanted
            reason = f"{what}: {type(error).__name__}: {error}"
            self.failures.append(reason)
            print(f"FAILED: {reason}", file=sys.stderr, flush=True)

    def holes(self) -> None:
        """A row for every figure that was not answered."""
        for key in BARS:
            self.rows.setdefault(key, Row(key, None, "its measurement failed or was left out: see below"))

    # ---- filter sets --------------------------------------------------------------------------------------

    def public_sets(self, rules: int) -> list[Filters]:
        """ClassBench's acl1, fw1 and ipc1, where they are: cut, or enlarged, to ``rules``."""
        folder = public_sets.folder()
        if folder is None:
            return []
        found = []
        for name in ("acl1", "fw1", "ipc1"):
            one = public_sets.read(folder / f"{name}_10k")
            found.append(public_sets.enlarged(one, rules) if rules > 10_000 else one.first(rules))
        return found

    def own_sets(self, rules: int) -> list[Filters]:
        shapes = ("acl1", "fw1", "ipc1") if self.quick else tuple(generator.SHAPES)
        return [generator.generate(shape, rules) for shape in shapes]

    def three(self, rules: int) -> list[Filters]:
        """acl1, fw1, ipc1: public ones if there are any. In a quick run acl1 alone."""
        found = self.public_sets(rules) or [generator.generate(one, rules) for one in ("acl1", "fw1", "ipc1")]
        return found[:1] if self.quick else found
