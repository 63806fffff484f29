"""What the tests of delivery share: rules that send, frames for them, and what was counted as lost."""

from __future__ import annotations

import errno
import os
import struct
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import lab as network
import pytest
from lab import End, Lab, inside
from test_lifecycle_support import LAST, Site, frame

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import bpf, netns, xdp
from xdpguard.kernel.delivery import Observation
from xdpguard.kernel.testrun import prog_test_run

Program = Callable[..., int]
AWAY, BACK = 1000, 1001
COUNT = 37  # more than two queues of 16 frames, and not whole ones
_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES, Linux 5.18


def sending(target: str = "", *, filler: int = 0) -> str:
    """Port AWAY goes to ``target`` if there is one, port BACK back."""
    rules = [f"{{name: back, proto: udp, dport: {BACK}, action: tx}}"]
    if target:
        rules.append(
            f"{{name: away, proto: udp, dport: {AWAY}, action: {{redirect: {{interface: {target}}}}}}}"
        )
    rules += [f"{{name: filler{n}, proto: udp, dport: {2000 + n}, action: drop}}" for n in range(filler)]
    return "version: 1\ningress:\n" + "".join(f"  - {rule}\n" for rule in rules)


@pytest.fixture
def target(site: Site, lab: Lab, program: Program) -> tuple[End, End]:
    """A second device of the server, which takes redirected frames, and its peer."""
    pair = lab.veth(client=site.end.name, ipv6=False)
    inside(pair.server.name, xdp.attach, pair.server.ifindex, program(bpf.PROG_XDP), "native")
    return pair.client, pair.server


@pytest.fixture
def other(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    """Another interface to load rules on, in namespaces of its own: its index may be the same."""
    one = Site.of(lab.veth(ipv6=False), tmp_path)
    yield one
    try:
        one.unload()
    except NotLoadedError:
        pass  # the test unloaded


def down(end: End) -> None:
    network.run(end.name, "ip", "link", "set", end.dev, "down")


def send(site: Site, port: int, count: int = COUNT) -> None:
    """All of them are judged at the end."""
    with network.capture(site.end.name, site.end.dev) as seen:
        frames = [frame(port, number) for number in range(count)]
        network.send(site.peer.name, site.peer.dev, [*frames, frame(LAST)])
        seen.wait(frame(LAST)[14:])


def send_at_once(site: Site, port: int) -> None:
    """COUNT frames that the driver of a native program gets as one lot, and so sends on in queues."""
    # return bpf_redirect(the peer, 0)
    code = struct.pack("=BBhi", 0xB7, 1, 0, site.peer.ifindex) + struct.pack("=BBhi", 0xB7, 2, 0, 0)
    code += struct.pack("=BBhi", 0x85, 0, 0, 23) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    source = bpf.prog_load(bpf.PROG_XDP, code, "source").fd
    run = partial(prog_test_run, repeat=COUNT, batch=COUNT, flags=_LIVE_FRAMES, out_bytes=0)
    try:
        inside(site.peer.name, run, source, frame(port))
    except OSError as error:
        if error.errno == errno.EINVAL:
            pytest.skip("this kernel cannot send frames from a test run (Linux 5.18)")
        raise
    finally:
        os.close(source)
    send(site, LAST, 1)


def lost(site: Site) -> tuple[int | None, int | None]:
    """(tx, redirect)"""
    counts = site.counts()
    assert counts.egress.not_delivered == {"tx": None, "redirect": None}
    assert list(counts.ingress.not_delivered) == ["tx", "redirect"]
    return counts.ingress.not_delivered["tx"], counts.ingress.not_delivered["redirect"]


def await_lost(site: Site, tx: int, redirect: int) -> None:
    """A driver sends its queues after the last frame was judged. No more must come later."""
    deadline = time.monotonic() + network.PATIENCE
    while (found := lost(site)) != (tx, redirect):
        assert time.monotonic() < deadline, found
    send(site, LAST, 1)
    send(site, LAST, 1)
    assert lost(site) == (tx, redirect)


def actions(site: Site) -> dict[str, int]:
    return {name: count.packets for name, count in site.counts().ingress.actions.items() if count.packets}


def of(site: Site) -> Observation:
    return Observation(inside(site.end.name, netns.identity).inode, site.end.ifindex)
