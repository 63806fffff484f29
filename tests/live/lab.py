"""A small network for live tests: namespaces joined by veth pairs, raw frames in, captured frames out.

Owns every namespace whose name starts with RUN and removes them again. The rest of such a name is a hash of
the test, so that two tests or two runs never meet. Must never touch the caller's own namespace. Commands run
by ``nsenter --net``: ``ip netns exec`` and ``ip -n`` mount a new /sys, which hides the bpf file system and
fails where / is no mount point (a chroot).

Waiting is for events (a frame, a carrier), with a deadline that only a failing test reaches.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import blake2s
from pathlib import Path

from xdpguard.kernel import link, netlink, netns

PREFIX = "xgt-"
RUN = f"{PREFIX}{os.getpid()}-"
PINS = Path("/sys/fs/bpf/xdpguard")
PATIENCE = 5.0  # seconds

inside = netns.inside

# uapi/linux/if_packet.h
_SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING = 263, 8, 23
_AUXDATA = struct.Struct("=IIIHHHH")
_VLAN_VALID, _VLAN_TPID_VALID = 1 << 4, 1 << 6
_ETH_P_ALL, _ETH_P_8021Q = 3, 0x8100
_SO_RCVBUFFORCE = 33
_BUFFER = 8 << 20

_RTMGRP_LINK, _IFLA_OPERSTATE, _IF_OPER_UP = 1, 16, 6
_RTM_GETLINK = 18


@dataclass(frozen=True, slots=True)
class End:
    """One end of a veth pair."""

    name: str  # of the namespace
    dev: str
    ifindex: int
    mac: str
    ipv4: str
    ipv6: str


@dataclass(frozen=True, slots=True)
class Veth:
    """A pair. By habit the program under test sits on ``server.dev``."""

    client: End
    server: End


class Lab:
    """The namespaces of one test. ``close()`` removes them, and with them their devices and programs."""

    def __init__(self, test: str) -> None:
        self._tag = RUN + blake2s(test.encode(), digest_size=4).hexdigest()
        self._made: list[str] = []
        self._old_pins: set[str] = set()
        self._pairs = 0

    def namespace(self, label: str) -> str:
        """Make one; return its name."""
        name = f"{self._tag}-{label}"
        _ip("netns", "add", name)
        self._made.append(name)
        # Namespaces' inode numbers come again: another run may have left pins for this one.
        self._old_pins |= _pins(name)
        run(name, "ip", "link", "set", "lo", "up")
        return name

    def veth(
        self,
        client: str | None = None,
        server: str | None = None,
        *,
        ipv6: bool = True,
        mtu: int = 1500,
        queues: int = 1,
    ) -> Veth:
        """Join two namespaces (new ones by default) by a veth pair that is up, with static neighbours.

        The first pair has 192.0.2.1 and .2 / 24, 2001:db8::1 and ::2 / 64; the next 198.51.100.x and
        2001:db8:1::x. No duplicate address detection, router solicitation or link-local address. With
        ``ipv6=False`` the stack sends nothing at all by itself, so counters can be exact (an IPv6 address
        brings MLD reports); hand-made IPv6 frames still reach the programs.
        """
        number = self._pairs
        self._pairs += 1
        names = (client or self.namespace(f"c{number}"), server or self.namespace(f"s{number}"))
        ends = [_plan(name, number, side) for side, name in enumerate(names)]
        for name in names:
            inside(name, _quieten, ipv6)
        _create(ends[0], ends[1], mtu, queues)
        for mine, other in (ends, ends[::-1]):
            _configure(mine, other, ipv6)
        for end in ends:
            inside(end.name, _await_up, end.dev)
        return Veth(*(_with_index(end) for end in ends))

    def leaks(self) -> set[str]:
        """What there should not be: namespaces of this run that are not the lab's, and pins for the lab's."""
        strays = {name for name in left_over() if name.startswith(RUN)} - set(self._made)
        return strays.union(*map(_pins, self._made)) - self._old_pins

    def close(self) -> None:
        while self._made:
            _ip("netns", "del", self._made.pop())


def _pins(ns: str) -> set[str]:
    inode = (netns.FOLDER / ns).stat().st_ino
    return {str(path) for path in PINS.glob(f"{inode}-*/*/*")}


def _plan(name: str, number: int, side: int) -> End:
    host = side + 1
    return End(
        name=name,
        dev=f"{'cs'[side]}{number}",
        ifindex=0,
        mac=f"02:00:5e:00:{number:02x}:{host:02x}",
        ipv4=f"{('192.0.2', '198.51.100', '203.0.113')[number]}.{host}",
        ipv6=f"2001:db8:{number:x}::{host}" if number else f"2001:db8::{host}",
    )


def _quieten(ipv6: bool) -> None:
    settings = {
        "accept_dad": 0,
        "addr_gen_mode": 1,  # none: no link-local address
        "router_solicitations": 0,
        "autoconf": 0,
        "accept_ra": 0,
        "disable_ipv6": 0 if ipv6 else 1,
    }
    for key, value in settings.items():
        # /proc/sys/net shows the namespace of the reading thread.
        Path(f"/proc/sys/net/ipv6/conf/default/{key}").write_text(str(value))


def _create(client: End, server: End, mtu: int, queues: int) -> None:
    sizes = f"mtu {mtu} numtxqueues {queues} numrxqueues {queues}"
    _batch(
        client.name,
        f"link add {client.dev} address {client.mac} {sizes} type veth "
        f"peer name {server.dev} address {server.mac} {sizes} netns {server.name}",
    )


def _configure(mine: End, other: End, ipv6: bool) -> None:
    lines = [
        f"addr add {mine.ipv4}/24 dev {mine.dev}",
        f"link set {mine.dev} up",
        f"neigh replace {other.ipv4} lladdr {other.mac} dev {mine.dev} nud permanent",
    ]
    if ipv6:
        lines += [
            f"addr add {mine.ipv6}/64 dev {mine.dev} nodad",
            f"neigh replace {other.ipv6} lladdr {other.mac} dev {mine.dev} nud permanent",
        ]
    _batch(mine.name, *lines)


def _await_up(dev: str) -> None:
    """Until then the device has no queue yet and drops what is sent."""
    deadline = time.monotonic() + PATIENCE
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as events:
        events.bind((0, _RTMGRP_LINK))
        selector = select.poll()
        selector.register(events, select.POLLIN)
        while _operstate(dev) != _IF_OPER_UP:
            left = deadline - time.monotonic()
            assert left > 0, f"{dev} did not come up"
            if selector.poll(left * 1000):
                events.recv(1 << 16)


def _operstate(dev: str) -> int:
    body = struct.pack("=BxHiII", 0, 0, link.find(dev).ifindex, 0, 0)
    answer = netlink.request(socket.NETLINK_ROUTE, _RTM_GETLINK, body)[0]
    return netlink.attributes(answer, 16)[_IFLA_OPERSTATE][0]


def _with_index(end: End) -> End:
    ifindex = inside(end.name, link.find, end.dev).ifindex
    return End(end.name, end.dev, ifindex, end.mac, end.ipv4, end.ipv6)


def send(ns: str, dev: str, frames: Iterable[bytes]) -> int:
    """Send whole Ethernet frames out of ``dev``, through its TC egress; return how many TC let through."""
    passed = 0
    with inside(ns, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as sender:
        sender.bind((dev, 0))
        for frame in frames:
            try:
                sender.send(frame)
                passed += 1
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # how a drop on the way out comes back
                    raise
    return passed


class Capture:
    """Frames seen on a device, in order, with a VLAN tag that the kernel took out put back."""

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self.frames: list[bytes] = []

    def wait(self, marker: bytes, count: int = 1) -> list[bytes]:
        """All frames so far that contain ``marker``, once there are ``count`` of them."""
        self._read(lambda: sum(marker in frame for frame in self.frames) >= count, f"{count} x {marker!r}")
        return [frame for frame in self.frames if marker in frame]

    def until(self, sentinel: bytes) -> list[bytes]:
        """The frames before the first one with ``sentinel``: the way to see that others are missing."""
        self._read(lambda: any(sentinel in frame for frame in self.frames), repr(sentinel))
        last = next(place for place, frame in enumerate(self.frames) if sentinel in frame)
        return self.frames[:last]

    def _read(self, enough: Callable[[], bool], wanted: str) -> None:
        deadline = time.monotonic() + PATIENCE
        selector = select.poll()
        selector.register(self._socket, select.POLLIN)
        while not enough():
            ready = selector.poll(max(0.0, deadline - time.monotonic()) * 1000)
            assert ready, f"no {wanted} in {PATIENCE:g} s; captured: {[frame.hex() for frame in self.frames]}"
            self.frames.append(self._receive())

    def _receive(self) -> bytes:
        data, control, _, _ = self._socket.recvmsg(1 << 17, socket.CMSG_SPACE(_AUXDATA.size))
        for level, kind, payload in control:
            if (level, kind) == (_SOL_PACKET, _PACKET_AUXDATA):
                status, _, _, _, _, tci, tpid = _AUXDATA.unpack(payload)
                if status & _VLAN_VALID:
                    tag = struct.pack("!HH", tpid if status & _VLAN_TPID_VALID else _ETH_P_8021Q, tci)
                    return data[:12] + tag + data[12:]
        return data


@contextmanager
def capture(ns: str, dev: str, *, outgoing: bool = False) -> Iterator[Capture]:
    """Capture what arrives on ``dev`` (``outgoing``: also what leaves), after XDP and before TC ingress."""
    with inside(ns, socket.socket, socket.AF_PACKET, socket.SOCK_RAW, 0) as opened:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        opened.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
        opened.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, int(not outgoing))
        opened.bind((dev, _ETH_P_ALL))  # only now does it receive
        yield Capture(opened)


def run(
    ns: str, *command: str, check: bool = True, stdin: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a command in a namespace, in the mount namespace of the caller. ``check``: it must succeed."""
    whole = ["nsenter", f"--net={netns.FOLDER / ns}", "--", *command]
    done = subprocess.run(whole, check=False, input=stdin, capture_output=True, text=True, timeout=60)
    assert not check or done.returncode == 0, f"{command} {stdin or ''}: {done.stderr}"
    return done


def left_over() -> list[str]:
    """Namespaces of this run and of runs whose process is gone."""
    names = [entry.name for entry in netns.FOLDER.glob(f"{PREFIX}*")]
    return [name for name in names if name.startswith(RUN) or not _alive(name)]


def remove_left_over() -> None:
    for name in left_over():
        _ip("netns", "del", name)


def _alive(name: str) -> bool:
    return Path("/proc", name.removeprefix(PREFIX).partition("-")[0]).exists()


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True, timeout=60)


def _batch(ns: str, *lines: str) -> None:
    run(ns, "ip", "-batch", "-", stdin="\n".join(lines))
