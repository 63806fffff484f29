"""Frames at full speed into an interface, without tools: BPF_F_TEST_XDP_LIVE_FRAMES (Linux 5.18).

A veth pair in a network namespace of its own: what is sent from one end is received at the other. The kernel
makes batches of frames, driver_live (driver.c) writes the next header of the trace into each and redirects it
to the sending end; the receiving end works them off in the same CPU's softirq before the next batch, so that
none is lost and the time of a packet is that of making it and of all that is done to it. Nothing leaves the
namespace. Bounded by count.
"""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from harness import FRAME4, Harness

from xdpguard.kernel import netns, testrun, xdp

_LIVE_FRAMES, _BATCH = 1 << 1, 64
_SIOCETHTOOL, _ETHTOOL_SGRO = 0x8946, 0x2C
_ETHERNET = struct.Struct("@16sP")


@dataclass(frozen=True, slots=True)
class Burst:
    """``received``: what the interface's own counter says."""

    sent: int
    received: int
    seconds: float

    @property
    def nanoseconds(self) -> float:
        """Of one packet, generator included."""
        return self.seconds * 1e9 / self.received


class Road:
    """A namespace with a veth pair: frames go from ``out`` to ``into``. Removed by ``close``."""

    OUT, INTO = "xgbout", "xgbin"

    def __init__(self, name: str) -> None:
        self.name = f"xgbench-{os.getpid()}-{name}"
        subprocess.run(["ip", "netns", "add", self.name], check=True)
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    def _make(self) -> None:
        self.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        self.run("ip", "link", "add", self.OUT, "type", "veth", "peer", "name", self.INTO)
        for device, mac in ((self.OUT, "02:00:00:00:00:01"), (self.INTO, "02:00:00:00:00:02")):
            self.run("ip", "link", "set", device, "address", mac, "arp", "off", "up")
        self.out_index, self.into_index = (
            netns.inside(self.name, socket.if_nametoindex, device) for device in (self.OUT, self.INTO)
        )
        # Without GRO and without XDP at the receiving end a veth takes no redirected frames.
        netns.inside(self.name, _set_gro, self.INTO)

    def run(self, *command: str, stdin: str | None = None) -> str:
        """A command inside; the bpf file system stays in sight, unlike with `ip netns exec`."""
        inside = ["nsenter", f"--net=/run/netns/{self.name}", *command]
        done = subprocess.run(inside, input=stdin, capture_output=True, text=True, check=False)
        if done.returncode:
            said = (done.stderr.strip() or done.stdout.strip()).splitlines()[:1]
            raise RuntimeError(f"{command[0]}: {said[0] if said else f'exit code {done.returncode}'}")
        return done.stdout

    def attach(self, fd: int) -> None:
        """An XDP program to the receiving end, native."""
        netns.inside(self.name, xdp.attach, self.into_index, fd, "native")

    def detach(self, fd: int) -> None:
        netns.inside(self.name, xdp.detach, self.into_index, fd, "native")

    def received(self) -> int:
        return netns.inside(self.name, _received, self.INTO)

    def close(self) -> None:
        subprocess.run(["ip", "netns", "del", self.name], check=False)


class Generator:
    """Sends the harness's trace over a road."""

    def __init__(self, harness: Harness) -> None:
        self._harness = harness
        self._fd = harness.own("driver_live")

    def send(self, road: Road, packets: int) -> Burst:
        """``packets`` frames of 54 bytes, in batches. RuntimeError: they did not arrive."""
        struct.pack_into("=I", self._harness.cursor, 8, road.out_index)
        before = road.received()
        began = time.perf_counter()
        netns.inside(road.name, self._run, packets)
        seconds = time.perf_counter() - began
        received = road.received() - before
        if received < packets * 0.99:
            raise RuntimeError(f"of {packets} frames {received} arrived")
        return Burst(packets, received, seconds)

    def _run(self, packets: int) -> None:
        testrun.prog_test_run(self._fd, FRAME4, repeat=packets, batch=_BATCH, flags=_LIVE_FRAMES, out_bytes=0)

    def rate(self, road: Road, seconds: float) -> Burst:
        """A burst of about so long, after a short one that tells how many frames that are."""
        packets, probe = 64, self.send(road, 64)
        while probe.seconds < 0.05:
            packets *= 4
            probe = self.send(road, packets)
        return self.send(road, max(_BATCH, int(seconds / probe.seconds * packets)))


def _set_gro(device: str) -> None:
    value = array.array("I", [_ETHTOOL_SGRO, 1])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        request = _ETHERNET.pack(device.encode(), value.buffer_info()[0])
        fcntl.ioctl(one, _SIOCETHTOOL, request + bytes(16))


def _received(device: str) -> int:
    """/sys shows the namespace in which it was mounted; /proc/thread-self/net that of this thread."""
    for line in Path("/proc/thread-self/net/dev").read_text().splitlines():
        name, _, fields = line.partition(":")
        if name.strip() == device:
            return int(fields.split()[1])
    raise FileNotFoundError(device)
