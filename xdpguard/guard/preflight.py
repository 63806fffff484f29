"""Before rules go live: would they cut the caller off?

A second instance of the very bytecode, whose control page is private and names the staged slot, judges
frames that must pass: ARP and neighbour discovery of the gateway, and the caller's SSH connection in both
directions. Must never touch the live control word.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from pathlib import Path

from xdpguard.abi import abi, reasons
from xdpguard.errors import PreflightError
from xdpguard.guard import frames, programs
from xdpguard.guard.frames import End
from xdpguard.kernel import bpf, counters, maps, neighbour
from xdpguard.kernel.link import Link
from xdpguard.kernel.maps import MapSet, Word
from xdpguard.kernel.neighbour import Gateway
from xdpguard.rules.model import RuleSet

_NUMBERS = abi().numbers
_XDP_PASS, _TC_UNSPEC = 2, 0xFFFFFFFF
_SOMEONE = b"\x02\x00\x00\x00\x00\x01"  # a gateway whose MAC is not known
_DEPTH = 64  # ancestors to look at for SSH_CONNECTION


@dataclass(frozen=True, slots=True)
class Probe:
    """One frame that must pass. ``hook``: 0 ingress, 1 egress."""

    what: str
    hook: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class Session:
    """The caller's SSH connection, as sshd tells it."""

    client: End
    server: End


def ssh_session() -> Session | None:
    """From SSH_CONNECTION: of this process, else of the nearest ancestor (sudo strips it). None: no SSH."""
    text = os.environ.get("SSH_CONNECTION") or _of_ancestors()
    parts = text.split() if text else []
    try:
        client, client_port, server, server_port = parts
        return Session(
            End(b"", ip_address(client), int(client_port)), End(b"", ip_address(server), int(server_port))
        )
    except ValueError:
        return None


def _of_ancestors() -> str | None:
    pid = os.getppid()
    for _ in range(_DEPTH):
        if pid <= 1:
            return None
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
            status = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        for entry in environment:
            if entry.startswith(b"SSH_CONNECTION="):
                return os.fsdecode(entry.partition(b"=")[2])
        pid = int(status.rpartition(")")[2].split()[1])
    return None


def probes(link: Link, session: Session | None, gateways: list[Gateway]) -> list[Probe]:
    """What must pass on this interface."""
    found: list[Probe] = []
    if not link.is_l3:
        for gateway in gateways:
            found += _resolution(link, gateway)
    if session is not None:
        mac = link.mac if not link.is_l3 else b""
        peer = (gateways[0].mac if gateways and gateways[0].mac else _SOMEONE) if mac else b""
        client = End(peer, session.client.address, session.client.port)
        server = End(mac, session.server.address, session.server.port)
        what = f"your SSH connection from {client.address} port {client.port}"
        found.append(Probe(f"{what} (towards this host)", 0, frames.segment(client, server)))
        found.append(Probe(f"{what} (from this host)", 1, frames.segment(server, client)))
    return found


def _resolution(link: Link, gateway: Gateway) -> Iterator[Probe]:
    them = End(gateway.mac or _SOMEONE, gateway.address)
    if isinstance(gateway.address, IPv6Address):
        us = End(link.mac, IPv6Address("fe80::1"))
        what = f"neighbour discovery with the gateway {gateway.address}"
        yield Probe(what, 0, frames.neighbour(them, us, advertise=False))
        yield Probe(what, 0, frames.neighbour(them, us, advertise=True))
        yield Probe(what, 1, frames.neighbour(us, them, advertise=False))
        yield Probe(what, 1, frames.neighbour(us, them, advertise=True))
        return
    us = End(link.mac, ip_address("192.0.2.1"))
    what = f"ARP with the gateway {gateway.address}"
    for hook, source, target in ((0, them, us), (1, us, them)):
        yield Probe(what, hook, frames.arp(source, target, reply=False))
        yield Probe(what, hook, frames.arp(source, target, reply=True))


def uses(link: Link, session: Session) -> bool:
    """Does the session run over this interface of this namespace?"""
    if not neighbour.is_local(session.server.address):
        return False
    route = neighbour.route_to(session.client.address)
    return route is not None and route.oif == link.ifindex


def run(
    found: MapSet,
    slot: int,
    link: Link,
    ruleset: RuleSet,
    *,
    force: bool,
    say: Callable[[str], None],
    statistics: bool,
) -> programs.Programs:
    """Judge the staged slot. PreflightError if something that must pass would not, unless ``force``.

    Returns the judging programs, for their tags; the caller closes them. The slot's counters are zero again
    afterwards.
    """
    session = ssh_session()
    if session is None:
        say("preflight: no SSH session found")
    elif not uses(link, session):
        session = None
    wanted = probes(link, session, neighbour.gateways(link.ifindex))
    private = maps.create_control(found)
    try:
        private.word = Word(slot, slot)
        judge = programs.load(found, control=private.fd, statistics=statistics)
    finally:
        private.close()
    try:
        for probe in wanted:
            refusal = _judge(judge, found, slot, ruleset, probe)
            if refusal and not force:
                raise PreflightError(
                    f"{link.name}: {refusal}; nothing changed (--force loads it all the same)"
                )
            if refusal:
                say(f"warning: {link.name}: {refusal}; loaded all the same (--force)")
    except BaseException:
        judge.close()
        raise
    finally:
        counters.zero(found, slot)
    return judge


def _judge(judge: programs.Programs, found: MapSet, slot: int, ruleset: RuleSet, probe: Probe) -> str | None:
    counters.zero(found, slot)
    program, passed = (judge.ingress, _XDP_PASS) if probe.hook == 0 else (judge.egress, _TC_UNSPEC)
    result = bpf.prog_test_run(program.fd, probe.frame)
    if result.verdict == passed:
        return None
    return f"{_decider(found, slot, ruleset, probe.hook)} would not let {probe.what} pass"


def _decider(found: MapSet, slot: int, ruleset: RuleSet, hook: int) -> str:
    rules = (ruleset.ingress.rules, ruleset.egress.rules)
    counts = counters.read(found, slot, (len(rules[0]), len(rules[1])))[hook]
    direction = ("ingress", "egress")[hook]
    first = _NUMBERS["XG_COUNT_RULES"]
    for index, count in enumerate(counts):
        if index < _NUMBERS["XG_COUNT_REASONS"] or not count[0]:
            continue
        if index >= first:
            rule = rules[hook][index - first]
            return f"{ruleset.file}:{rule.line}:{rule.column}: rule {rule.name} ({rule.action.name.lower()})"
        if index == _NUMBERS["XG_COUNT_DEFAULT"]:
            return f"{ruleset.file}: the {direction} default (drop)"
        return f"{ruleset.file}: {reasons()[index - _NUMBERS['XG_COUNT_REASONS']]} ({direction})"
    return f"{ruleset.file}: the {direction} program"
