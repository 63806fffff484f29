"""Records as the tracing makes them: the published samples of ebpflowexport and nProbe, and variations."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from xdpguard.trace.model import (
    ContainerName,
    Counts,
    Event,
    KindLedger,
    Owner,
    Person,
    ProcessKey,
    Record,
    Tuple,
)

OWNER = Owner(ProcessKey(1446, 7), 496, 0, 0, None, "kubelet", "exact")
SECOND = 1_000_000_000
HOSTILE = 'a\nb\x1b[2J\u202ex][kube_ns: prod]\x7f\u2028\udcff"'
"""Line breaks, terminal control, a direction mark, false brackets, a byte that is no UTF-8, a quote."""


def ends(
    local: str | None, local_port: int, remote: str | None, remote_port: int | None, **more: Any
) -> Tuple:
    family = 6 if ":" in (local or remote or "") else 4
    known: dict[str, Any] = {"netns": 4026531840, "family": family, "protocol": "tcp"} | more
    return Tuple(
        local=None if local is None else ip_address(local),
        local_port=local_port,
        remote=None if remote is None else ip_address(remote),
        remote_port=remote_port,
        **known,
    )


def event(kind: str, where: Tuple, **more: Any) -> Event:
    known: dict[str, Any] = {
        "time": 100 * SECOND,
        "sock": 1,
        "owner": OWNER,
        "incoming": kind == "accept",
    } | more
    return Event(kind=kind, tuple=where, **known)  # type: ignore[arg-type]


def person(pid: int, tid: int | None, path: str | None, uid: int = 0, gid: int = 0, **more: Any) -> Person:
    known: dict[str, Any] = {"comm": (path or "").rpartition("/")[2], "user": None, "group": None} | more
    return Person(pid=pid, tid=tid, path=path, uid=uid, gid=gid, **known)


def record(of: Event, **more: Any) -> Record:
    known: dict[str, Any] = {
        "wall": 1554803923.684786,
        "interface": "lo",
        "attribution": "exact",
        "process": person(1446, 496, "/usr/bin/kubelet"),
        "ancestors": (person(1, None, "/lib/systemd/systemd"),),
    } | more
    return Record(event=of, **known)


KUBELET = record(event("connect", ends("127.0.0.1", 53790, "127.0.0.1", 10252), handshake_ns=100_000))

MANAGER = record(
    event("accept", ends("127.0.0.1", 10252, "127.0.0.1", 53790), handshake_ns=3_000),
    wall=1554803923.685139,
    process=person(2554, 2329, "/usr/local/bin/kube-controller-manager"),
    ancestors=(person(2295, None, "/usr/local/bin/containerd-shim"),),
    container=ContainerName(
        "275d71585e03" + "4" * 52,
        "containerd",
        None,
        None,
        "kube-controller-manager-minikube",
        "kube-system",
        None,
    ),
)

CURL = record(
    event("connect", ends("172.17.0.2", 54348, "216.58.205.46", 80), handshake_ns=220_000),
    wall=1554803924.781354,
    interface="eth0",
    process=person(30197, 30197, "/usr/bin/curl", user="root", group="root"),
    ancestors=(person(26219, None, "/bin/bash", user="root"), person(1, None, "/sbin/init", user="root")),
    cgroup_path="/docker/cbd2540ec5be" + "0" * 52,
    container=ContainerName("cbd2540ec5be" + "0" * 52, "docker", "sleepy_haibt", "busybox", None, None, None),
)

APT = record(
    event("connect", ends("10.0.2.15", 37140, "91.189.88.162", 80), handshake_ns=170_000),
    wall=1554803929.257494,
    interface="enp0s3",
    process=person(30221, 30221, "/usr/lib/apt/methods/http", 104, 65534),
    ancestors=(person(30216, None, "/usr/bin/apt"),),
)

DNS = record(
    event(
        "udp-send",
        ends("192.12.193.11", 57756, "192.12.192.6", 53, protocol="udp"),
        counts=Counts(bytes_sent=62, packets_sent=2),
    ),
    wall=1556532359.110896,
    interface="eth0",
    process=person(8950, 8950, "/usr/lib/apt/methods/http", 100, 65534),
    ancestors=(person(8947, None, "/usr/bin/apt-get"),),
    container=ContainerName("cf5485c07181", "docker", "docker_monitor", None, None, None, None),
)

CLOSE = record(
    event(
        "close",
        ends("2001:db8::1", 443, "2001:db8::2", 41234),
        incoming=True,
        opened=97 * SECOND,
        handshake_ns=None,
        counts=Counts(1_460_000, 24_000, 1100, 300, 2, 4144),
    ),
    interface=None,
    attribution="procfs",
)

NOBODY = record(
    event("retransmit", ends("10.0.0.1", 22, "10.0.0.2", 5000), owner=None),
    interface=None,
    attribution="unknown",
    process=None,
    ancestors=(),
)

REFUSED = record(event("connect-failed", ends("10.0.0.1", 40000, "10.0.0.2", 81), error="ECONNREFUSED"))

LISTEN = record(event("listen", ends("::", 10252, None, None)), interface=None)

SILENT = record(
    event("udp-recv", ends(None, 5353, None, None, protocol="udp"), owner=None, counts=None),
    interface=None,
    attribution="kernel",
    process=None,
    ancestors=(),
)


def hostile() -> Record:
    """Every name that comes from outside is hostile."""
    return record(
        event("connect-failed", ends("10.0.0.1", 1, "10.0.0.2", 2), error=HOSTILE),
        interface=HOSTILE,
        process=Person(1, 1, HOSTILE, HOSTILE, 0, HOSTILE, 0, HOSTILE),
        ancestors=(Person(2, None, HOSTILE, None, 0, HOSTILE, 0, HOSTILE),) * 2,
        cgroup_path=HOSTILE,
        container=ContainerName(HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE, HOSTILE),
    )


SAMPLES = (KUBELET, MANAGER, CURL, APT, DNS, CLOSE, NOBODY, REFUSED, LISTEN, SILENT)

LEDGER = {
    "connect": KindLedger(seen=1005, emitted=1000, filtered=3, unknown=7, lost={"ring": 2, "map": 0}),
    "udp-send": KindLedger(seen=10, emitted=9, filtered=0, unknown=0, lost={"map": 1}),
}
BROKEN_LEDGER = LEDGER | {"close": KindLedger(seen=2, emitted=1)}
