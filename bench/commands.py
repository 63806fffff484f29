"""Figures of whole commands: seconds and peak memory of `xdpguard load`, beside `nft -f` of the same rules.

A load keeps what it has compiled, so each is measured of rules that it has never met, and of the same again.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import generator
import peers
from figures import BARS
from filterset import ANY, Filters
from livegen import Road
from study import Study, Table
from variants import blocked_addresses

_NAMES = {1: "icmp", 6: "tcp", 17: "udp"}


@dataclass(frozen=True, slots=True)
class Cost:
    """``peak``: MiB, of the process or of the largest one that it started."""

    seconds: float
    peak: float


# A process of its own starts the command: the memory of whoever forks counts as a peak of the child, and this
# process is large, and pinned to one CPU.
_STARTER = """
import json, os, subprocess, sys, time
os.sched_setaffinity(0, range(os.cpu_count()))
began = time.perf_counter()
with open(sys.argv[1], "wb") as said:
    process = subprocess.Popen(sys.argv[2:], stdout=said, stderr=said)
    _, status, usage = os.wait4(process.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), time.perf_counter() - began, usage.ru_maxrss]))
"""


def run(command: list[str]) -> Cost:
    """RuntimeError: it failed; its last line."""
    with tempfile.NamedTemporaryFile() as said:
        starter = [sys.executable, "-S", "-c", _STARTER, said.name, *command]
        done = subprocess.run(starter, capture_output=True, text=True, check=True)
        code, seconds, peak = json.loads(done.stdout)
        if code:
            lines = said.read().decode(errors="replace").strip().splitlines() or ["no word"]
            raise RuntimeError(f"{' '.join(command[-3:])}: exit code {code}: {lines[-1]}")
    return Cost(seconds, peak / 1024)


@dataclass(frozen=True, slots=True)
class Loads:
    """Medians, peaks of all. ``first``: of rules never loaded before; ``again``: of the same, unchanged."""

    first: Cost
    again: Cost

    @property
    def peak(self) -> float:
        return max(self.first.peak, self.again.peak)


def load(road: Road, rules: Path, times: int) -> Loads:
    """In both cases the maps are there and the programs were compiled before. Unloads at the end."""
    xdpguard = [sys.executable, "-m", "xdpguard"]
    where = ["-i", road.INTO, "--netns", road.name]
    command = [*xdpguard, "load", *where, str(rules)]
    text = rules.read_text()
    found: list[tuple[Cost, Cost]] = []
    try:
        run(command)
        for _ in range(times):
            rules.write_text(
                f"{text}# {time.time_ns()}\n"
            )  # another file by its bytes, the same by its rules
            found.append((run(command), run(command)))
    finally:
        subprocess.run([*xdpguard, "unload", *where], check=False, capture_output=True)
    first, again = zip(*found, strict=True)
    return Loads(_cost(first), _cost(again))


def _cost(found: tuple[Cost, ...]) -> Cost:
    return Cost(statistics.median(one.seconds for one in found), max(one.peak for one in found))


COLUMNS = ("name", "family", "proto", "src", "dst", "sport", "dport", "action")


def fields(filters: Filters, at: int) -> dict[str, str]:
    """A rule in the words of the rule language; lists are parted by commas."""
    number, asked = int(filters.protocol[at]), [_ports(filters, at, side) for side in (0, 1)]
    found = {"name": f"r{at}"}
    if number != ANY:
        found["proto"] = _NAMES.get(number, str(number))
    elif any(asked):
        found["proto"] = "tcp,udp,sctp"
    if not filters.lengths[at].any():
        found["family"] = "ipv4"
    for side, name in enumerate(("src", "dst")):
        if filters.lengths[at, side]:
            found[name] = f"{IPv4Address(int(filters.ends[at, side, 1]))}/{filters.lengths[at, side]}"
    found |= {name: ports for name, ports in zip(("sport", "dport"), asked, strict=True) if ports}
    return found | {"action": ("drop", "pass")[at % 2]}


def _ports(filters: Filters, at: int, side: int) -> str:
    first, last = filters.ports[at, side].tolist()
    if (first, last) == (0, 65535):
        return ""
    return str(first) if first == last else f"{first}-{last}"


def yaml_of(filters: Filters) -> str:
    lines = ["version: 1", "ingress:"]
    for at in range(len(filters)):
        pairs = [f"{name}: {_listed(value)}" for name, value in fields(filters, at).items()]
        lines.append(f"  - {{{', '.join(pairs)}}}")
    return "\n".join(lines) + "\n"


def _listed(value: str) -> str:
    return f"[{value}]" if "," in value else value


def tsv_of(filters: Filters) -> str:
    lines = ["\t".join(COLUMNS)]
    for at in range(len(filters)):
        found = fields(filters, at)
        lines.append("\t".join(found.get(name, "") for name in COLUMNS))
    return "\n".join(lines) + "\n"


def of_yaml(study: Study) -> None:
    """10 and 10,000 rules, beside nft."""
    rows = []
    road = Road("load")
    try:
        with tempfile.TemporaryDirectory(prefix="xdpguard-bench-") as place:
            for key, rules in (("load 10", 10), ("load 10k", 10_000)):
                filters = generator.generate("acl1", rules)
                file = Path(place) / "rules.yaml"
                file.write_text(yaml_of(filters))
                rows.append(_measured(study, road, (key, f"{rules:,} in YAML"), file, filters))
    finally:
        road.close()
    study.tables.append(Table("Loading", _WORDS, _HEADS, tuple(rows)))


_SLOW_NFT = 10_000
"""With more rules than these nft takes half a minute, and is run once."""
_HEADS = ("rules", "first load s", "again, unchanged s", "peak MiB", "nft -f of the same")
_WORDS = (
    "Whole commands, interpreter included; medians, when bytecode and maps are there. Rules that were loaded "
    "before, unchanged, are not compiled again."
)


def _measured(
    study: Study, road: Road, row: tuple[str, str], file: Path, filters: Filters
) -> tuple[str, str, str, str, str]:
    """Answers the key of ``row``, and that of the same again; the row of the table."""
    key, what = row
    times = study.times if len(filters) <= _SLOW_NFT else 1
    cost, nft = load(road, file, study.times), _nft(road, filters, times)
    for name, one in ((key, cost.first), (f"{key} again", cost.again)):
        study.answer(name, one.seconds, f"peak {one.peak:.0f} MiB; nft -f: {_seconds(nft)}")
    if f"{key} nft" in BARS and isinstance(nft, float):
        study.answer(f"{key} nft", cost.first.seconds / nft)
    seconds = (f"{cost.first.seconds:.2f}", f"{cost.again.seconds:.2f}")
    return what, *seconds, f"{cost.peak:.0f}", _seconds(nft)


def _seconds(measured: float | str) -> str:
    return measured if isinstance(measured, str) else f"{measured:.2f} s"


def _nft(road: Road, filters: Filters, times: int) -> float | str:
    """Seconds; or why there are none."""
    if why := peers.missing("nft"):
        return why
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(f"flush ruleset\n{peers.nft_linear(filters, road.INTO)}")
        file.flush()
        inside = ["nsenter", f"--net=/run/netns/{road.name}", "nft", "-f", file.name]
        seconds = [run(inside).seconds for _ in range(times)]
    road.run("nft", "flush", "ruleset")
    return statistics.median(seconds)


def of_blocklist(study: Study) -> None:
    """A rule with a set file of a million addresses."""
    road = Road("block")
    try:
        with tempfile.TemporaryDirectory(prefix="xdpguard-bench-") as place:
            listed = Path(place) / "listed.txt"
            listed.write_text("".join(f"{IPv4Address(one)}\n" for one in blocked_addresses().tolist()))
            file = Path(place) / "rules.yaml"
            file.write_text(
                "version: 1\nsets:\n  listed: {file: listed.txt}\n"
                "ingress:\n  - {name: blocked, src: '@listed', action: drop}\n"
            )
            cost = load(road, file, study.times)
    finally:
        road.close()
    words = f"never loaded before, peak {cost.peak:.0f} MiB; again, unchanged: {cost.again.seconds:.2f} s"
    study.answer("blocklist load", cost.first.seconds, words)


def of_rules_file(study: Study) -> None:
    """100,000 rules in a table of their own."""
    road = Road("file")
    try:
        with tempfile.TemporaryDirectory(prefix="xdpguard-bench-") as place:
            filters = generator.generate("acl1", 100_000)
            (Path(place) / "rules.tsv").write_text(tsv_of(filters))
            file = Path(place) / "rules.yaml"
            file.write_text("version: 1\ningress:\n  - {rules_file: rules.tsv}\n")
            row = _measured(study, road, ("load 100k", "100,000 in a rules file"), file, filters)
    finally:
        road.close()
    study.tables.append(Table("Loading a rules file", _WORDS, _HEADS, (row,)))
    study.answer("load peak", float(row[3]))
