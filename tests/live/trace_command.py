"""``xdpguard trace`` as a process of its own, as a user runs it: begun, ended, and what it said."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

READY = "xdpguard: exit: "  # the last of the sources, said when all of them are attached
PATIENCE = 60.0  # seconds, which only a failing test needs
COMMAND = (sys.executable, "-m", "xdpguard", "trace")


@dataclass(slots=True)
class Said:
    """``lines``, ``errors``: complete once the block is over."""

    process: subprocess.Popen[bytes]
    lines: list[dict[str, Any]] = field(default_factory=list)
    errors: str = ""

    @property
    def events(self) -> list[dict[str, Any]]:
        return self.lines[:-1]

    @property
    def ledger(self) -> dict[str, Any]:
        last = self.lines[-1]
        assert last["event"] == "ledger"
        return last

    @property
    def kprobes(self) -> bool:
        return ": kprobe " in self.errors


@contextmanager
def traced(*words: str, command: Sequence[str] = COMMAND) -> Iterator[Said]:
    """Everything within the block is traced. ``words``: options of ``trace``, whose JSON is read."""
    with tempfile.TemporaryFile() as output:
        argv = [*command, "--format", "json", "-v", *words]
        with subprocess.Popen(argv, stdout=output, stderr=subprocess.PIPE) as process:
            said = Said(process)
            try:
                _await(said, READY)
                yield said
                process.send_signal(signal.SIGINT)
                _await(said, None)
            finally:
                process.kill()
        assert process.returncode == 0, said.errors
        output.seek(0)
        said.lines = [json.loads(line) for line in output]


def _await(said: Said, text: str | None) -> None:
    """Until its standard error holds ``text``; None: until its end."""
    assert said.process.stderr is not None
    number, deadline = said.process.stderr.fileno(), time.monotonic() + PATIENCE
    poll = select.poll()
    poll.register(number, select.POLLIN)
    while text is None or text not in said.errors:
        assert poll.poll(max(0.0, deadline - time.monotonic()) * 1000), f"silent: {said.errors}"
        data = os.read(number, 1 << 16)
        said.errors += data.decode()
        if not data:
            assert text is None, f"ended: {said.errors}"
            return
