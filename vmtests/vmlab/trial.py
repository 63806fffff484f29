"""What xdpguard does on one kernel, found by trying it on a machine: for the smoke test and docs/kernels.md.

Runs the verbs in one fixed order and keeps every result; a command that fails is a finding, no error. Only a
machine that no longer answers ends it (LabError).
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass, field
from typing import Any

from vmlab import owned
from vmlab.boot import PROJECT
from vmlab.machine import Machine, Result
from vmlab.owned import Owned

VETH, PEER, CARD = "xg0", "xg1", "net0"
MODES = ("native", "generic")
RULES = f"{PROJECT}/rules/demo.yaml"
REDIRECT = "/tmp/redirect.yaml"
PACKETS = 3
"""Frames sent at each loaded interface: into VETH (demo.yaml drops them), out of CARD (it passes them)."""

FEATURES = {
    "native-veth": "native XDP on a veth pair",
    "native-card": "native XDP on a virtio network card",
    "generic": "generic XDP on both",
    "not-delivered": "frames sent back or redirected that were not delivered are counted (`stats`)",
    "multi-buffer": "XDP programs for frames of several buffers",
    "native-jumbo": "native XDP on a veth with an MTU beyond one page",
    "xdp-features": "the kernel tells which devices can take redirected frames",
    "tcx": "TCX programs in front of TC filters can be seen",
    "netns-cookie": "a network namespace is told from a later one with the same inode",
    "large-tables": "tables of more than 4 MiB",
    "no-locked-limit": "maps and programs do not count against RLIMIT_MEMLOCK",
    "falling-loops": "the verifier takes loops as clang lays them out",
    "btf": "the kernel describes its types (BTF)",
    "kprobe": "a kprobe without kernel headers",
    "tracepoint": "a tracepoint without kernel headers",
}
"""Names for kernels.toml -> what docs/kernels.md says."""

PROGRAMS = {
    "xdp-multi": "XDP, multi-buffer",
    "xdp-single": "XDP, single-buffer",
    "tc": "TC",
    "xdp-multi-owners": "XDP, multi-buffer, owners",
    "xdp-single-owners": "XDP, single-buffer, owners",
    "tc-owners": "TC, owners",
    "pass": "pass-only on redirect targets",
}
"""What the verifier is asked about. Owners: with `load --account-owners`."""

_GUEST = f"{PROJECT}/vmtests/vmlab/guest"
# The first load compiles, under emulation, perhaps beside other work. A good run waits for none of it.
_SECONDS = 300.0
_REDIRECT_RULES = f"""\
version: 1
default: {{ingress: pass, egress: pass}}
ingress:
  - {{name: away, proto: udp, dport: 9, action: {{redirect: {{interface: {CARD}}}}}}}
"""
_SEND = (
    "import socket, sys; s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW); s.bind((sys.argv[1], 0)); "
    f"[s.send(bytes.fromhex(sys.argv[2])) for _ in range({PACKETS})]"
)
_ETHERNET = "02000000000202000000000108004500"
_ADDRESSES = "c0000201c0000202"  # 192.0.2.1 -> 192.0.2.2
_UDP_TO_9 = f"{_ETHERNET}001e000040004011b6cb{_ADDRESSES}04000009000a0000ffff"
_TCP_FROM_8080 = f"{_ETHERNET}0028000040004006b6cc{_ADDRESSES}1f90040000000001000000015010040000000000"
_VERIFIER = re.compile(r"processed (\S+) insns of the XDP program \((\S+)-buffer\), (\S+) of the TC program")


@dataclass(slots=True)
class Trial:
    """``steps``: every command in its order. ``probes``: what kprobe_probe.py said, by its ``what``."""

    release: str = ""
    steps: dict[str, Result] = field(default_factory=dict)
    probes: dict[str, dict[str, Any]] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    """Feature -> "" if it works, else how it does not."""
    instructions: dict[str, str] = field(default_factory=dict)
    """Program -> the verifier's count as text, or why there is none."""
    owned: Owned | None = None
    """Without a trace."""

    def stats(self, step: str) -> dict[str, Any]:
        """The one interface of a ``stats --format json``."""
        [interface] = json.loads(self.steps[step].out)["interfaces"]
        assert isinstance(interface, dict)
        return interface


def run(machine: Machine) -> Trial:
    """Everything, in about a minute. The machine is left with a veth pair and nothing loaded."""
    trial = Trial(release=machine.check("uname", "-r").strip())
    machine.request("import of the package", 300, do="warm")
    machine.put(REDIRECT, _REDIRECT_RULES.encode())
    machine.check("ip", "link", "add", VETH, "type", "veth", "peer", "name", PEER)
    for name in (VETH, PEER):
        machine.check("ip", "link", "set", name, "up")
    # Beside the loads, since it needs the compiler only; the machine has two CPUs.
    probes = machine.start(sys.executable, f"{_GUEST}/kprobe_probe.py", str(PROJECT), "kprobe", "tracepoint")
    _native_veth(machine, trial)
    found = machine.start(sys.executable, f"{_GUEST}/kernel_features.py")
    _loaded(machine, trial, "native", CARD)
    _generic(machine, trial)
    _installed_command(machine, trial)
    trial.owned = owned.run(machine, "udp")
    trial.steps["load owners"] = trial.owned.load
    _judge(
        trial,
        machine.finish(probes, send=0, timeout=_SECONDS),
        machine.finish(found, send=0, timeout=_SECONDS),
    )
    return trial


def _native_veth(machine: Machine, trial: Trial) -> None:
    """A redirect rule set, then other rules over it, back again, and off."""

    def step(name: str, *words: str) -> None:
        trial.steps[name] = machine.run("xdpguard", *words, timeout=_SECONDS)

    step("load redirect", "load", "-i", VETH, REDIRECT, "--mode", "native", "--verbose")
    step("status redirect", "status", "-i", VETH, "--format", "json")
    step(f"load native {VETH}", "load", "-i", VETH, RULES, "--verbose")
    _send(machine, VETH)
    step(f"stats native {VETH}", "stats", "-i", VETH, "--format", "json")
    step("status reload", "status", "-i", VETH, "--format", "json")
    step("rollback", "rollback", "-i", VETH)
    step("status rollback", "status", "-i", VETH, "--format", "json")
    step(f"unload native {VETH}", "unload", "-i", VETH)


def _loaded(machine: Machine, trial: Trial, mode: str, name: str) -> None:
    trial.steps[f"load {mode} {name}"] = machine.run(
        "xdpguard", "load", "-i", name, RULES, "--mode", mode, timeout=_SECONDS
    )
    _watched(machine, trial, mode, name)


def _watched(machine: Machine, trial: Trial, mode: str, name: str) -> None:
    """Frames, counters, and off again."""
    _send(machine, name)
    for verb, more in (("stats", ("--format", "json")), ("unload", ())):
        trial.steps[f"{verb} {mode} {name}"] = machine.run(
            "xdpguard", verb, "-i", name, *more, timeout=_SECONDS
        )


def _generic(machine: Machine, trial: Trial) -> None:
    """Both interfaces at once: two verifiers on two CPUs."""
    loads = {
        name: machine.start("xdpguard", "load", "-i", name, RULES, "--mode", "generic")
        for name in (VETH, CARD)
    }
    for name, load in loads.items():
        trial.steps[f"load generic {name}"] = machine.finish(load, send=0, timeout=_SECONDS)
    for name in loads:
        _watched(machine, trial, "generic", name)


def _send(machine: Machine, name: str) -> None:
    door, frame = (PEER, _UDP_TO_9) if name == VETH else (name, _TCP_FROM_8080)
    machine.check(sys.executable, "-I", "-S", "-c", _SEND, door, frame)


def _installed_command(machine: Machine, trial: Trial) -> None:
    """What a user runs: a process of its own, not a fork of the agent."""
    command = f"{PROJECT}/.venv/bin/xdpguard"
    trial.steps["exec --help"] = machine.run(command, "--help", timeout=_SECONDS)
    trial.steps["exec check"] = machine.run(command, "check", RULES, timeout=_SECONDS)
    trial.steps["check"] = machine.run("xdpguard", "check", RULES, timeout=_SECONDS)


def _judge(trial: Trial, probes: Result, found: Result) -> None:
    trial.steps["kprobe_probe"], trial.steps["kernel_features"] = probes, found
    trial.probes = {one["what"]: one for one in map(json.loads, probes.out.splitlines())}
    tried: dict[str, dict[str, Any]] = json.loads(found.out) if found.code == 0 else {}
    reasons = {
        "native-veth": _refusal(trial, f"load native {VETH}"),
        "native-card": _refusal(trial, f"load native {CARD}"),
        "generic": _refusal(trial, f"load generic {VETH}") or _refusal(trial, f"load generic {CARD}"),
        "not-delivered": _not_observed(trial),
        **{what: one["reason"] for what, one in trial.probes.items()},
        **tried.get("features", {}),
    }
    trial.reasons = {
        name: reasons.get(name, f"not tried: {found.err[-300:]}{probes.err[-300:]}") for name in FEATURES
    }
    numbers = {**tried.get("programs", {}), **_verbose(trial, "load redirect", "")}
    numbers |= _verbose(trial, "load owners", "-owners")
    trial.instructions = {name: str(numbers.get(name) or _absent(trial, name)) for name in PROGRAMS}


def _refusal(trial: Trial, step: str) -> str:
    result = trial.steps[step]
    return f"exit code {result.code}: {result.err.strip()}" if result.code else ""


def _not_observed(trial: Trial) -> str:
    if trial.steps[f"stats native {VETH}"].code:
        return "stats failed"
    lost = trial.stats(f"stats native {VETH}")["ingress"]["not_delivered"]
    unknown = [action for action, packets in lost.items() if packets is None]
    return f"not observed: {', '.join(unknown)}" if unknown else ""


def _verbose(trial: Trial, step: str, suffix: str) -> dict[str, str]:
    """The counts that ``load --verbose`` told."""
    told = _VERIFIER.search(trial.steps[step].err)
    return {f"xdp-{told[2]}{suffix}": told[1], f"tc{suffix}": told[3]} if told else {}


def _absent(trial: Trial, program: str) -> str:
    if program.startswith("xdp-multi") and trial.reasons["multi-buffer"]:
        return "not on this kernel"
    return "no number: it was not loaded"
