"""What a run found, as Markdown."""

from __future__ import annotations

import time
from collections.abc import Sequence

import tried
from figures import BARS, Row
from study import Study, Table

from xdpguard.abi import abi

_HEAD = """# Benchmarks

Made by `sudo ./bench/run{quick}` on {day}; do not edit, run it again. Every figure is a ratio or a
difference within that one run: absolute numbers belong to the machine below, and a neighbour on it moves
them.

**Added cost** is nanoseconds of a packet above the *floor*: the same driver, which writes the next of
65,536 recorded headers into the frame and tail-calls, in front of a program that does nothing. xdpguard's
cost has everything in it: parsing, deciding, counting by rule, protocol and action. The two bare tries only
look both addresses up: no ports, no protocols, no order of rules, no counting.
"""
_LINES = abi().numbers["XG_FLOW_LINES"]
_MEMORY = """## What the flow memory does, and what a miss costs

Each CPU remembers, per hook, the rule of up to {four:,} IPv4 flows ({lines:,} lines of three) or {lines:,}
IPv6 flows; an entry holds every field that the rules look at, so a hit is exact. With one flow or 256 flows
nearly every packet is a hit and the number of rules does not show. With 4,096 flows in turn, or 65,536, most
or nearly all packets are a miss: the memory is searched in vain and written, and the tables are searched as
well. So those columns, and "256 rules, all new flows" below, are what a miss costs; a flood from ever new
addresses or ports pays that for each packet. Real traffic lies in between: see the Zipf column.
"""
_HOW = """## How it is measured

- One process on one CPU; contenders in turn, {rounds} rounds, medians; BPF_PROG_TEST_RUN with {repeat}
  packets a round. The kernel tells whole nanoseconds: differences of about 1 ns are noise.
- Working sets: so many flows, drawn evenly over the rules, one packet after the other. 65,536 flows meet
  cold tables.
- Before a set is measured, verdicts on its headers are compared with a search through all rules.
- The floor itself, median by median: {floors}. The further apart, the less still the machine was.
- Live: BPF_F_TEST_XDP_LIVE_FRAMES into a veth pair in a network namespace of its own; what arrived is
  counted. Making and receiving share a CPU, so a rate contains the generator, for every system alike;
  "added" is above the floor, a program that drops at once.
- Filter sets named "own" are made by `bench/generator.py`; ClassBench's are read from
  `../shared/classbench` if they are there; above 10,000 rules they are enlarged by copies with XORed
  addresses.
- Peers are Debian's packages; xdp-filter drops by exact ports only, so it is asked for those.
"""


def markdown(study: Study, machine: Sequence[tuple[str, str]], plot: str | None) -> str:
    parts = [
        _HEAD.format(quick=" --quick" if study.quick else "", day=time.strftime("%Y-%m-%d", time.gmtime()))
    ]
    if study.quick:
        parts.append("**This was a quick run**: fewer sets, fewer rounds. Its figures are a first look.\n")
    parts.append("## Figures and bars\n\n" + grid(("figure", "value", "bar", "", ""), rows(study.rows)))
    parts.append(tried.section([key for key, row in study.rows.items() if row.reached is False]))
    if plot:
        parts.append(
            f"## Cost by number of rules\n\n![added cost by number of rules, every system]({plot})\n"
        )
    parts += [_curves(study), _MEMORY.format(four=3 * _LINES, lines=_LINES)]
    parts += [_section(table) for table in study.tables]
    floors = ", ".join(
        f"{hook.upper()} {least:.0f}-{most:.0f} ns"
        for hook, (least, most) in study.harness.floor_range.items()
    )
    parts.append(
        _HOW.format(rounds=study.rounds, repeat=f"{study.harness.repeat:,}", floors=floors or "not measured")
    )
    parts.append("## Machine\n\n" + grid(("", ""), machine))
    if study.failures:
        parts.append("## What could not be measured\n\n" + "".join(f"- {one}\n" for one in study.failures))
    return "\n".join(part for part in parts if part)


def rows(found: dict[str, Row]) -> list[tuple[str, ...]]:
    """In the order of the bars."""
    return [found[key].words() for key in BARS if key in found]


def grid(heads: Sequence[str], body: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *body]
    return "".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def _section(table: Table) -> str:
    return f"## {table.title}\n\n{table.words}\n\n{grid(table.heads, table.rows)}"


def _curves(study: Study) -> str:
    parts = []
    for panel, contenders in study.curves.items():
        counts = sorted({rules for points in contenders.values() for rules, _ in points})
        body = [(name, *(_at(points, rules) for rules in counts)) for name, points in contenders.items()]
        what = "ns a packet, all in" if panel.startswith("live") else "added ns"
        parts.append(f"{panel}: {what}\n\n{grid(('rules', *(f'{one:,}' for one in counts)), body)}")
    return "\n".join(parts)


def _at(points: Sequence[tuple[int, float]], rules: int) -> str:
    found = [value for count, value in points if count == rules]
    return f"{found[0]:,.0f}" if found else "-"
