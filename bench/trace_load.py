"""What a trace delivers, loses and costs under load: `sudo .venv/bin/python bench/trace_load.py [SECONDS]`.

The trace and the load share this machine's CPUs: the rate that is reached is said, not promised. Four events
a connection: connect, accept, and a close at each end. SECONDS (30) is of the first row.
"""

from __future__ import annotations

import json
import os
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
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Row:
    name: str
    rate: float  # connections a second that were made
    generated: int  # events
    delivered: int
    lost: int
    exact: bool  # each event was delivered, lost, or rejected by the filter, and counted so
    rss: int  # bytes, at most
    cpu: float  # of one CPU, while the load ran


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
        """After the end."""
        self._thread.join()
        found: dict[str, Any] = json.loads(self.last.splitlines()[-1])
        return found


def measure(name: str, rate: int, seconds: float, *words: str) -> Row:
    """AssertionError: what was written is not what the ledger says."""
    argv = [
        sys.executable,
        "-m",
        "xdpguard",
        "trace",
        "-tioc",
        "-v",
        "--format",
        "json",
        "--netns",
        NAMESPACE,
    ]
    with subprocess.Popen([*argv, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as trace:
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
        sum(ledger["lost"].values()), _exact(generated, ledger["kinds"], rejected=bool(words)),
        rss, used / passed,
    )  # fmt: skip


def _exact(generated: dict[str, int], kinds: dict[str, Any], *, rejected: bool) -> bool:
    """``rejected``: by a filter, which counts also what the rest of the host does."""
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
            measure(f"{USUAL:,}/s, all filtered", USUAL, LESS_SECONDS, *REJECTING),
        ]
    table = [
        (
            row.name, f"{row.rate:,.0f}", f"{row.generated:,}", f"{row.delivered:,}", f"{row.lost:,}",
            "yes" if row.exact else "NO", f"{row.rss / 1e6:.1f} MB", f"{row.cpu:.1%}",
        )
        for row in rows
    ]  # fmt: skip
    headers = ("load", "connections/s", "events", "delivered", "lost", "exact", "memory", "CPU")
    print(tabulate(table, headers, disable_numparse=True))
    if not all(row.exact for row in rows):
        sys.exit("the ledger is not exact")


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30)
