"""Figures of the classifier by test runs: filter sets, sizes, families, traces, adversaries."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import adversaries
import generator
import numpy as np
import prototype
import traces
from contenders import Ours, Tries
from filterset import Filters, Headers, first_match, ruleset
from harness import Program
from study import Study, Table

from xdpguard.errors import RulesError
from xdpguard.rules.model import Action

_CHECKED = 256
_PROTOTYPE_RULES = 10_000  # of some larger sets it cannot make tables
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Measured:
    """``added``: working set -> contender -> ns."""

    filters: Filters
    ours: Ours
    added: dict[int, dict[str, float]]

    def ratio(self, flows: int, other: str) -> float:
        return self.added[flows]["xdpguard"] / self.added[flows][other]


def check(study: Study, filters: Filters, ours: Ours, headers: Headers) -> None:
    """Verdicts against a look at every rule; a wrong one ends the measurement of the set."""
    some = headers.take(np.arange(min(_CHECKED, len(headers))))
    study.harness.send(some)
    wanted = first_match(filters, some).tolist()
    got = study.harness.verdicts(ours.xdp, len(some))
    turn = [int(Action.DROP), int(Action.PASS)]
    wrong = [
        at for at, rule in enumerate(wanted) if got[at] != (turn[rule % 2] if rule >= 0 else Action.PASS)
    ]
    if wrong:
        raise AssertionError(f"{filters.name}: {len(wanted)} headers, {len(wrong)} wrong verdicts")


def measure(study: Study, filters: Filters, stack: ExitStack, *, peers: bool = True) -> Measured:
    """One filter set, all contenders, all working sets, after a check of verdicts."""
    ours = Ours(ruleset(filters))
    stack.callback(ours.close)
    programs: dict[str, Program] = {"xdpguard": ours.xdp}
    if peers:
        tries = Tries(filters)
        stack.callback(tries.close)
        programs["two tries"] = tries.xdp
    if peers and len(filters) <= _PROTOTYPE_RULES and prototype.folder() is not None:
        try:
            former = prototype.Prototype(filters)
            stack.callback(former.close)
            programs["prototype"] = former.xdp
        except Exception as error:  # it was not made for every set
            study.failures.append(f"prototype on {filters.name}, {len(filters)} rules: {error!r}")
    check(study, filters, ours, traces.flows(filters, 4096))
    added = {}
    for flows in study.working_sets:
        study.harness.send(traces.flows(filters, flows))
        added[flows] = study.harness.added(programs, study.rounds)
    if ours.decided()[1]:
        raise AssertionError(
            f"{filters.name}: packets were decided without the rules: the frame is not as it should be"
        )
    shown = ", ".join(
        f"{flows} flows: " + " ".join(f"{name} +{one:.0f}" for name, one in found.items() if name in programs)
        for flows, found in added.items()
    )
    study.say(f"  {filters.name} ({len(filters)}): {shown}")
    return Measured(filters, ours, added)


def by_rules(study: Study, rules: int) -> None:
    """The table of all filter sets at one size, and its rows."""
    label = f"{rules // 1000}k"
    sets = study.public_sets(rules) + study.own_sets(rules)
    if study.quick and rules > 10_000:
        sets = [one for one in sets if "acl1" in one.name]
    found: list[Measured] = []
    for filters in sets:
        what = f"{filters.name}, {len(filters):,} rules"
        study.attempt(what, partial(_keep, study, filters, found))
    for flows in (256, 65_536):
        study.mean(f"{label} {flows}", (one.ratio(flows, "two tries") for one in found))
        if rules == 10_000:
            compared = [one.ratio(flows, "prototype") for one in found if "prototype" in one.added[flows]]
            if prototype.folder() is None:
                study.answer(f"prototype {flows}", None, "the prototype is not beside this checkout")
            else:
                study.mean(f"prototype {flows}", compared)
    if rules == 100_000:
        _memory(study, found)
    study.tables.append(_table(study, rules, found))


def _keep(study: Study, filters: Filters, found: list[Measured]) -> None:
    with ExitStack() as stack:
        found.append(measure(study, filters, stack))


def _memory(study: Study, found: list[Measured]) -> None:
    """What a slot takes: its maps have sizes of powers of two."""
    ours = [
        one.ours for one in found if one.filters.name.split()[-1].split("_")[0] in ("acl1", "fw1", "ipc1")
    ]
    if not ours:
        return
    taken = max(one.slot_bytes for one in ours)
    used = max(one.generation_bytes for one in ours)
    study.answer(
        "generation",
        taken / MIB,
        f"tables, names and counters of {len(ours)} sets; used of it: {used / MIB:.1f} MiB",
    )


def _table(study: Study, rules: int, found: list[Measured]) -> Table:
    heads = ["filter set", "rules", "tables MB", "build s"]
    heads += [f"{flows:,} flows" for flows in study.working_sets]
    rows = []
    for one in found:
        cells = [one.filters.name, f"{len(one.filters):,}"]
        cells += [f"{one.ours.table_bytes / 1e6:.2f}", f"{one.ours.seconds:.2f}"]
        for flows in study.working_sets:
            at = one.added[flows]
            cells.append(
                " / ".join(number_or_dash(at.get(name)) for name in ("xdpguard", "two tries", "prototype"))
            )
        rows.append(tuple(cells))
    words = "Added ns: xdpguard / two bare LPM tries / prototype."
    return Table(f"Filter sets of {rules:,} rules", words, tuple(heads), tuple(rows))


def number_or_dash(value: float | None) -> str:
    return "-" if value is None else f"{value:.0f}"


def growth(study: Study) -> None:
    """From 10 to 100,000 rules of the own acl1: the curves, and the row of growth over all three kinds."""
    for rules in (10, 100, 1_000, 10_000, 100_000):
        study.attempt(f"curve at {rules:,} rules", partial(_point, study, rules))
    ratios = []
    for shape in ("acl1",) if study.quick else ("acl1", "fw1", "ipc1"):
        with ExitStack() as stack:
            programs = {}
            for rules in (1_000, 100_000):
                filters = generator.generate(shape, rules)
                ours = Ours(ruleset(filters))
                stack.callback(ours.close)
                study.harness.send(traces.flows(filters, 256))
                programs[rules] = study.harness.added({"xdpguard": ours.xdp}, study.rounds)["xdpguard"]
            ratios.append(programs[100_000] / programs[1_000])
    study.mean("growth", ratios)


def _point(study: Study, rules: int) -> None:
    filters = generator.generate("acl1", rules)
    with ExitStack() as stack:
        found = measure(study, filters, stack)
        egress = Ours(ruleset(filters, egress=True))
        stack.callback(egress.close)
        for flows in (256, 65_536):
            study.harness.send(traces.flows(filters, flows))
            tc = study.harness.added({"tc": egress.tc}, study.rounds)["tc"]
            added = {name: one for name, one in found.added[flows].items() if not name.startswith("floor")}
            for name, one in (added | {"xdpguard, TC": tc}).items():
                study.curve(f"test runs, {flows:,} flows", name, rules, one)


def ipv6(study: Study) -> None:
    """Random prefixes: the same lengths, four times as long in IPv6."""
    added = {}
    with ExitStack() as stack:
        for family in (4, 6):
            filters = generator.random_prefixes(10_000, family, 8)
            added[family] = measure(study, filters, stack, peers=False).added
    for flows in (256, 65_536):
        study.answer(f"ipv6 {flows}", added[6][flows]["xdpguard"] / added[4][flows]["xdpguard"])


def kinds_of_traces(study: Study) -> None:
    """What the flow memory does not answer, and what is sent to hurt."""
    rows = []
    for filters in study.three(10_000):
        with ExitStack() as stack:
            ours, tries = Ours(ruleset(filters)), Tries(filters)
            stack.callback(ours.close)
            stack.callback(tries.close)
            programs = {"xdpguard": ours.xdp, "two tries": tries.xdp}
            cells = [filters.name]
            for trace in _traces(study, filters, ours):
                if len(trace) < 256:
                    cells.append("nearly all match")
                    continue
                study.harness.send(trace)
                added = study.harness.added(programs, study.rounds)
                cells.append(f"{added['xdpguard']:.0f} / {added['two tries']:.0f}")
            rows.append(tuple(cells))
            study.say(f"  {' | '.join(cells)}")
    heads = (
        "filter set", "256 flows", "65,536 flows", "Zipf 1.1 over 65,536", "256 rules, all new flows",
        "no rule matches", "worst found",
    )  # fmt: skip
    words = "Added ns, 10,000 rules: xdpguard / two bare LPM tries."
    study.tables.append(Table("Kinds of traffic", words, heads, tuple(rows)))


def _traces(study: Study, filters: Filters, ours: Ours) -> list[Headers]:
    def cost(trace: Headers) -> float:
        study.harness.send(trace)
        return study.harness.once(ours.xdp, traces.PACKETS)

    return [
        traces.flows(filters, 256),
        traces.flows(filters, traces.PACKETS),
        traces.zipf(filters),
        traces.strangers(filters),
        traces.unmatched(filters),
        traces.worst(filters, cost, parts=16 if study.quick else 48, rounds=3 if study.quick else 5),
    ]


def hostile(study: Study) -> None:
    """Filter sets meant to break it: exact, and of a known size and cost; or refused in words."""
    rows: list[tuple[str, ...]] = []
    for make in adversaries.ALL:
        filters = make(10_000)
        with ExitStack() as stack:
            try:
                found = measure(study, filters, stack, peers=False)
            except RulesError as error:
                rows.append((filters.name, f"{len(filters):,}", "", "", "", "", f"refused: {error}"))
                continue
        ours = found.ours
        cells = [filters.name, f"{len(filters):,}", f"{ours.table_bytes / 1e6:.1f}", f"{ours.seconds:.2f}"]
        cells += [f"{found.added[flows]['xdpguard']:.0f}" for flows in (256, 65_536)]
        rows.append((*cells, "exact"))
    heads = ("filter set", "rules", "tables MB", "build s", "ns at 256 flows", "ns at 65,536", "outcome")
    words = f"Exact: {_CHECKED} verdicts were those of a search through all rules."
    study.tables.append(Table("Filter sets meant to hurt", words, heads, tuple(rows)))
