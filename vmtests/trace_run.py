"""What `xdpguard trace` tells on one kernel: the scripted connections twice, and segments sent again.

Everything under one trace of all network namespaces, since its start takes long under emulation.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import scripted_connections
from scripted_judge import Verdict, judge, parsed
from vmlab import bytecode
from vmlab.boot import PROJECT
from vmlab.errors import LabError
from vmlab.machine import Machine

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


@dataclass(slots=True)
class TraceRun:
    truths: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Namespace -> what the script wrote there."""
    steered: int = 0
    """Times that CPU 0 gave packets to CPU 1 while the script ran on CPU 0."""
    sender: dict[str, Any] = field(default_factory=dict)
    """Whose segments were sent again, and how many, as it says itself."""
    told: str = ""
    """On standard error."""
    lines: list[dict[str, Any]] = field(default_factory=list)

    @property
    def kprobes(self) -> bool:
        return ": kprobe " in self.told

    def verdict(self, name: str) -> Verdict:
        return judge(self.truths[name], self.lines[:-1], kprobes=self.kprobes)


def run(machine: Machine) -> TraceRun:
    """The package must be imported (``warm``). The machine is left with namespaces and nothing loaded."""
    done = TraceRun()
    machine.check("bash", "-euc", _set_up())
    bytecode.keep(machine.check(sys.executable, f"{_GUEST}/trace_sources.py", timeout=_SECONDS))
    trace = machine.start(
        "xdpguard", "trace", "--netns", "all", "--format", "json", "-v",
        ready="xdpguard: exit: ", timeout=_SECONDS,
    )  # fmt: skip
    done.truths[PLAIN] = _scripted(machine, PLAIN)
    before = _steered(machine)
    bystander = machine.start(sys.executable, "-I", "-S", "-c", _SPIN, ready="spins")
    done.truths[ACROSS] = _scripted(machine, ACROSS, "0")
    done.steered = _steered(machine) - before
    machine.finish(bystander, send=signal.SIGKILL)
    done.sender = _sent_again(machine)
    ended = machine.finish(trace, send=signal.SIGINT, timeout=_SECONDS)
    if ended.code:
        raise LabError(f"{machine.name}: trace: exit code {ended.code}\n{ended.err}")
    done.told, done.lines = ended.err, parsed(ended.out)
    return done


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
