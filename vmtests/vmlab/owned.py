"""Whose packets they were: `load --account-owners` on one kernel, and what `stats --by process` then tells.

One process asks, another one at the far end of a veth pair answers, each in a network namespace of its own.
Without a trace a load finds the asking process's UDP socket; a trace tells of its TCP connection.
"""

from __future__ import annotations

import json
import signal
import sys
from dataclasses import dataclass
from typing import Any

from vmlab.boot import PROJECT
from vmlab.errors import LabError
from vmlab.machine import Machine, Result

NEAR, FAR = "asks", "answers"
"""Network namespaces."""
ASKED = 5
"""Packets of the asking process's own in each direction, at least."""
_INTERFACE = "own0"
_NEAR, _FAR = "198.18.2.1", "198.18.2.2"
_PORTS = {"udp": "7003", "tcp": "7004"}
_RULES = "version: 1\ndefault: {ingress: pass, egress: pass}\n"
_TRAFFIC = f"{PROJECT}/vmtests/vmlab/guest/owned_traffic.py"
_SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Owned:
    """``pid``: of the process that asked."""

    load: Result
    stats: Result
    pid: int

    def _interface(self) -> dict[str, Any]:
        for result in (self.load, self.stats):
            if result.code:
                raise LabError(f"exit code {result.code}: {result.err}")
        [interface] = json.loads(self.stats.out)["interfaces"]
        assert isinstance(interface, dict)
        return interface

    def seen(self, hook: str) -> int:
        packets: int = self._interface()[hook]["seen"]["packets"]
        return packets

    def packets(self, hook: str) -> dict[int | str, int]:
        """Of each process by its number, "(kernel)" and "(unknown)"; those that have any."""
        rows = self._interface()["owners"][hook]["processes"]
        return {row["pid"] or row["name"]: row["packets"] for row in rows if row["packets"]}


def run(machine: Machine, kind: str) -> Owned:
    """``kind``: "udp" or "tcp". The machine is left as it was."""
    rules, go = f"/tmp/owned-{kind}.yaml", f"/tmp/owned-{kind}.go"
    where = ("-i", _INTERFACE, "--netns", NEAR)
    machine.put(rules, _RULES.encode())
    machine.check("bash", "-euc", _set_up())
    answers = machine.start(*_inside(FAR), "echo", kind, _FAR, _PORTS[kind], ready="ready")
    asks = machine.start(*_inside(NEAR), "ask", kind, _FAR, _PORTS[kind], str(ASKED), go, ready="ready")
    load = machine.run("xdpguard", "load", *where, rules, "--account-owners", "--verbose", timeout=_SECONDS)
    machine.put(go, b"")
    asked = machine.finish(asks, send=0, timeout=_SECONDS)
    stats = machine.run("xdpguard", "stats", *where, "--by", "process", "--format", "json", timeout=_SECONDS)
    machine.run("xdpguard", "unload", *where, timeout=_SECONDS)
    machine.finish(answers, send=signal.SIGKILL)
    machine.check("bash", "-euc", f"ip netns del {NEAR}; ip netns del {FAR}")
    return Owned(load, stats, int(asked.out.split()[-1]))


def _set_up() -> str:
    lines = [f"ip netns add {name}" for name in (NEAR, FAR)]
    lines.append(f"ip link add {_INTERFACE} netns {NEAR} type veth peer name own1 netns {FAR}")
    for name, device, address in ((NEAR, _INTERFACE, _NEAR), (FAR, "own1", _FAR)):
        lines.append(f"ip -n {name} address add {address}/24 dev {device}")
        lines.append(f"ip -n {name} link set {device} up")
    return "\n".join(lines)


def _inside(name: str) -> tuple[str, ...]:
    # Not "ip netns exec", in whose /sys the bpf file system is missing.
    return "nsenter", f"--net=/run/netns/{name}", sys.executable, "-E", "-S", _TRAFFIC
