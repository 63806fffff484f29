"""100,000 rules on one kernel: tables built on the host, and which rule the programs then say decides.

A kernel that takes no map value of that size gets rule files for the verb `load`: what fits there, and more.
"""

from __future__ import annotations

import json
import sys
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Any

from packets import eth, ipv4, ipv6, tcp, udp
from vmlab.boot import PROJECT
from vmlab.machine import Machine, Result

from xdpguard.abi import abi
from xdpguard.classify.compile import build
from xdpguard.generation import manifest, slots
from xdpguard.rules.parse import parse

RULES = 100_000
FITS, TOO_MANY = 20_000, 26_000
"""Rules that are loaded, and refused, where a map value has at most 4 MiB (docs/limitations.md)."""
_EGRESS = ("out-first", "out-last")
_INDICES = (*range(6), *range(RULES // 2 - 3, RULES // 2 + 3), *range(RULES - 6, RULES))
_FIRST_RULE = abi().numbers["XG_COUNT_RULES"]
_DEFAULT = abi().numbers["XG_COUNT_DEFAULT"]
_GUEST = f"{PROJECT}/vmtests/vmlab/guest"
_INTERFACE = "large0"
_SECONDS = 300.0


@dataclass(slots=True)
class LargeRun:
    """``asked``: what each frame is; ``expected`` and ``decided``: the counters of its deciders."""

    asked: list[str] = field(default_factory=list)
    expected: list[list[int]] = field(default_factory=list)
    decided: list[list[int]] = field(default_factory=list)
    instructions: list[int] = field(default_factory=list)
    refused: str = ""
    loads: dict[int, Result] = field(default_factory=dict)
    """Number of rules -> `load`, where the tables were refused."""
    status: dict[str, Any] = field(default_factory=dict)


def rule_file(rules: int) -> str:
    """Ingress rules of four shapes that exclude each other; the last has no address. Egress has two."""
    lines = ["version: 1", "default: {ingress: pass, egress: pass}", "ingress:"]
    lines += [f"  - {{name: r{at}, {_fields(at)}, action: drop}}" for at in range(rules - 1)]
    lines += ["  - {name: last, proto: udp, dport: 9, action: drop}", "egress:"]
    for at, name in enumerate(_EGRESS):
        lines.append(f"  - {{name: {name}, proto: tcp, dport: {at + 1}, action: drop}}")
    return "\n".join(lines) + "\n"


def _ends(at: int) -> tuple[IPv4Address, IPv4Address, IPv6Address, int]:
    """An IPv4 source and destination, an IPv6 source and a port of rule ``at`` alone."""
    upper = IPv6Address((0x20010DB8 << 32 | at) << 64)
    return IPv4Address((10 << 24) + at), IPv4Address((172 << 24) + (at << 4)), upper, 1000 + at % 60_000


def _fields(at: int) -> str:
    src, dst, upper, port = _ends(at)
    return (
        f"src: {src}, proto: tcp, dport: {port}",
        f"src: {src}, dst: {dst}/28, proto: udp",
        f"dst: {dst}/28, proto: tcp, sport: {port}",
        f"src: '{upper}/64', proto: udp, dport: {port}",
    )[at % 4]


def _frame(at: int) -> bytes:
    """A packet that rule ``at`` decides."""
    src, dst, upper, port = _ends(at)
    packet = (
        ipv4(src=str(src), dst="192.0.2.9") / tcp(dport=port),
        ipv4(src=str(src), dst=str(dst + 5)) / udp(dport=port),
        ipv4(src="192.0.2.9", dst=str(dst + 15)) / tcp(sport=port),
        ipv6(src=str(upper + 7), dst="2001:db9::1") / udp(dport=port),
    )[at % 4]
    return bytes(eth() / packet)


def _asked() -> Iterator[tuple[str, int, bytes, int]]:
    """-> what it is, its hook, the frame, the counter of what decides it."""
    for at in _INDICES[:-1]:
        yield f"rule {at}", 0, _frame(at), _FIRST_RULE + at
    nobodys = ipv4(src="192.0.2.9", dst="192.0.2.8")
    yield "the last rule", 0, bytes(eth() / nobodys / udp(dport=9)), _FIRST_RULE + RULES - 1
    yield "no rule", 0, bytes(eth() / nobodys / udp(dport=10)), _DEFAULT
    for at, name in enumerate(_EGRESS):
        yield name, 1, bytes(eth() / nobodys / tcp(dport=at + 1)), _FIRST_RULE + at


@cache
def _tables() -> tuple[bytes, bytes]:
    """What guest/large_tables.py reads; the same for all kernels."""
    ruleset = parse(rule_file(RULES).encode(), "large.yaml", Path("/"))
    names = manifest.encode(manifest.describe(ruleset, 0.0, {}))
    tables = build(ruleset, 2, {}, names)
    size = slots.size_for(tables, names)
    frames = {
        "size": asdict(size),
        "rules": [len(ruleset.ingress.rules), len(ruleset.egress.rules)],
        "frames": [(hook, frame.hex()) for _, hook, frame, _ in _asked()],
    }
    return zlib.compress(tables.blob.tobytes(), 1), json.dumps(frames).encode()


def run(machine: Machine) -> LargeRun:
    """The machine is left as it was."""
    done = LargeRun([one[0] for one in _asked()], [[one[3]] for one in _asked()])
    tables, frames = _tables()
    machine.put("/tmp/large.tables", tables)
    machine.put("/tmp/large.frames", frames)
    told = machine.run(
        sys.executable,
        f"{_GUEST}/large_tables.py",
        "/tmp/large.tables",
        "/tmp/large.frames",
        timeout=_SECONDS,
    )
    machine.check("rm", "/tmp/large.tables")
    if told.code:
        done.refused = told.err.strip()
        _loads(machine, done)
        return done
    answer = json.loads(told.out)
    done.decided, done.instructions = answer["decided"], answer["instructions"]
    return done


def _loads(machine: Machine, done: LargeRun) -> None:
    machine.check("ip", "link", "add", _INTERFACE, "type", "veth", "peer", "name", "large1")
    for rules in (FITS, TOO_MANY):
        path = f"/tmp/rules-{rules}.yaml"
        machine.put(path, rule_file(rules).encode())
        done.loads[rules] = machine.run("xdpguard", "load", "-i", _INTERFACE, path, timeout=_SECONDS)
    found = machine.check("xdpguard", "status", "-i", _INTERFACE, "--format", "json", timeout=_SECONDS)
    [done.status] = json.loads(found)["interfaces"]
    machine.check("xdpguard", "unload", "-i", _INTERFACE, timeout=_SECONDS)
    machine.check("ip", "link", "del", _INTERFACE)
