"""``trace --format table``: columns that stay where they are, names cut, addresses whole."""
# ruff: noqa: E501 (rows as they come out)

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

import pytest
from trace_samples import (
    APT,
    CLOSE,
    CURL,
    DNS,
    KUBELET,
    MANAGER,
    NOBODY,
    REFUSED,
    SAMPLES,
    SILENT,
    hostile,
)  # fmt: skip

from xdpguard.trace.model import Counts, Record
from xdpguard.ui.trace_table import HEADER, WIDTH, line

GOLDEN = """\
TIME (UTC)   EVENT          PID PROCESS      USER     LOCAL              REMOTE             CONTAINER    DETAIL
09:58:43.685 connect       1446 kubelet      0        127.0.0.1:53790    127.0.0.1:10252    -            0.10 ms
09:58:43.685 accept        2554 kube-...ager 0        127.0.0.1:10252    127.0.0.1:53790    275d71585e03 0.00 ms
09:58:44.781 connect      30197 curl         root     172.17.0.2:54348   216.58.205.46:80   sleepy_haibt 0.22 ms
09:58:49.257 connect      30221 http         104      10.0.2.15:37140    91.189.88.162:80   -            0.17 ms
10:05:59.111 udp-send      8950 http         100      192.12.193.11:57756 192.12.192.6:53   docke...itor 2p 62 B
09:58:43.685 close         1446 kubelet      0        [2001:db8::1]:443  [2001:db8::2]:41234 -           1.46M/24.0k B
09:58:43.685 retransmit       - (unknown)    -        10.0.0.1:22        10.0.0.2:5000      -
09:58:43.685 connect-failed 1446 kubelet     0        10.0.0.1:40000     10.0.0.2:81        -            ECONNREFUSED
09:58:43.685 udp-recv         - (kernel)     -        -:5353             -:-                -
"""


def test_the_rows_stand_under_their_header() -> None:
    rows = (KUBELET, MANAGER, CURL, APT, DNS, CLOSE, NOBODY, REFUSED, SILENT)
    assert HEADER + "".join(line(record) for record in rows) == GOLDEN


@pytest.mark.parametrize("record", [HEADER, *SAMPLES])
def test_a_row_fits_into_120_columns(record: Record | str) -> None:
    text = record if isinstance(record, str) else line(record)
    assert text.endswith("\n")
    assert len(text) - 1 <= WIDTH


def test_the_longest_names_and_counts_fit_too() -> None:
    where = CURL.event.tuple._replace(local=ip_address("172.17.100.100"), local_port=443)
    counts = Counts(10**12 - 1, 10**12 - 1, 1, 1)
    assert CURL.process is not None
    who = replace(CURL.process, pid=4_194_304, path="/a-very-long-program-name", user="a-very-long-user")
    longest = CURL._replace(process=who, event=CURL.event._replace(kind="close", tuple=where, counts=counts))
    assert len(line(longest)) - 1 <= WIDTH


def test_an_ipv6_address_is_never_cut() -> None:
    long = ip_address("2001:db8:1111:2222:3333:4444:5555:6666")
    where = CLOSE.event.tuple._replace(local=long, remote=long)
    text = line(CLOSE._replace(event=CLOSE.event._replace(tuple=where)))
    assert text.split()[5:7] == [f"[{long}]:443", f"[{long}]:41234"]


def test_a_listening_socket_has_no_other_side() -> None:
    listening = KUBELET._replace(event=KUBELET.event._replace(kind="listen", handshake_ns=None))
    assert line(listening).split()[5:] == ["127.0.0.1:53790", "-", "-"]


def test_no_name_can_break_the_row() -> None:
    text = line(hostile())
    assert text.endswith("\n")
    assert text[:-1].isprintable()
