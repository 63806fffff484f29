"""A topology on one kernel: all machines booted, links wired, interfaces named and addressed."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

from vmlab import boot, bytecode, kernels, topology
from vmlab.machine import Machine, Network


class Lab:
    """``lab["filter"].run(...)``; ``lab.dumps["filter", "server0"]``: the pcap of what crossed that link."""

    def __init__(
        self, shape: topology.Topology, image: kernels.Image, say: Callable[[str], None] = lambda _: None
    ):
        self.shape = shape
        self.image = image
        self.machines: dict[str, Machine] = {}
        self.dumps: dict[tuple[str, str], Path] = {}
        self._say = say
        self._stack = ExitStack()
        # A short path: a Unix socket's name has 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="xdpguard-lab-"))
        self._stack.callback(shutil.rmtree, self.folder, ignore_errors=True)

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def __enter__(self) -> Lab:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._stack.close()

    def _start(self) -> None:
        plan = boot.plan(self.image, self.folder, bytecode.folder())
        for spec in self.shape.machines.values():
            self._say(f"starting {spec.name}: Linux {self.image.version}, {spec.cpus} CPUs")
            networks = [
                self._wired(spec, interface, index) for index, interface in enumerate(spec.interfaces)
            ]
            self.machines[spec.name] = self._stack.enter_context(Machine(spec, plan, networks, self.folder))
        with ThreadPoolExecutor(len(self.machines)) as pool:
            list(pool.map(self._prepare, self.machines.values()))

    def _wired(self, spec: topology.Machine, interface: topology.Interface, index: int) -> Network:
        """A datagram socket pair for each link: neither end must be there first; a frame is a datagram."""
        net = f"net{index}"
        if interface.link is None:
            backend = f"hubport,id={net},hubid={index}"
        else:
            peer = next(
                end for end in self.shape.links()[interface.link] if end != (spec.name, interface.name)
            )
            local, remote = (self.folder / f"{interface.link}.{end}" for end in (spec.name, peer[0]))
            backend = (
                f"dgram,id={net},local.type=unix,local.path={local},remote.type=unix,remote.path={remote}"
            )
        arguments = [
            "-netdev",
            backend,
            "-device",
            f"virtio-net-pci,netdev={net},mac={interface.mac},romfile=",
        ]
        if interface.capture:
            dump = self.folder / f"{spec.name}.{interface.name}.pcap"
            self.dumps[spec.name, interface.name] = dump
            arguments += ["-object", f"filter-dump,id=dump{index},netdev={net},file={dump},maxlen=65536"]
        return Network(interface, tuple(arguments))

    def _prepare(self, machine: Machine) -> None:
        machine.wait_ready()
        self._say(f"{machine.name} is up")
        machine.check("bash", "-euc", _network_script(machine.spec), timeout=60)


def _network_script(spec: topology.Machine) -> str:
    """Names by MAC address, since nothing in the guest names devices; no duplicate address detection."""
    lines = ["ip link set lo up"]
    for interface in spec.interfaces:
        lines.append(
            f"for d in /sys/class/net/*; do grep -qi '{interface.mac}' $d/address || continue; "
            f"[ ${{d##*/}} = {interface.name} ] || ip link set ${{d##*/}} name {interface.name}; done"
        )
        lines += [
            f"ip address add {address} dev {interface.name} {_nodad(address)}"
            for address in interface.addresses
        ]
        # The usual queue, fq_codel, drops what has waited long: under emulation that is any frame.
        lines.append(f"tc qdisc replace dev {interface.name} root pfifo limit 10000")
        lines.append(f"ip link set {interface.name} up")
    lines += [f"ip {'-6' if ':' in route else '-4'} route add {route}" for route in spec.routes]
    if spec.forward:
        lines += ["echo 1 >/proc/sys/net/ipv4/ip_forward", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"]
    return "\n".join(lines)


def _nodad(address: str) -> str:
    return "nodad" if ":" in address else ""
