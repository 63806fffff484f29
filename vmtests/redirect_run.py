"""The redirect lab set up, and one run of traffic through it: what was seen where, and what was counted."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packets import arp, eth, ipv6, nd
from redirect_cases import (
    AT_CLIENT,
    AT_IDS,
    AT_SERVER,
    CLIENT,
    CLIENT0,
    ENDS,
    KINDS,
    LAST,
    SERVER,
    SERVER0,
    VLAN,
    Case,
    Place,
    client_rules,
    interleaved,
    server_rules,
)  # fmt: skip
from vmlab import traffic
from vmlab.lab import Lab

NOISE = 29  # of each kind of frame that belongs to no case
_LOAD_SECONDS, _STATS_SECONDS = 180, 60


def set_up(lab: Lab) -> None:
    """VLAN devices, rules, and neighbours that need not be asked for: frames that wait can be lost."""
    lab["filter"].check("bash", "-euc", _filter_script())
    lab["server"].check("bash", "-euc", _server_script())
    lab["filter"].request("warm", 120, do="warm")
    for interface, rules in (("server0", server_rules()), ("client0", client_rules())):
        path = f"/tmp/{interface}.yaml"
        lab["filter"].put(path, rules.encode())
        lab["filter"].check(
            "xdpguard", "load", "-i", interface, "--mode", "native", path, timeout=_LOAD_SECONDS
        )


def _filter_script() -> str:
    lines = [
        *_vlan("client0", "203.0.113.1/25", "2001:db8:3::1/64"),
        *_vlan("server0", "203.0.113.129/25", "2001:db8:4::1/64"),
        _neighbour(LAST.client, CLIENT, "client0"),
    ]
    for kind in KINDS:
        suffix = f".{VLAN}" if kind.tagged else ""
        lines.append(_neighbour(kind.client, CLIENT, f"client0{suffix}"))
        lines += [_neighbour(host, SERVER, f"server0{suffix}") for host in (kind.server, kind.stranger)]
    return "\n".join(lines)


def _server_script() -> str:
    lines = [
        *_vlan("net0", "203.0.113.130/25", "2001:db8:4::2/64"),
        f"ip route add 203.0.113.0/25 via 203.0.113.129 dev net0.{VLAN}",
        f"ip -6 route add 2001:db8:3::/64 via 2001:db8:4::1 dev net0.{VLAN}",
    ]
    lines += [_neighbour(gateway, SERVER0, "net0") for gateway in ("198.51.100.1", "2001:db8:2::1")]
    lines += [_neighbour(gateway, SERVER0, f"net0.{VLAN}") for gateway in ("203.0.113.129", "2001:db8:4::1")]
    return "\n".join(lines)


def _vlan(interface: str, *addresses: str) -> list[str]:
    name = f"{interface}.{VLAN}"
    return [
        f"ip link add link {interface} name {name} type vlan id {VLAN}",
        *(f"ip address add {address} dev {name} {'nodad' * (':' in address)}" for address in addresses),
        f"ip link set {name} up",
    ]


def _neighbour(address: str, mac: str, interface: str) -> str:
    return f"ip neighbour replace {address} lladdr {mac} dev {interface} nud permanent"


# ---- a run ----------------------------------------------------------------------------------------------
Counter = tuple[str, str, str, str]
"""Interface, hook, kind of counter, name."""
Count = tuple[int, int]  # packets, bytes


@dataclass(frozen=True, slots=True)
class Run:
    """``counted``: by how much each counter grew. ``lost``: not_delivered of client0, "tx" and "redirect"."""

    marker: bytes
    seen: traffic.Seen
    counted: dict[Counter, Count]
    lost: dict[str, int | None]
    modes: dict[str, str]

    def at(self, place: Place, case: Case) -> list[bytes]:
        return [frame for frame in self.seen[place] if case.token in frame]


def run(lab: Lab, name: str, cases: Sequence[Case], ends: Sequence[Case] = ENDS) -> Run:
    """Send all frames of ``cases`` from the client, mixed with each other and with noise."""
    marker = f"xdpguard-lab-{name}".encode()
    closing = [frame for case in ends for frame in case.sent(marker)]
    burst = traffic.Burst(
        marker=marker,
        last_marker=f"-{LAST.name}/".encode(),
        frames=[*_noise(), *interleaved(cases, marker), *closing],
        last=_arrivals(ends, marker),
    )
    before = _stats(lab)
    seen = traffic.watch(lab, AT_CLIENT, burst)
    after = _stats(lab)
    old, new = _counters(before), _counters(after)
    counted = {
        key: (value[0] - old.get(key, (0, 0))[0], value[1] - old.get(key, (0, 0))[1])
        for key, value in new.items()
    }
    modes = {entry["interface"]: entry["mode"] for entry in after}
    return Run(marker, seen, counted, _lost(before, after), modes)


def _arrivals(ends: Sequence[Case], marker: bytes) -> dict[Place, int]:
    places = (AT_CLIENT, AT_SERVER, AT_IDS)
    return {place: sum(len(case.expected(marker)[place]) for case in ends) for place in places}


def _noise() -> list[bytes]:
    """What no rule is about: questions for neighbours."""
    question = bytes(eth(CLIENT0, CLIENT) / arp(1, sha=CLIENT, spa="192.0.2.2", tpa="192.0.2.1"))
    target = "2001:db8:1::1"
    solicit = bytes(eth(CLIENT0, CLIENT) / ipv6("2001:db8:1::2", target, hop_limit=255) / nd(135, target))
    return [question, solicit] * NOISE


def _stats(lab: Lab) -> list[dict[str, Any]]:
    text = lab["filter"].check("xdpguard", "stats", "--format", "json", timeout=_STATS_SECONDS)
    interfaces: list[dict[str, Any]] = json.loads(text)["interfaces"]
    return interfaces


def _counters(interfaces: Sequence[Mapping[str, Any]]) -> dict[Counter, Count]:
    found: dict[Counter, Count] = {}

    def note(entry: Mapping[str, Any], hook: str, kind: str, name: str, leaf: Mapping[str, int]) -> None:
        found[entry["interface"], hook, kind, name] = (leaf["packets"], leaf["bytes"])

    for entry in interfaces:
        for hook in ("ingress", "egress"):
            counts = entry[hook]
            note(entry, hook, "default", "", counts["default"])
            for rule in counts["rules"]:
                note(entry, hook, "rule", rule["name"], rule)
            for kind in ("actions", "reasons"):
                for name, leaf in counts[kind].items():
                    note(entry, hook, kind, name, leaf)
    return found


def _lost(before: list[dict[str, Any]], after: list[dict[str, Any]]) -> dict[str, int | None]:
    """How much not_delivered of client0 grew; None: not observed."""
    old, new = (
        next(entry["ingress"]["not_delivered"] for entry in entries if entry["interface"] == "client0")
        for entries in (before, after)
    )
    return {
        action: None if old[action] is None or new[action] is None else new[action] - old[action]
        for action in ("tx", "redirect")
    }
