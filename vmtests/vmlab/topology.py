"""vmtests/topologies/*.yaml -> machines and the links between them. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import yaml

from vmlab.errors import LabError

FOLDER = Path(__file__).parent.parent / "topologies"


@dataclass(frozen=True, slots=True)
class Interface:
    """A virtio-net device. ``link``: both ends carry the same name; None: a device with no peer."""

    name: str
    mac: str
    link: str | None = None
    addresses: tuple[str, ...] = ()
    capture: bool = False


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    interfaces: tuple[Interface, ...] = ()
    routes: tuple[str, ...] = ()  # arguments of `ip route add`
    forward: bool = False
    cpus: int = 1
    memory_mb: int = 1024


@dataclass(frozen=True, slots=True)
class Topology:
    name: str
    machines: dict[str, Machine] = field(default_factory=dict)

    def links(self) -> dict[str, list[tuple[str, str]]]:
        """Link -> its ends, each (machine, interface)."""
        found: dict[str, list[tuple[str, str]]] = {}
        for machine in self.machines.values():
            for interface in machine.interfaces:
                if interface.link:
                    found.setdefault(interface.link, []).append((machine.name, interface.name))
        return found


def available() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def read(name: str) -> Topology:
    path = FOLDER / f"{name}.yaml"
    if not path.is_file():
        raise LabError(f"no topology called {name}; there are {', '.join(available())}")
    machines = {key: _machine(key, entry or {}) for key, entry in yaml.safe_load(path.read_text()).items()}
    topology = Topology(name, machines)
    for link, ends in topology.links().items():
        if len(ends) != 2:
            raise LabError(f"{path.name}: link {link} has {len(ends)} ends; a link joins two")
    return topology


def _machine(name: str, entry: dict[str, object]) -> Machine:
    interfaces = entry.pop("interfaces", {})
    routes = entry.pop("routes", [])
    assert isinstance(interfaces, dict)
    assert isinstance(routes, list)
    made = tuple(
        Interface(key, **{**value, "addresses": tuple(value.get("addresses", ()))})
        for key, value in interfaces.items()
    )
    return Machine(name, made, tuple(routes), **entry)  # type: ignore[arg-type]
