"""As many connections as this machine makes: every one of them is told, or counted as lost."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from lab import Lab
from trace_command import traced

from xdpguard.kernel import netns

SECONDS = 3
# The form for thirty seconds at ten thousand a second, with what it costs, is bench/trace_load.py.
GENERATOR = Path(__file__).resolve().parents[2] / "bench/connections.py"


@pytest.mark.parametrize("stalled", [False, True], ids=["read", "not read meanwhile"])
def test_what_was_generated_is_what_was_delivered_and_what_was_lost(lab: Lab, stalled: bool) -> None:
    """Not read meanwhile: the trace is stopped, so that the kernel's ring overflows."""
    ns = lab.namespace("load")
    generate = ["nsenter", f"--net={netns.FOLDER / ns}", sys.executable, "-I", "-S", str(GENERATOR)]
    with traced("--netns", ns, "-tioc") as said:
        if stalled:
            said.process.send_signal(signal.SIGSTOP)
        done = subprocess.run(
            [*generate, "0", str(SECONDS)], check=True, capture_output=True, text=True, timeout=120
        )
        if stalled:
            said.process.send_signal(signal.SIGCONT)
    made = json.loads(done.stdout)
    generated = {
        "connect": made["connections"],
        "accept": made["accepted"],
        "close": made["connections"] + made["accepted"],
    }
    delivered = Counter(event["event"] for event in said.events)
    kinds = said.ledger["kinds"]
    assert made["connections"] > 0
    for kind, number in generated.items():
        assert kinds[kind]["emitted"] == delivered[kind]
        assert delivered[kind] + sum(kinds[kind]["lost"].values()) == number
    assert said.ledger["adds_up"]
    if stalled:
        assert said.ledger["lost"].keys() == {"ring"}, f"{made}: the ring did not overflow"
