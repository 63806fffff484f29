"""What `xdpguard trace` tells on one kernel: of the scripted connections, and of segments sent again.

The script runs twice under kprobes and twice under tracepoints alone: first as it comes, then on CPU 0 with
every packet received on CPU 1, where a process runs that has nothing to do with it.
"""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scripted_connections
from scripted_judge import Verdict, judge, parsed
from vmlab import bytecode, owned
from vmlab.boot import PROJECT
from vmlab.errors import LabError
from vmlab.machine import Machine
from vmlab.owned import Owned

PLAIN, ACROSS, SENDS, SILENT = "plain", "across", "sends", "silent"
"""Network namespaces."""
_PORT = "7002"
_SENDS, _SILENT = "198.18.0.1", "198.18.0.2"
_SCRIPT = Path(scripted_connections.__file__)
_GUEST = f"{PROJECT}/vmtests/vmlab/guest"
_AGAIN = f"{_GUEST}/sent_again.py"
_SECONDS = 300.0  # under emulation, perhaps beside other work; a good run waits for none of it
_RULES = f"""\
version: 1
default: {{ingress: pass, egress: pass}}
egress:
  - {{name: silence, proto: tcp, sport: {_PORT}, action: drop}}
"""
_SPIN = "import os; os.sched_setaffinity(0, {1}); print('spins', flush=True)\nwhile True: pass"


_EVENTS = ("connect", "connect-failed", "accept", "close", "listen", "udp-send", "udp-recv")


@dataclass(slots=True)
class Traced:
    """One trace. ``truths``: namespace -> what the script wrote there; ``told``: on standard error."""

    truths: dict[str, dict[str, Any]] = field(default_factory=dict)
    told: str = ""
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kprobes(self) -> bool:
        return ": kprobe " in self.told

    @property
    def untold(self) -> list[str]:
        """Events that nothing tells of here, as the trace says itself."""
        return [event for event in _EVENTS if f"xdpguard: {event}: " not in self.told]

    def verdict(self, name: str) -> Verdict:
        return judge(self.truths[name], self.lines[:-1], kprobes=self.kprobes, untold=self.untold)

    def unknown(self, name: str) -> tuple[int, int, int]:
        """Of the script: events told, those without a known owner, and how many of these can have none."""
        truth = self.truths[name]
        told = [line["attribution"] for line in self.lines[:-1] if line["netns"] == truth["netns"]]
        nobodys = sum(event["attribution"] == "unknown" for event in truth["events"])
        return len(told), told.count("unknown"), nobodys


@dataclass(slots=True)
class TraceRun:
    release: str = ""
    kprobes: Traced = field(default_factory=Traced)
    tracepoints: Traced = field(default_factory=Traced)
    again: Traced = field(default_factory=Traced)
    """`trace -r`, while segments are sent again."""
    steered: dict[bool, int] = field(default_factory=dict)
    """Under kprobes or not -> times that CPU 0 gave packets to CPU 1 while the script ran on CPU 0."""
    owned: Owned | None = None
    """While kprobes tell whose sockets they are."""
    sender: dict[str, Any] = field(default_factory=dict)
    """Whose segments were sent again, and how many, as it says itself."""

    def report(self, kernel: str) -> list[str]:
        """How many events have no known owner, a line for each run of the script."""
        lines = []
        for source, one in (("kprobes", self.kprobes), ("tracepoints", self.tracepoints)):
            for name in one.truths:
                events, unknown, nobodys = one.unknown(name)
                rate = (unknown - nobodys) / events
                lines.append(
                    f"{kernel:8} {source:12} {name:8} {events:5} events, owner unknown: {unknown}, "
                    f"of these {nobodys} that can have none; of the others {rate:.2%}"
                )
        return lines


def run(machine: Machine) -> TraceRun:
    """The package must be imported (``warm``). The machine is left with namespaces and without kprobes."""
    done = TraceRun(release=machine.check("uname", "-r").strip())
    machine.check("bash", "-euc", _set_up())
    bytecode.keep(machine.check(sys.executable, f"{_GUEST}/trace_sources.py", timeout=_SECONDS))
    with _traced(machine, done.kprobes, "--netns", "all"):
        done.steered[True] = _scripts(machine, done.kprobes)
        done.owned = owned.run(machine, "tcp")
    with _traced(machine, done.again, "-r", "--netns", SENDS):
        done.sender = _sent_again(machine)
    # From here on a kernel without kprobes, as far as anyone can see.
    machine.check("mount", "-t", "tmpfs", "none", "/sys/devices/kprobe")
    with _traced(machine, done.tracepoints, "--netns", "all"):
        done.steered[False] = _scripts(machine, done.tracepoints)
    return done


@contextmanager
def _traced(machine: Machine, into: Traced, *words: str) -> Iterator[None]:
    trace = machine.start(
        "xdpguard", "trace", "--format", "json", "-v", *words,
        ready="xdpguard: exit: ", timeout=_SECONDS,
    )  # fmt: skip
    yield
    ended = machine.finish(trace, send=signal.SIGINT, timeout=_SECONDS)
    if ended.code:
        raise LabError(f"{machine.name}: trace: exit code {ended.code}\n{ended.err}")
    into.told, into.lines = ended.err, parsed(ended.out)


def _scripts(machine: Machine, into: Traced) -> int:
    """Both runs of the script. How often the second was helped by the other CPU."""
    into.truths[PLAIN] = _scripted(machine, PLAIN)
    before = _steered(machine)
    bystander = machine.start(sys.executable, "-I", "-S", "-c", _SPIN, ready="spins")
    into.truths[ACROSS] = _scripted(machine, ACROSS, "0")
    steered = _steered(machine) - before
    machine.finish(bystander, send=signal.SIGKILL)
    return steered


def _set_up() -> str:
    """In ACROSS the loopback receives on CPU 1 alone. ``ip netns exec`` mounts that one's /sys."""
    lines = [f"ip netns add {name}" for name in (PLAIN, ACROSS, SENDS, SILENT)]
    lines += [f"ip -n {name} link set lo up" for name in (PLAIN, ACROSS)]
    lines.append(f"ip netns exec {ACROSS} sh -c 'echo 2 >/sys/class/net/lo/queues/rx-0/rps_cpus'")
    lines.append(f"ip link add again0 netns {SENDS} type veth peer name again0 netns {SILENT}")
    for name, address in ((SENDS, _SENDS), (SILENT, _SILENT)):
        lines.append(f"ip -n {name} address add {address}/24 dev again0")
        lines.append(f"ip -n {name} link set again0 up")
    return "\n".join(lines)


def _inside(name: str, program: str, *words: str) -> tuple[str, ...]:
    # Not "ip netns exec", in whose /sys the bpf file system is missing.
    return "nsenter", f"--net=/run/netns/{name}", sys.executable, "-E", "-S", program, *words


def _scripted(machine: Machine, name: str, *cpu: str) -> dict[str, Any]:
    machine.check(*_inside(name, str(_SCRIPT), f"/tmp/{name}.json", *cpu), timeout=_SECONDS)
    truth: dict[str, Any] = json.loads(machine.check("cat", f"/tmp/{name}.json"))
    return truth


def _steered(machine: Machine) -> int:
    """Column 10 of CPU 1: how often another CPU gave it packets (net/core/net-procfs.c)."""
    lines = machine.check("cat", "/proc/net/softnet_stat").splitlines()
    return int(lines[1].split()[9], 16)


def _sent_again(machine: Machine) -> dict[str, Any]:
    """The peer's answers are dropped on their way out, by a rule of ours.

    A rule at the sender itself would not do: what its own egress drops TCP does not count as sent at all.
    """
    rules, go = "/tmp/silence.yaml", "/tmp/silence.go"
    machine.put(rules, _RULES.encode())
    silent = machine.start(*_inside(SILENT, _AGAIN, "listen", _SILENT, _PORT), ready="listening")
    sender = machine.start(*_inside(SENDS, _AGAIN, "connect", _SILENT, _PORT, go), ready="connected")
    words = ("-i", "again0", "--netns", SILENT)
    machine.check("xdpguard", "load", *words, rules, timeout=_SECONDS)
    machine.put(go, b"")
    told = machine.finish(sender, send=0, timeout=_SECONDS)
    machine.finish(silent, send=signal.SIGKILL)
    machine.check("xdpguard", "unload", *words, timeout=_SECONDS)
    found: dict[str, Any] = json.loads(told.out.splitlines()[-1])
    return found
