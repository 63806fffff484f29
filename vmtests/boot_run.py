"""One machine with systemd, booted twice on one disk with a power cut between: what comes back of its rules.

CARD's rules are confirmed, then others loaded that nobody confirms; LAST's are loaded and confirmed just
before the cut; what is kept of DAMAGED is damaged. In the second boot no command is given before its end.
"""

from __future__ import annotations

import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from packets import eth, icmp, ipv4
from vmlab import boot, bytecode, systemd, topology
from vmlab.boot import PROJECT, Plan
from vmlab.errors import LabError
from vmlab.kernels import Image
from vmlab.machine import Machine, Network, Result
from vmlab.topology import Interface
from vmlab.wire import Wire

CARD, LAST, DAMAGED = "net0", "net1", "net2"
CONFIRMED, WAITING = "/tmp/confirmed.yaml", "/tmp/waiting.yaml"
_INTERFACES = tuple(
    Interface(name, f"02:00:00:00:01:0{at}") for at, name in enumerate((CARD, LAST, DAMAGED), 1)
)
HERE, GOOD, BAD = "192.0.2.1", "192.0.2.2", "192.0.2.9"
_PEER = "02:00:00:00:02:02"
_QUEUED = 5  # frames; a Unix socket holds ten
_SECONDS = 150.0  # a boot takes a third of it, beside other work
_RULES = f"""\
version: 1
default: {{ingress: pass, egress: pass}}
ingress:
  - {{name: shut, src: {BAD}, action: drop}}
"""
_OTHER_RULES = _RULES.replace("drop", "pass")

_UNIT = f"{PROJECT}/systemd/xdpguard@.service"
_COMMAND = f"{Path(sys.executable).parent}/xdpguard"
_UNITS = [f"xdpguard@{one.name}.service" for one in _INTERFACES]
# As docs/restore.md says, but that systemd reads its units anew only at the next boot: it takes seconds.
# udev may still be naming cards.
_ENABLE = f"""
udevadm settle
sed 's|/usr/local/bin/xdpguard|{_COMMAND}|' {_UNIT} >/etc/systemd/system/xdpguard@.service
systemctl enable --no-reload lab-network.service {" ".join(_UNITS)}
sync
"""
# Configures the network, once it may be configured, and notes what it found.
_NETWORK = f"""\
[Unit]
Wants=network.target sys-subsystem-net-devices-{CARD}.device
After=network-pre.target sys-subsystem-net-devices-{CARD}.device
Before=network.target
[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -c 'ip -d link show {CARD} >/run/found'
ExecStart=/bin/ip address add {HERE}/24 dev {CARD}
ExecStart=/bin/ip neighbour add {GOOD} lladdr {_PEER} dev {CARD}
ExecStart=/bin/ip neighbour add {BAD} lladdr {_PEER} dev {CARD}
ExecStart=/bin/ip link set {CARD} up
[Install]
WantedBy=multi-user.target
"""
_DAMAGE = f"for file in /var/lib/xdpguard/host/{DAMAGED}/*.rules; do echo >>$file; done; sync"
_UNPLUG = f"echo 1 >$(readlink -f /sys/class/net/{CARD}/device/..)/remove"
_PROPERTIES = "ActiveState,Result,ActiveEnterTimestampMonotonic"


@dataclass(slots=True)
class BootRun:
    """``answered``: before the first load, and after the second boot: whose pings were, in their order."""

    answered: list[list[str]] = field(default_factory=list)
    found: str = ""
    """What the network's configuration found at CARD, in the second boot."""
    units: dict[str, dict[str, str]] = field(default_factory=dict)
    """Unit -> properties, after the second boot."""
    logs: dict[str, str] = field(default_factory=dict)
    """Interface -> the journal of its unit, in the second boot."""
    links: dict[str, str] = field(default_factory=dict)
    status: Result | None = None
    stats: Result | None = None
    """Of CARD."""
    replug: Replug | LabError | None = None


@dataclass(frozen=True, slots=True)
class Replug:
    """``missing``: what `ip` said when CARD was gone. The others: when it was back, filtered."""

    missing: str
    status: Result
    link: str


def run(image: Image) -> BootRun:
    packages = systemd.fetch()
    done = BootRun()
    # A short path: a Unix socket's name has 107 bytes.
    folder = Path(tempfile.mkdtemp(prefix="xdpguard-lab-"))
    try:
        disk = systemd.disk(folder / "disk", _settings())
        plan = systemd.plan(boot.plan(image, folder, bytecode.folder()), packages, disk)
        with _booted(plan, folder / "1") as (machine, wire):
            _first(machine, wire, done)
            # Leaving kills QEMU at once, which is the power cut.
        with _booted(plan, folder / "2", pings=_QUEUED) as (machine, wire):
            _second(machine, wire, done)
            try:
                done.replug = _replug(machine)
            except LabError as error:
                done.replug = error
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return done


def _settings() -> dict[str, str]:
    """Of the machine's systemd. Under emulation all takes longer than it waits by default."""
    files = {
        "system.conf": "[Manager]\nDefaultTimeoutStartSec=600\nDefaultDeviceTimeoutSec=600\n",
        "system/xdpguard@.service.d/lab.conf": "[Service]\nTimeoutStartSec=600\n",
        "system/lab-network.service": _NETWORK,
    }
    for one in _INTERFACES:
        files[f"network/10-{one.name}.link"] = f"[Match]\nMACAddress={one.mac}\n[Link]\nName={one.name}\n"
    return files


@contextmanager
def _booted(plan: Plan, folder: Path, pings: int = 0) -> Iterator[tuple[Machine, Wire]]:
    folder.mkdir()
    wire = Wire(folder)
    backends = [wire.backend, "hubport,hubid=1", "hubport,hubid=2"]
    networks = []
    for at, (one, backend) in enumerate(zip(_INTERFACES, backends, strict=True)):
        kind, _, rest = backend.partition(",")
        device = f"virtio-net-pci,netdev=net{at},mac={one.mac},romfile="
        networks.append(Network(one, ("-netdev", f"{kind},id=net{at},{rest}", "-device", device)))
    spec = topology.Machine("boot", _INTERFACES, memory_mb=1024)
    try:
        with Machine(spec, plan, networks, folder) as machine:
            wire.wait_for(machine)
            for _ in range(pings):
                _ping(wire, BAD)
            machine.wait_ready()
            yield machine, wire
    finally:
        wire.close()


def _first(machine: Machine, wire: Wire, done: BootRun) -> None:
    """All is confirmed that comes back. The records of DAMAGED are damaged before others are written."""
    machine.put(CONFIRMED, _RULES.encode())
    machine.put(WAITING, _OTHER_RULES.encode())
    machine.check("bash", "-euc", _ENABLE)
    machine.request("import of the package", _SECONDS, do="warm")
    machine.check("systemctl", "start", "lab-network.service")
    done.answered.append(_answered(wire))
    _load(machine, DAMAGED, CONFIRMED)
    machine.check("bash", "-euc", _DAMAGE)
    _load(machine, CARD, CONFIRMED)
    _load(machine, CARD, WAITING, "--confirm", "600")
    _load(machine, LAST, CONFIRMED)


def _ping(wire: Wire, source: str) -> None:
    wire.send(bytes(eth(_INTERFACES[0].mac, _PEER) / ipv4(source, HERE) / icmp() / b"ping"))


def _answered(wire: Wire) -> list[str]:
    """Whose pings were, each once, those before these two as well. What comes first is answered first."""
    for source in (BAD, GOOD):
        _ping(wire, source)
    found: list[str] = []
    while GOOD not in found:
        frame = wire.receive()
        ethertype, protocol, kind = frame[12:14], frame[23:24], frame[34:35]
        if (ethertype, protocol, kind) == (b"\x08\x00", b"\1", b"\0"):  # IPv4, ICMP, echo reply
            found.append(socket.inet_ntoa(frame[30:34]))
    return found


def _load(machine: Machine, interface: str, *rules: str) -> None:
    machine.check("xdpguard", "load", "-i", interface, *rules, timeout=_SECONDS)


def _second(machine: Machine, wire: Wire, done: BootRun) -> None:
    done.answered.append(_answered(wire))
    done.found = machine.check("cat", "/run/found")
    for unit in (*_UNITS, "network-pre.target", "multi-user.target"):
        text = machine.check("systemctl", "show", f"--property={_PROPERTIES}", unit)
        done.units[unit] = dict(line.split("=", 1) for line in text.splitlines())
    for one, unit in zip(_INTERFACES, _UNITS, strict=True):
        done.logs[one.name] = machine.check("journalctl", "--boot", "--output=cat", f"--unit={unit}")
        done.links[one.name] = machine.check("ip", "-d", "link", "show", one.name)
    done.status = _asked(machine, "status")
    done.stats = _asked(machine, "stats", "-i", CARD)


def _asked(machine: Machine, *verb: str) -> Result:
    return machine.run("xdpguard", *verb, "--format", "json")


def _replug(machine: Machine) -> Replug:
    """The card goes, and comes back as another device under its name."""
    unit = f"xdpguard@{CARD}.service"
    followed = f"< <(journalctl --boot --follow --lines=all --output=cat --unit={unit})"
    machine.check("systemctl", "is-active", unit)
    machine.check("bash", "-euc", _UNPLUG)
    machine.check("bash", "-c", f"grep -m1 '^Stopped ' {followed}", timeout=_SECONDS)
    missing = machine.run("ip", "link", "show", CARD).err
    machine.check("bash", "-euc", "echo 1 >/sys/bus/pci/rescan")
    machine.check("bash", "-c", f"grep -m2 '^Finished ' {followed}", timeout=_SECONDS)
    status = _asked(machine, "status", "-i", CARD)
    return Replug(missing, status, machine.check("ip", "-d", "link", "show", CARD))
