"""Loads, rollbacks and an unload on the filter while marked packets cross it, on virtio-net in native mode.

What must never break: no packet of a rule that always drops is delivered, none of a rule that always passes
is lost. The rate is one at which the same machines without a filter lose none; what devices and queues drop
by themselves is looked at apart.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from packets import eth, ipv4, udp
from vmlab import topology, traffic
from vmlab.kernels import Image
from vmlab.lab import Lab

MARKER, LAST = b"xdpguard-reload:", b"xdpguard-reload:last"
CLIENT, CLIENT0, SERVER = "02:00:00:00:01:02", "02:00:00:00:01:01", "02:00:00:00:02:02"
STRANGER = "198.51.100.99"  # behind the server, which answers nothing for it
DROPPED, PASSED, TOGGLED = 1001, 1002, 1003
PER_SECOND, PACKETS, LASTS = 150, 4003, 7

RULES = """version: 1
default: {{ingress: pass, egress: pass}}
ingress:
  - {{name: never, proto: udp, dport: 1001, action: drop}}
  - {{name: always, proto: udp, dport: 1002, action: pass}}
  - {{name: toggled, proto: udp, dport: 1003, action: {action}}}
egress: []
"""


@pytest.fixture(scope="module")
def lab(image: Image) -> Iterator[Lab]:
    with Lab(topology.read("redirect"), image) as made:
        machine = made["filter"]
        machine.request("warm", 120, do="warm")
        machine.check(
            "ip", "neighbour", "replace", STRANGER, "lladdr", SERVER, "dev", "server0", "nud", "permanent"
        )
        for name, action in (("open", "pass"), ("shut", "drop")):
            machine.put(f"/tmp/{name}.yaml", RULES.format(action=action).encode())
        yield made


def _frame(port: int, payload: bytes) -> bytes:
    return bytes(eth(CLIENT0, CLIENT) / ipv4("192.0.2.2", STRANGER) / udp(40000, port) / payload)


def _stream(ports: tuple[int, ...]) -> traffic.Burst:
    """The ports in turn, each packet numbered, and at the end some that surely pass."""
    frames = [_frame(ports[i % len(ports)], MARKER + b"%08d" % i) for i in range(PACKETS)]
    frames += [_frame(PASSED, LAST)] * LASTS
    return traffic.Burst(MARKER, LAST, frames, {("server", "net0"): LASTS}, PER_SECOND)


def _numbers(frames: list[bytes]) -> dict[int, list[int]]:
    """Port -> the numbers of its packets, in their order; the last packets are left out."""
    found: dict[int, list[int]] = {DROPPED: [], PASSED: [], TOGGLED: []}
    for frame in frames:
        if LAST not in frame:
            at = frame.index(MARKER)
            number = int(frame[at + len(MARKER) : at + len(MARKER) + 8])
            found[int.from_bytes(frame[36:38], "big")].append(number)
    return found


def _during(
    lab: Lab, ports: tuple[int, ...], act: Callable[[Future[traffic.Seen]], None]
) -> dict[int, list[int]]:
    """What arrived at the server while ``act`` ran; no frame may have been dropped by a device or a queue."""
    before = _device_drops(lab)
    with ThreadPoolExecutor(1) as pool:
        seen = pool.submit(traffic.watch, lab, ("client", "net0"), _stream(ports))
        act(seen)
        arrived = seen.result()["server", "net0"]
    assert _device_drops(lab) == before, "a device or a queue dropped packets by itself: the rate is too high"
    return _numbers(arrived)


def _device_drops(lab: Lab) -> dict[str, str]:
    """Drops that are nobody's verdict: queues of the devices, the backlog of the CPUs.

    Without rx_dropped of client0: there virtio-net counts what native XDP drops by its verdict.
    """
    script = (
        "for f in /sys/class/net/*/statistics/{rx,tx}_{dropped,errors,fifo_errors,missed_errors}; do"
        " [ ! -e $f ] || [ $f = /sys/class/net/client0/statistics/rx_dropped ] || echo $f $(cat $f); done;"
        " cut -d' ' -f2 /proc/net/softnet_stat"
    )
    return {name: lab[name].check("bash", "-c", script) for name in ("filter", "server")}


def _sent(port: int, ports: tuple[int, ...]) -> list[int]:
    return [i for i in range(PACKETS) if ports[i % len(ports)] == port]


def test_without_a_filter_the_rate_loses_nothing(lab: Lab) -> None:
    ports = (PASSED,)
    assert _during(lab, ports, lambda _: None)[PASSED] == _sent(PASSED, ports)


def test_loads_and_rollbacks_deliver_no_packet_of_a_drop_rule_and_lose_none_of_a_pass_rule(lab: Lab) -> None:
    machine = lab["filter"]
    machine.check("xdpguard", "load", "-i", "client0", "/tmp/open.yaml", "--mode", "native", timeout=120)
    done: Counter[str] = Counter()

    def act(seen: Future[traffic.Seen]) -> None:
        while not seen.done():
            name = "shut" if done["load"] % 2 == 0 else "open"
            machine.check("xdpguard", "load", "-i", "client0", f"/tmp/{name}.yaml", timeout=120)
            machine.check("xdpguard", "rollback", "-i", "client0", timeout=120)
            done.update(load=1, rollback=1)

    ports = (DROPPED, PASSED, TOGGLED)
    arrived = _during(lab, ports, act)
    assert done["load"] >= 2, "the traffic ended before two loads: nothing was shown"
    assert arrived[DROPPED] == []
    assert arrived[PASSED] == _sent(PASSED, ports)
    assert 0 < len(arrived[TOGGLED]) < len(_sent(TOGGLED, ports)), (
        "the verdict of the toggled rule never changed"
    )


def test_an_unload_loses_no_packet_and_opens_once_for_all(lab: Lab) -> None:
    machine = lab["filter"]
    machine.check("xdpguard", "load", "-i", "client0", "/tmp/shut.yaml", timeout=120)

    def act(_: Future[traffic.Seen]) -> None:
        machine.check("xdpguard", "stats", "-i", "client0", timeout=120)
        machine.check("xdpguard", "unload", "-i", "client0", timeout=120)

    ports = (DROPPED, PASSED)
    arrived = _during(lab, ports, act)
    assert arrived[PASSED] == _sent(PASSED, ports)
    opened = arrived[DROPPED]
    assert opened, "the unload came after the last packet: nothing was shown"
    assert opened == [number for number in _sent(DROPPED, ports) if number >= opened[0]]
