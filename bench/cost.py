"""What a load and a packet cost, by number of rules: `sudo .venv/bin/python bench/cost.py`.

Packets: BPF_PROG_TEST_RUN through a driver that changes the header each time; the shipped XDP program
(counting included) beside an empty one, in turn, in one process. Only differences and ratios within one run
mean anything. Loads: the whole command, on a veth pair in a namespace of its own.
"""

from __future__ import annotations

import ctypes
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rulesets import rule_file
from tabulate import tabulate

from xdpguard import abi
from xdpguard.classify.compile import build
from xdpguard.generation import manifest, slots
from xdpguard.guard import programs
from xdpguard.kernel import bpf, counters, maps, testrun
from xdpguard.rules.model import Interval, RuleSet
from xdpguard.rules.parse import load_file

RULES = (10, 1_000, 10_000, 20_000)
FLOWS = (1, 256, 65_536)
ROUNDS, REPEAT = 5, 300_000
_ABORTED = 0  # XDP_ABORTED
_REASONS, _DEFAULT = (abi.abi().numbers[f"XG_COUNT_{name}"] for name in ("REASONS", "DEFAULT"))
NAMESPACE, INTERFACE = "xgbench", "xgb0"
FRAME = bytes.fromhex(
    "020000000002" "020000000001" "0800"
    "45000028000100004006000000000000" "00000000" "00000000" "00140000" "00000000" "50100000" "00000000"
)  # fmt: skip
"""The bytes behind the ports are a whole TCP header and, read as UDP, a true length."""


class Driver:
    """The driver program with its own maps, by BCC."""

    def __init__(self) -> None:
        os.environ["BCC_KERNEL_SOURCE"] = str(abi.folder() / "include" / "kbuild")
        from bcc import BPF

        source = Path(__file__).with_name("driver.c")
        self._module = BPF(src_file=os.fsencode(source), cflags=["-DPAGE_SIZE=4096"])
        self.fd, self.empty = (self._load(name) for name in ("driver", "empty"))

    def _load(self, name: str) -> int:
        # Programs that tail-call each other must agree on the multi-buffer flag, which BCC cannot set.
        code = self._module.dump_func(name.encode())
        return bpf.prog_load(bpf.PROG_XDP, code, name, flags=bpf.F_XDP_HAS_FRAGS).fd

    def flows(self, headers: list[tuple[int, int, int, int, int]]) -> None:
        trace = self._module["trace"]
        for index in range(1 << 16):
            src, dst, sport, dport, protocol = headers[index % len(headers)]
            wire = src.to_bytes(4, "big") + dst.to_bytes(4, "big")
            wire += sport.to_bytes(2, "big") + dport.to_bytes(2, "big") + protocol.to_bytes(4, "little")
            bpf.map_update(trace.map_fd, index.to_bytes(4, "little"), wire)

    def run(self, program: int) -> int:
        """Mean ns of one packet, driver included."""
        self._module["under_test"][ctypes.c_int(0)] = ctypes.c_int(program)
        result = testrun.prog_test_run(self.fd, FRAME, repeat=REPEAT)
        if result.verdict == _ABORTED:
            raise RuntimeError("the driver did not reach the program under test")
        return result.nanoseconds


def headers(ruleset: RuleSet, count: int) -> list[tuple[int, int, int, int, int]]:
    """Headers that match rules of the set, drawn evenly over the rules."""
    rng = random.Random(2)

    def within(intervals: tuple[Interval, ...] | None, most: int) -> int:
        return rng.randint(*rng.choice(intervals)) if intervals else rng.randint(0, most)

    drawn = []
    for _ in range(count):
        match = rng.choice(ruleset.ingress.rules).match
        src = within(match.src.v4 if match.src else None, 0xFFFFFFFF)
        dst = within(match.dst.v4 if match.dst else None, 0xFFFFFFFF)
        protocol = min(match.protocols.v4) if match.protocols else 6
        drawn.append((src, dst, rng.randint(0, 65535), within(match.dport, 65535), protocol))
    return drawn


def packet_cost(driver: Driver, ruleset: RuleSet) -> list[str]:
    """ "+ns over the empty program (empty program's ns)" for each number of flows."""
    names = manifest.encode(manifest.describe(ruleset, 0.0, {}))
    tables = build(ruleset, 2, None, names)
    found = maps.create(slots.size_for(tables, names), {})
    slots.write(found, 1, tables.blob.tobytes())
    found.word = maps.Word(1, 0)
    loaded = programs.load(found)
    cells = []
    for flows in FLOWS:
        driver.flows(headers(ruleset, flows))
        pairs = [(driver.run(driver.empty), driver.run(loaded.ingress.fd)) for _ in range(ROUNDS)]
        floor = statistics.median(pair[0] for pair in pairs)
        cells.append(f"+{statistics.median(pair[1] for pair in pairs) - floor:.0f} ({floor:.0f})")
    counts = counters.read(found, 1, (len(ruleset.ingress.rules), 0))[0]
    if any(packets for packets, _ in counts[_REASONS:_DEFAULT]):
        raise RuntimeError("packets were decided without the rules: the frame is not what it should be")
    loaded.close()
    found.close()
    return cells


def whole_load(path: Path) -> float:
    """Seconds of `xdpguard load`, the whole command, the second time (bytecode kept, maps there)."""
    command = [str(Path(sys.executable).with_name("xdpguard")), "load", "-i", INTERFACE, "--netns", NAMESPACE]
    seconds = 0.0
    for _ in range(2):
        start = time.perf_counter()
        subprocess.run([*command, str(path)], check=True, capture_output=True)
        seconds = time.perf_counter() - start
    return seconds


def main() -> None:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        inside = ["nsenter", f"--net=/run/netns/{NAMESPACE}", "ip", "link"]
        subprocess.run([*inside, "add", INTERFACE, "type", "veth", "peer", "name", "xgb1"], check=True)
        rows = []
        driver = Driver()
        for rules in RULES:
            with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
                file.write(rule_file(rules))
                file.flush()
                ruleset = load_file(file.name)
                size = len(build(ruleset).blob)
                seconds = whole_load(Path(file.name))
            rows.append([rules, f"{seconds:.2f}", f"{size / 1e6:.2f}", *packet_cost(driver, ruleset)])
        heads = ["rules", "load s", "tables MB", *(f"ns at {flows} flows" for flows in FLOWS)]
        print(tabulate(rows, heads, disable_numparse=True))
        print(
            "ns: added to the empty XDP program behind the same driver (that program's own, driver included)"
        )
    finally:
        subprocess.run([sys.executable, "-m", "xdpguard", "unload", "-i", INTERFACE, "--netns", NAMESPACE])
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


if __name__ == "__main__":
    main()
