"""Names that somebody else chose, a process's and a container's: shown, and obeyed by no terminal.

Both hold what clears a screen and begins a line. A program's path, an interface's and every other name in
every format: tests/test_ui_*.py.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from lab import Lab
from packets import eth, ipv4, udp
from privileges import entered, knowing_container
from test_lifecycle_support import CONSOLE, Site, dropping, run
from test_owners_support import send
from test_trace_refused import cgroup, listening
from trace_command import COMMAND, READY, Said, _await

__all__ = ["cgroup"]
PORT = 5555  # of no rule
COMM, NAME = "a\x1b[2J\nb\x07", "shop\x1b[2J\n\x07"
# Calls itself by the name given; has a UDP socket; connects to the TCP port that it is told.
NAMED = """
import socket, sys
with open("/proc/self/comm", "w") as file:
    file.write(sys.argv[1])
opened = socket.socket(type=socket.SOCK_DGRAM)
opened.bind(("", int(sys.argv[2])))
print(flush=True)
port = int(sys.stdin.readline())
if port:
    socket.create_connection(("127.0.0.1", port)).close()
"""


@contextmanager
def named(ns: str) -> Iterator[subprocess.Popen[str]]:
    """A process called COMM. Told a port it connects there, told 0 it ends."""
    argv = [*entered(ns), sys.executable, "-S", "-c", NAMED, COMM, str(PORT)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
        if process.poll() is None:
            process.communicate("0\n")


def harmless(text: str) -> bool:
    return text.replace("\n", "").isprintable()


@pytest.mark.parametrize("format", ["table", "plain", "csv", "json", "prometheus"])
def test_a_process_cannot_command_a_terminal_by_its_name_in_stats(site: Site, format: str) -> None:
    by = "user" if format == "prometheus" else "process"
    with named(site.end.name) as process:
        assert site.console("load", "--account-owners", site.write(dropping())).code == 0
        send(site, bytes(eth() / ipv4(dst=site.end.ipv4) / udp(dport=PORT) / b"x"))
        said = site.console("stats", "--by", by, "--format", format)
    assert said.code == 0
    assert harmless(said.out + said.err)
    shown = {"json": '"a\\u001b[2J\\nb\\u0007"', "prometheus": 'user="root"'}.get(
        format, "a\\x1b[2J\\nb\\x07"
    )
    assert shown in said.out
    assert by == "user" or str(process.pid) in said.out


@pytest.mark.parametrize("format", ["text", "table", "json", "nprobe"])
def test_neither_process_nor_container_can_command_a_terminal_by_its_name_in_a_trace(
    lab: Lab, cgroup: Path, format: str
) -> None:
    ns = lab.namespace("only")
    before = [*knowing_container(NAME), *entered(ns)]
    options = ["--format", format, "-v", "-to", "--count", "1"]
    with named(ns) as client, listening(ns) as port:
        (cgroup / "cgroup.procs").write_text(str(client.pid))
        with subprocess.Popen(
            [*before, *COMMAND, *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as trace:
            said = Said(trace)
            _await(said, READY)
            client.communicate(f"{port}\n")
            shown = trace.communicate()[0].decode()
    assert harmless(shown)
    assert len(shown.splitlines()) == (3 if format == "table" else 2)  # with the ledger
    names = {
        "text": ("a\\x1b\\x5b2J\\nb\\x07", "shop\\x1b\\x5b2J\\n\\x07"),
        "table": ("shop\\...\\x07",),  # cut in its middle
        "json": ('"a\\u001b[2J\\nb\\u0007"', '"shop\\u001b[2J\\n\\u0007"'),
        "nprobe": ('"shop\\u001b[2J\\n\\u0007"',),
    }
    for name in names[format]:
        assert name in shown


def test_a_rule_file_cannot_command_a_terminal_by_its_name(site: Site) -> None:
    path = site.write("version: 1\n", "a\x1b[2J\nb.yaml")
    said = run(CONSOLE, "check", path)
    assert (said.code, harmless(said.out)) == (0, True)
    assert "a\\x1b[2J\\nb.yaml: ok" in said.out
