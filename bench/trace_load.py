"""What a trace delivers, loses and costs under load: `sudo .venv/bin/python bench/trace_load.py [SECONDS]`.

The trace and the load share this machine's CPUs: the rate that is reached is said, not promised. Four events
a connection: connect, accept, and a close at each end. SECONDS (30) is of the first row. CPU is user and
system time of the trace, as a share of one CPU and for each event that was written.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tabulate import tabulate

NAMESPACE = "xgbench"
GENERATOR = Path(__file__).with_name("connections.py")
READY = b"xdpguard: exit: "
FAST, USUAL, LESS_SECONDS = 10_000, 1_000, 10
REJECTING = ("--port", "1")
_LAST = 1 << 14  # bytes: more than the ledger has
_SENTENCE = re.compile(
    r"([\d,]+) emitted \+ ([\d,]+) filtered \+ ([\d,]+) lost(?:.*emitted ([\d,]+) without)?"
)
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    rate: float  # connections a second that were made
    generated: int  # events
    delivered: int
    lost: int
    unknown: int  # of the delivered: without a known owner
    exact: bool  # each event was delivered, lost, or rejected by the filter, and counted so
    rss: int  # bytes, at most
    cpu: float  # of one CPU, while the load ran
    each: float  # microseconds of CPU for each event that was delivered; 0: there was none


class _Output:
    """What a trace writes, counted and thrown away but for its last line: no disk is that fast."""

    def __init__(self, pipe: IO[bytes]) -> None:
        self.lines = 0
        self.last = b""
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        while data := os.read(self._pipe.fileno(), 1 << 20):
            self.lines += data.count(b"\n")
            self.last = (self.last + data)[-_LAST:]

    def ledger(self) -> dict[str, Any]:
        """After the end. Of text there are the sums only."""
        self._thread.join()
        last = self.last.splitlines()[-1].decode()
        if not last.startswith("ledger: "):
            found: dict[str, Any] = json.loads(last)
            return found
        said = _SENTENCE.search(last)
        assert said is not None, last
        emitted, filtered, lost, unknown = (int((one or "0").replace(",", "")) for one in said.groups())
        return {
            "emitted": emitted, "filtered": filtered, "lost": {"any": lost}, "unknown": unknown,
            "adds_up": "ADD UP" not in last,
        }  # fmt: skip


def measure(name: str, rate: int, seconds: float, *words: str, format: str = "json") -> Row:
    """AssertionError: what was written is not what the ledger says."""
    argv = [sys.executable, "-m", "xdpguard", "trace", "-tioc", "--netns", NAMESPACE, "--format", format]
    with subprocess.Popen([*argv, "-v", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as trace:
        assert trace.stdout is not None
        assert trace.stderr is not None
        output = _Output(trace.stdout)
        try:
            for line in trace.stderr:
                if line.startswith(READY):
                    break
            before, began = _cpu(trace.pid), time.monotonic()
            made = _load(rate, seconds)
            used, passed = _cpu(trace.pid) - before, time.monotonic() - began
            rss = _peak(trace.pid)
            trace.send_signal(signal.SIGINT)
            trace.stderr.read()
            ledger = output.ledger()
        finally:
            trace.kill()
    assert ledger["adds_up"]
    assert ledger["emitted"] == output.lines - 1
    generated = {
        "connect": int(made["connections"]),
        "accept": int(made["accepted"]),
        "close": int(made["connections"] + made["accepted"]),
    }
    return Row(
        name, made["connections"] / made["seconds"], sum(generated.values()), ledger["emitted"],
        sum(ledger["lost"].values()), ledger["unknown"], _exact(generated, ledger, rejected=bool(words)),
        rss, used / passed, used / ledger["emitted"] * 1e6 if ledger["emitted"] else 0.0,
    )  # fmt: skip


def _exact(generated: dict[str, int], ledger: dict[str, Any], *, rejected: bool) -> bool:
    """``rejected``: by a filter, which counts also what the rest of the host does."""
    kinds = ledger.get("kinds")
    if kinds is None:
        return bool(ledger["emitted"] + sum(ledger["lost"].values()) == sum(generated.values()))
    for kind, number in generated.items():
        one = kinds[kind]
        if one["seen"] < number if rejected else one["emitted"] + sum(one["lost"].values()) != number:
            print(f"{kind}: {number} generated, but in the ledger {one}", file=sys.stderr)
            return False
    return True


def _load(rate: int, seconds: float) -> dict[str, float]:
    argv = ["nsenter", f"--net=/run/netns/{NAMESPACE}", sys.executable, "-I", "-S", str(GENERATOR)]
    done = subprocess.run([*argv, str(rate), str(seconds)], check=True, capture_output=True, text=True)
    made: dict[str, float] = json.loads(done.stdout)
    return made


def _cpu(pid: int) -> float:
    """Seconds, user and system (proc_pid_stat(5), fields 14 and 15)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


def _peak(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


@contextmanager
def _namespace() -> Iterator[None]:
    subprocess.run(["ip", "netns", "add", NAMESPACE], check=True)
    try:
        inside = ["nsenter", f"--net=/run/netns/{NAMESPACE}", "ip", "link", "set", "lo", "up"]
        subprocess.run(inside, check=True)
        yield
    finally:
        subprocess.run(["ip", "netns", "del", NAMESPACE], check=True)


def main(seconds: float) -> None:
    with _namespace():
        rows = [
            measure(f"{FAST:,}/s, JSON", FAST, seconds),
            measure(f"{USUAL:,}/s, JSON", USUAL, LESS_SECONDS),
            measure(f"{USUAL:,}/s, text", USUAL, LESS_SECONDS, format="text"),
            measure(f"{USUAL:,}/s, all filtered", USUAL, LESS_SECONDS, *REJECTING),
        ]
    table = [
        (
            row.name, f"{row.rate:,.0f}", f"{row.generated:,}", f"{row.delivered:,}", f"{row.lost:,}",
            f"{row.unknown:,}", "yes" if row.exact else "NO", f"{row.rss / 1e6:.1f} MB", f"{row.cpu:.1%}",
            f"{row.each:.1f} us" if row.each else "",
        )
        for row in rows
    ]  # fmt: skip
    headers = (
        "load", "connections/s", "events", "delivered", "lost", "unknown", "exact", "memory", "CPU", "each",
    )  # fmt: skip
    print(tabulate(table, headers, disable_numparse=True))
    if not all(row.exact for row in rows):
        sys.exit("the ledger is not exact")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30)
