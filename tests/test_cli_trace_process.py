"""``xdpguard trace`` as a process: signals, readers that go away, and what it imports. The kernel's side is
replaced.
"""

from __future__ import annotations

import fcntl
import os
import signal
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from trace_samples import SAMPLES

from xdpguard.ui import trace_text

HERE = Path(__file__).parent

DRIVER = """
import sys
sys.path.insert(0, {here!r})
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from trace_fakes import fake_live, module
from trace_samples import SAMPLES
endless = type("Endless", (list,), dict(pop=lambda self, at: {batch}, __bool__=lambda self: True))()
sys.modules["xdpguard.trace.live"] = module(fake_live(batches=endless))
from xdpguard.cli.main import entry
entry()
"""


def command(batch: str, *arguments: str) -> list[str]:
    return [sys.executable, "-c", DRIVER.format(here=str(HERE), batch=batch), "trace", *arguments]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_0_and_the_ledger_last(number: signal.Signals) -> None:
    with subprocess.Popen(
        command("SAMPLES[:1]"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline() == trace_text.line(SAMPLES[0])
        child.send_signal(number)
        lines = child.stdout.read().splitlines()
        assert child.stderr.read() == ""
    assert child.returncode == 0
    assert lines[-1].startswith("ledger: ")
    assert set(lines[:-1]) <= {trace_text.line(SAMPLES[0]).rstrip("\n")}


def test_a_reader_that_goes_away_ends_it_quietly() -> None:
    with subprocess.Popen(
        command("SAMPLES[:1]"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stderr is not None
        assert child.stdout.readline()
        child.stdout.close()
        assert child.stderr.read() == ""
    assert child.returncode == 0


def test_a_second_signal_ends_what_hangs_on_its_reader() -> None:
    reader, writer = os.pipe()
    with subprocess.Popen(
        command("SAMPLES * 100"), stdout=writer, stderr=subprocess.PIPE, text=True
    ) as child:
        os.close(writer)
        assert child.stderr is not None
        while _held(reader) < fcntl.fcntl(reader, fcntl.F_GETPIPE_SZ):
            assert child.poll() is None
        child.send_signal(signal.SIGINT)
        child.send_signal(signal.SIGTERM)
        assert child.stderr.read().startswith("xdpguard: interrupted")
    os.close(reader)
    assert child.returncode == 130


def _held(pipe: int) -> int:
    """Bytes that wait in it."""
    return struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0]  # type: ignore[no-any-return]


def test_the_command_does_without_heavy_libraries() -> None:
    code = (
        "import sys\nfrom xdpguard.cli import trace\nfrom xdpguard.ui import trace_text, trace_json\n"
        "print(sorted({'numpy', 'pyroute2', 'bcc', 'tabulate', 'yaml'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
