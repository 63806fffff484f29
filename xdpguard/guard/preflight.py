"""Before rules go live: would they cut the caller off?

A second instance of the very bytecode, whose control page is private and names the staged slot, judges the
frames that must pass (``guard/probes.py``). Must never touch the live control word.
"""

from __future__ import annotations

from collections.abc import Callable

from xdpguard.abi import abi, reasons
from xdpguard.errors import PreflightError
from xdpguard.generation.outline import Outline
from xdpguard.guard import programs
from xdpguard.guard.probes import Probe, wanted
from xdpguard.kernel import counters, maps, testrun
from xdpguard.kernel.link import Link
from xdpguard.kernel.maps import MapSet, Word

_NUMBERS = abi().numbers
_XDP_PASS, _TC_UNSPEC = 2, 0xFFFFFFFF


def run(
    found: MapSet,
    slot: int,
    link: Link,
    plan: Outline,
    *,
    force: bool,
    say: Callable[[str], None],
    statistics: bool,
) -> programs.Programs:
    """Judge the staged slot. PreflightError if something that must pass would not, unless ``force``.

    Returns the judging programs, for their tags; the caller closes them. The slot's counters are zero again
    afterwards.
    """
    probes = wanted(link, say)
    private = maps.create_control(found)
    try:
        private.word = Word(slot, slot)
        judge = programs.load(found, control=private.fd, statistics=statistics)
    finally:
        private.close()
    try:
        for probe in probes:
            refusal = _judge(judge, found, slot, plan, probe)
            if refusal and not force:
                raise PreflightError(
                    f"{link.name}: {refusal} (--force loads it all the same); nothing changed"
                )
            if refusal:
                say(f"warning: {link.name}: {refusal}; loaded all the same (--force)")
    except BaseException:
        judge.close()
        raise
    finally:
        counters.zero(found, slot)
    return judge


def _judge(judge: programs.Programs, found: MapSet, slot: int, plan: Outline, probe: Probe) -> str | None:
    counters.zero(found, slot)
    program, passed = (judge.ingress, _XDP_PASS) if probe.hook == 0 else (judge.egress, _TC_UNSPEC)
    result = testrun.prog_test_run(program.fd, probe.frame)
    if result.verdict == passed:
        return None
    return f"{_decider(found, slot, plan, probe.hook)} would not let {probe.what} pass"


def _decider(found: MapSet, slot: int, plan: Outline, hook: int) -> str:
    counts = counters.read(found, slot, plan.counts)[hook]
    direction = ("ingress", "egress")[hook]
    first = _NUMBERS["XG_COUNT_RULES"]
    for index, count in enumerate(counts):
        if index < _NUMBERS["XG_COUNT_REASONS"] or not count[0]:
            continue
        if index >= first:
            place, name, action = plan.rule(hook, index - first)
            return f"{place}: rule {name} ({action})"
        if index == _NUMBERS["XG_COUNT_DEFAULT"]:
            return f"{plan.file}: the {direction} default (drop)"
        return f"{plan.file}: {reasons()[index - _NUMBERS['XG_COUNT_REASONS']]} ({direction})"
    return f"{plan.file}: the {direction} program"
