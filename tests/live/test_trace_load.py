"""As many connections as this machine makes: every one of them is told, or counted as lost."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Lab, inside
from trace_command import PATIENCE, traced

from xdpguard.kernel import netns
from xdpguard.trace.ledger import adds_up
from xdpguard.trace.live import Live
from xdpguard.trace.model import Filter, KindLedger, Record
from xdpguard.trace.wanted import parse

# What this costs is measured by bench/trace_load.py.
GENERATOR = Path(__file__).resolve().parents[2] / "bench/connections.py"
TINY = 1 << 16  # bytes of a ring: some 280 events
WAITING = "import os, sys; sys.stdin.readline(); os.execv('/bin/bash', ['bash', '-c', sys.argv[1]])"
CONNECTING = "echo executed; read; exec 3<>/dev/tcp/127.0.0.1/{}; read"


def entered(ns: str, *argv: str) -> list[str]:
    return ["nsenter", f"--net={netns.FOLDER / ns}", *argv]


def generator(ns: str, rate: int, seconds: float) -> subprocess.Popen[str]:
    argv = entered(ns, sys.executable, "-I", "-S", str(GENERATOR), str(rate), str(seconds))
    return subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)


def made_by(running: subprocess.Popen[str]) -> dict[str, int]:
    """Events by their kinds, from what the generator itself counted."""
    text, _ = running.communicate(timeout=120)
    assert running.returncode == 0
    made = json.loads(text)
    connections, accepted = int(made["connections"]), int(made["accepted"])
    assert connections > 0
    return {"connect": connections, "accept": accepted, "close": connections + accepted}


def check(
    generated: Mapping[str, int], delivered: Mapping[str, int], books: Mapping[str, KindLedger]
) -> None:
    for kind, number in generated.items():
        assert books[kind].emitted == delivered[kind]
        assert delivered[kind] + sum(books[kind].lost.values()) == number, f"{kind}: {books[kind]}"
    assert all(adds_up(one) for one in books.values())


@pytest.mark.parametrize(
    ("rate", "seconds", "stalled"),
    [
        pytest.param(2_000, 3, False, id="2,000 a second"),
        pytest.param(0, 3, True, id="as many as there can be, and not read meanwhile"),
        pytest.param(10_000, 30, False, id="10,000 a second", marks=pytest.mark.soak),
    ],
)
def test_what_was_generated_is_what_was_delivered_and_what_was_lost(
    lab: Lab, rate: int, seconds: float, stalled: bool
) -> None:
    """Not read meanwhile: the trace is stopped, so that the kernel's ring overflows."""
    ns = lab.namespace("load")
    with traced("--netns", ns, "-tioc") as said:
        if stalled:
            said.process.send_signal(signal.SIGSTOP)
        generated = made_by(generator(ns, rate, seconds))
        if stalled:
            said.process.send_signal(signal.SIGCONT)
    delivered = Counter(event["event"] for event in said.events)
    fields = ("seen", "emitted", "filtered", "unknown", "lost")
    kinds = said.ledger["kinds"].items()
    check(generated, delivered, {kind: KindLedger(*(one[name] for name in fields)) for kind, one in kinds})
    if stalled:
        assert said.ledger["lost"].keys() == {"ring"}, f"{generated}: the ring did not overflow"


def wanted(ns: str) -> Filter:
    identity = inside(ns, netns.identity)
    return parse("tioc", netns=frozenset({identity.inode}), uid_of=lambda name: None)


def test_a_ring_that_is_too_small_loses_and_counts_what_it_lost_while_it_is_read(lab: Lab) -> None:
    ns = lab.namespace("tiny")
    delivered: Counter[str] = Counter()

    def take(records: Iterable[Record]) -> None:
        delivered.update(record.event.kind for record in records)

    with Live(wanted(ns), ring_bytes=TINY) as live, generator(ns, 2_000, 1) as running:
        while running.poll() is None:
            take(live.read(0.1))
        generated = made_by(running)
        records, books = live.finish()
    take(records)
    check(generated, delivered, books)
    assert sum(books[kind].lost.get("ring", 0) for kind in generated) > 0
    assert {cause for one in books.values() for cause in one.lost} == {"ring"}


@contextmanager
def waiting(ns: str, port: int) -> Iterator[subprocess.Popen[str]]:
    """Python, which after a first line executes bash, which after a second one connects."""
    argv = entered(ns, sys.executable, "-I", "-S", "-c", WAITING, CONNECTING.format(port))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def say(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def read_until(live: Live, pid: int) -> Record:
    """The first record of that process."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        for record in live.read(0.1):
            if record.process is not None and record.process.pid == pid:
                return record
    raise AssertionError(f"nothing of process {pid}")


def test_a_process_whose_exec_was_lost_is_never_called_what_it_was_before(lab: Lab) -> None:
    ns = lab.namespace("exec")
    with (
        inside(ns, lambda: socket.create_server(("127.0.0.1", 0))) as server,
        Live(wanted(ns), ring_bytes=TINY) as live,
        waiting(ns, server.getsockname()[1]) as process,
    ):
        live.read(0.1)
        generator(ns, 2_000, 1).communicate(timeout=120)  # nobody reads: the ring is full
        say(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "executed\n"
        assert live.tracing.lost_tasks() > 0
        while live.read(0.0):
            pass
        say(process)
        record = read_until(live, process.pid)
    assert record.process is not None
    assert (record.event.kind, record.process.comm) == ("connect", "bash")
    assert record.process.path in (None, str(Path("/bin/bash").resolve()))
