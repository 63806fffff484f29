"""``trace --format text``: ebpflowexport's own sample lines, and what that line had no place for."""
# ruff: noqa: E501 (lines as they come out)

from __future__ import annotations

from dataclasses import replace

import pytest
from trace_samples import (
    APT,
    BROKEN_LEDGER,
    CLOSE,
    CURL,
    DNS,
    KUBELET,
    LEDGER,
    LISTEN,
    MANAGER,
    NOBODY,
    REFUSED,
    SAMPLES,
    SILENT,
    hostile,
)  # fmt: skip

from xdpguard.trace.model import Record
from xdpguard.ui.trace_text import ledger, line

PUBLISHED = {
    "connect": (
        KUBELET,
        "1554803923.684786 [lo][Sent][IPv4/TCP][pid/tid: 1446/496 [/usr/bin/kubelet], uid/gid: 0/0]"
        "[father pid/tid: 1/0 [/lib/systemd/systemd], uid/gid: 0/0][addr: 127.0.0.1:53790 <-> 127.0.0.1:10252]"
        "[latency: 0.10 msec]",
    ),
    "accept in a pod": (
        MANAGER,
        "1554803923.685139 [lo][Rcvd][IPv4/TCP]"
        "[pid/tid: 2554/2329 [/usr/local/bin/kube-controller-manager], uid/gid: 0/0]"
        "[father pid/tid: 2295/0 [/usr/local/bin/containerd-shim], uid/gid: 0/0]"
        "[addr: 127.0.0.1:53790 <-> 127.0.0.1:10252][containerID: 275d71585e03][runtime: containerd]"
        "[kube_pod: kube-controller-manager-minikube][kube_ns: kube-system][latency: 0.00 msec]",
    ),
    "connect in a container": (
        CURL,
        "1554803924.781354 [eth0][Sent][IPv4/TCP][pid/tid: 30197/30197 [/usr/bin/curl], uid/gid: 0/0]"
        "[father pid/tid: 26219/0 [/bin/bash], uid/gid: 0/0][addr: 172.17.0.2:54348 <-> 216.58.205.46:80]"
        "[containerID: cbd2540ec5be][runtime: docker][docker_name: sleepy_haibt][latency: 0.22 msec]",
    ),
    "connect of another user": (
        APT,
        "1554803929.257494 [enp0s3][Sent][IPv4/TCP]"
        "[pid/tid: 30221/30221 [/usr/lib/apt/methods/http], uid/gid: 104/65534]"
        "[father pid/tid: 30216/0 [/usr/bin/apt], uid/gid: 0/0][addr: 10.0.2.15:37140 <-> 91.189.88.162:80]"
        "[latency: 0.17 msec]",
    ),
}

OURS = {
    "udp counts": (
        DNS,
        "1556532359.110896 [eth0][Sent][IPv4/UDP][pid/tid: 8950/8950 [/usr/lib/apt/methods/http], uid/gid: 100/65534]"
        "[father pid/tid: 8947/0 [/usr/bin/apt-get], uid/gid: 0/0][addr: 192.12.193.11:57756 <-> 192.12.192.6:53]"
        "[containerID: cf5485c07181][runtime: docker][docker_name: docker_monitor][packets: 2][bytes: 62]",
    ),
    "close of what was accepted": (
        CLOSE,
        "1554803923.684786 [?][Rcvd][IPv6/TCP][pid/tid: 1446/496 [/usr/bin/kubelet], uid/gid: 0/0]"
        "[father pid/tid: 1/0 [/lib/systemd/systemd], uid/gid: 0/0]"
        "[addr: [2001:db8::2]:41234 <-> [2001:db8::1]:443][event: close][attribution: procfs]"
        "[bytes sent/rcvd: 1460000/24000][packets sent/rcvd: 1100/300][retransmissions: 2][rtt: 4.14 msec]"
        "[duration: 3.000 sec]",
    ),
    "nobody known": (
        NOBODY,
        "1554803923.684786 [?][?][IPv4/TCP][pid/tid: ?/? [?], uid/gid: ?/?][addr: 10.0.0.1:22 <-> 10.0.0.2:5000]"
        "[event: retransmit][attribution: unknown]",
    ),
    "failed": (
        REFUSED,
        "1554803923.684786 [lo][Sent][IPv4/TCP][pid/tid: 1446/496 [/usr/bin/kubelet], uid/gid: 0/0]"
        "[father pid/tid: 1/0 [/lib/systemd/systemd], uid/gid: 0/0][addr: 10.0.0.1:40000 <-> 10.0.0.2:81]"
        "[event: connect-failed][error: ECONNREFUSED]",
    ),
    "listen": (
        LISTEN,
        "1554803923.684786 [?][Listen][IPv6/TCP][pid/tid: 1446/496 [/usr/bin/kubelet], uid/gid: 0/0]"
        "[father pid/tid: 1/0 [/lib/systemd/systemd], uid/gid: 0/0][addr: [::]:10252][event: listen]",
    ),
    "no address known": (
        SILENT,
        "1554803923.684786 [?][Rcvd][IPv4/UDP][pid/tid: ?/? [?], uid/gid: ?/?][addr: ?:? <-> ?:5353]"
        "[attribution: kernel]",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", PUBLISHED)
def test_the_published_lines_of_ebpflowexport_come_out_byte_for_byte(case: str) -> None:
    record, text = PUBLISHED[case]
    assert line(record) == text + "\n"


@pytest.mark.parametrize("case", OURS)
def test_what_that_line_has_no_bracket_for_follows_in_its_own(case: str) -> None:
    record, text = OURS[case]
    assert line(record) == text + "\n"


def test_verbose_adds_everything_that_is_known() -> None:
    assert line(CURL, verbose=True) == (
        "1554803924.781354 [eth0][Sent][IPv4/TCP][pid/tid: 30197/30197 [/usr/bin/curl], uid/gid: 0/0]"
        "[father pid/tid: 26219/0 [/bin/bash], uid/gid: 0/0][addr: 172.17.0.2:54348 <-> 216.58.205.46:80]"
        "[containerID: cbd2540ec5be][runtime: docker][docker_name: sleepy_haibt][event: connect][attribution: exact]"
        "[netns: 4026531840][user/group: root/root][thread: curl][ancestors: 26219 /bin/bash < 1 /sbin/init]"
        f"[cgroup: /docker/cbd2540ec5be{'0' * 52}][image: busybox][latency: 0.22 msec]\n"
    )


def test_a_process_whose_program_is_not_known_shows_its_threads_name() -> None:
    assert KUBELET.process is not None
    nameless = KUBELET._replace(process=replace(KUBELET.process, path=None))
    assert "[pid/tid: 1446/496 [(kubelet)], uid/gid: 0/0]" in line(nameless)


def test_no_name_can_break_the_line_or_forge_a_bracket() -> None:
    for verbose in (False, True):
        text = line(hostile(), verbose)
        assert text.endswith("\n")
        assert text[:-1].isprintable()
        assert "[kube_ns: prod]" not in text
        assert "x\\x5d\\x5bkube_ns: prod\\x5d" in text


@pytest.mark.parametrize("record", SAMPLES)
def test_brackets_are_balanced(record: Record) -> None:
    text = line(record, verbose=True)
    assert text.count("[") == text.count("]")


def test_the_ledger_is_a_sentence() -> None:
    assert ledger(LEDGER, 0.0) == (
        "ledger: 1,005 events and 10 datagrams seen = 1,009 emitted + 3 filtered + 3 lost (ring 2, map 1);"
        " of the emitted 7 without a known owner\n"
    )
    assert ledger({}, 0.0) == "ledger: 0 events seen = 0 emitted + 0 filtered + 0 lost\n"


def test_a_ledger_that_does_not_add_up_says_so() -> None:
    assert ledger(BROKEN_LEDGER, 0.0).endswith("; THE LEDGER DOES NOT ADD UP for close\n")
