"""The console script as a process: signals, pipes, full disks, a terminal. Its verbs are replaced."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from xdpguard.ui.watch import CLEAR_BELOW, ENTER, LEAVE

HERE = Path(__file__).parent

# A verb that says it is there, and waits for a signal.
# The wakeup descriptor keeps a signal that comes before select.
DRIVER = """
import os, select, signal, sys
from types import ModuleType
sys.path.insert(0, {here!r})
from test_ui_samples import snapshot
from xdpguard.ui.streams import emit

def unload(interfaces, netns, say):
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    signal.set_wakeup_fd(writer)
    try:
        say("ready")
        select.select([reader], [], [])
    finally:
        say("cleaned up")

# What a shell's background job or nohup would take away.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

verbs = ModuleType("xdpguard.guard.verbs")
verbs.unload = unload
read = ModuleType("xdpguard.stats.read")
read.snapshot = lambda interface, netns, names=None: snapshot()
sys.modules |= {{module.__name__: module for module in (verbs, read)}}
from xdpguard.cli.main import entry
entry()
"""


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", DRIVER.format(here=str(HERE)), *arguments]


def run(line: str, stdout: int, unbuffered: str) -> subprocess.CompletedProcess[str]:
    """One command into a given descriptor, with Python's own buffer in between or without."""
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    return subprocess.run(
        command(*line.split()), stdout=stdout, stderr=subprocess.PIPE, text=True, env=environment, check=False
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_runs_every_finally_and_ends_with_130(number: signal.Signals) -> None:
    with subprocess.Popen(command("unload", "-i", "x"), stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "ready\n"
        child.send_signal(number)
        assert child.stderr.readline() == "cleaned up\n"
        assert child.stderr.readline().startswith("xdpguard: interrupted: ")
        assert child.stderr.read() == ""
    assert child.returncode == 130


def test_a_closed_terminal_is_ignored_under_nohup() -> None:
    ignoring = [word.replace("SIG_DFL", "SIG_IGN") for word in command("unload", "-i", "x")]
    with subprocess.Popen(ignoring, stderr=subprocess.PIPE, text=True) as child:
        assert child.stderr is not None
        assert child.stderr.readline() == "ready\n"
        status = Path(f"/proc/{child.pid}/status").read_text()
        child.send_signal(signal.SIGTERM)
        child.stderr.read()
    ignored = int(status.partition("SigIgn:")[2].split()[0], 16)
    assert ignored >> (signal.SIGHUP - 1) & 1


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize(
    "line", ["stats", "stats --format json", "--help", "load --help", "--version", "stats --watch 0.1"]
)
def test_a_closed_pipe_ends_quietly(line: str, unbuffered: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = run(line, writer, unbuffered)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("line", ["stats", "stats --watch 0.1"])
def test_standard_output_that_was_never_open_ends_quietly(line: str) -> None:
    shell = ["sh", "-c", 'exec "$@" >&-', "sh"]
    done = subprocess.run([*shell, *command(*line.split())], stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["stats", "--help", "load --help", "--version"])
def test_a_full_disk_is_one_line_and_7(line: str, unbuffered: str) -> None:
    with Path("/dev/full").open("w") as full:
        done = run(line, full.fileno(), unbuffered)
    assert done.returncode == 7
    assert done.stderr == "xdpguard: error: cannot write to standard output: No space left on device\n"


@pytest.mark.parametrize("line", ["check", "load -i no-such-interface"])
def test_a_folder_in_the_place_of_a_rule_file_is_one_line_and_1(line: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "xdpguard", *line.split(), str(tmp_path)],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (done.stdout, done.stderr) == ("", f"{tmp_path}: error: is a folder, not a file\n")


def test_a_terminal_that_cannot_show_a_character_ends_nothing() -> None:
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command("unload", "-i", "ü", "-i", "ü"), capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 2
    assert r"'\xfc' is given twice" in done.stderr


def test_a_watch_on_a_terminal_is_put_back_by_ctrl_c_and_ends_with_0() -> None:
    terminal, side = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "LINES": "50", "COLUMNS": "100"}
    child = subprocess.Popen(
        command("stats", "--watch", "0.1", "--by", "action"),
        stdout=side, stderr=side, stdin=side, env=environment,
    )  # fmt: skip
    os.close(side)
    seen = b""
    try:
        while CLEAR_BELOW.encode() not in seen:
            seen += os.read(terminal, 65536)
        child.send_signal(signal.SIGINT)
        seen += _until_closed(terminal)
    finally:
        child.kill()
        code = child.wait()
        os.close(terminal)
    text = seen.decode().replace("\r\n", "\n")
    assert code == 0
    assert text.startswith(ENTER)
    before, after = text.split(LEAVE)
    assert "every 0.1 s, Ctrl-C ends" in before
    assert after.startswith("veth0 (netns blue): native, generation 3\n")
    assert "\x1b" not in after


def _until_closed(terminal: int) -> bytes:
    seen = b""
    while True:
        try:
            part = os.read(terminal, 65536)
        except OSError:  # EIO: the last holder of the other side has gone
            return seen
        seen += part


def test_help_stays_light() -> None:
    """``xdpguard --help`` must not pay for NumPy, netlink, BCC or tabulate."""
    code = (
        "import sys\nfrom xdpguard.cli.main import main\nmain(['--help'])\n"
        "print(sorted({'numpy', 'pyroute2', 'bcc', 'tabulate', 'yaml'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"
