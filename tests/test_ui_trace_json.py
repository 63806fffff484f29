"""``trace --format json``: the keys, the values, and that a line is one object whatever is in it."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest
from trace_samples import (
    BROKEN_LEDGER,
    CLOSE,
    CURL,
    DNS,
    HOSTILE,
    KUBELET,
    LEDGER,
    LISTEN,
    NOBODY,
    REFUSED,
    SAMPLES,
    SILENT,
    hostile,
    person,
)  # fmt: skip

from xdpguard.trace.model import Record
from xdpguard.ui.trace_json import KEYS, ledger, line

GOLDEN = (
    '{"schema":"xdpguard.trace/1","time":"2019-04-09T09:58:44.781354Z","event":"connect","attribution":"exact",'
    '"error.type":null,"network.transport":"tcp","network.type":"ipv4","network.local.address":"172.17.0.2",'
    '"network.local.port":54348,"network.peer.address":"216.58.205.46","network.peer.port":80,'
    '"network.interface.name":"eth0","network.io.direction":null,"incoming":false,"netns":4026531840,'
    '"handshake_seconds":0.00022,"duration_seconds":null,"rtt_seconds":null,"bytes_sent":null,'
    '"bytes_received":null,"packets_sent":null,"packets_received":null,"retransmits":null,"process.pid":30197,'
    '"process.executable.path":"/usr/bin/curl","process.real_user.id":0,"process.owner":"root","gid":0,'
    '"group":"root","thread.id":30197,"thread.name":"curl","process.parent_pid":26219,"ancestor_pids":[26219,1],'
    '"ancestor_executable_paths":["/bin/bash","/sbin/init"],"ancestor_names":["bash","init"],'
    '"ancestor_owners":["root","root"],"process.linux.cgroup":"/docker/cbd2540ec5be' + "0" * 52 + '",'
    '"container.id":"cbd2540ec5be' + "0" * 52 + '","container.name":"sleepy_haibt",'
    '"container.runtime.name":"docker","container.image.name":"busybox","k8s.pod.name":null,'
    '"k8s.namespace.name":null,"k8s.container.name":null}\n'
)


def parsed(record: Record) -> dict[str, Any]:
    text = line(record)
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert text.isascii()
    document: dict[str, Any] = json.loads(text)
    return document


def test_a_connect_in_a_container_byte_for_byte() -> None:
    assert line(CURL) == GOLDEN


@pytest.mark.parametrize("record", SAMPLES)
def test_every_key_is_always_there_in_one_order(record: Record) -> None:
    assert tuple(parsed(record)) == KEYS


@pytest.mark.parametrize("record", SAMPLES)
def test_the_object_is_flat(record: Record) -> None:
    for value in parsed(record).values():
        assert not isinstance(value, dict)
        assert not isinstance(value, list) or not any(isinstance(one, dict | list) for one in value)


def test_what_is_not_known_is_null() -> None:
    known = {key: value for key, value in parsed(NOBODY).items() if value is not None}
    assert known == {
        "schema": "xdpguard.trace/1",
        "time": "2019-04-09T09:58:43.684786Z",
        "event": "retransmit",
        "attribution": "unknown",
        "network.transport": "tcp",
        "network.type": "ipv4",
        "network.local.address": "10.0.0.1",
        "network.local.port": 22,
        "network.peer.address": "10.0.0.2",
        "network.peer.port": 5000,
        "netns": 4026531840,
    }
    assert parsed(SILENT)["network.local.address"] is None
    assert parsed(SILENT)["network.peer.port"] is None


def test_a_close_tells_what_passed() -> None:
    found = parsed(CLOSE)
    expected = {
        "incoming": True, "duration_seconds": 3.0, "rtt_seconds": 0.004144, "bytes_sent": 1460000,
        "bytes_received": 24000, "packets_sent": 1100, "packets_received": 300, "retransmits": 2,
        "network.type": "ipv6", "network.peer.address": "2001:db8::2", "attribution": "procfs",
    }  # fmt: skip
    assert {key: found[key] for key in expected} == expected


def test_who_began_an_older_connection_is_not_guessed() -> None:
    older = CLOSE._replace(event=CLOSE.event._replace(opened=None))
    assert parsed(older)["incoming"] is None
    assert parsed(older)["duration_seconds"] is None


def test_a_socket_that_listens_has_no_other_side() -> None:
    found = parsed(LISTEN)
    keys = ("network.local.port", "network.peer.address", "network.peer.port", "incoming")
    assert [found[key] for key in keys] == [10252, None, None, None]


def test_a_udp_record_counts_one_way_only() -> None:
    found = parsed(DNS)
    keys = (
        "network.io.direction",
        "bytes_sent",
        "packets_sent",
        "bytes_received",
        "packets_received",
        "retransmits",
    )
    assert [found[key] for key in keys] == ["transmit", 62, 2, None, None, None]


def test_a_failure_has_its_reason() -> None:
    assert parsed(REFUSED)["error.type"] == "ECONNREFUSED"


def test_any_name_survives_on_one_line() -> None:
    found = parsed(hostile())
    names = (
        "error.type",
        "network.interface.name",
        "process.executable.path",
        "thread.name",
        "container.name",
    )
    assert [found[key] for key in names] == [HOSTILE] * len(names)


def test_the_same_process_with_another_thread_is_not_taken_for_the_first() -> None:
    assert KUBELET.process is not None
    other = KUBELET._replace(process=replace(KUBELET.process, tid=497))
    assert [parsed(record)["thread.id"] for record in (KUBELET, other, KUBELET)] == [496, 497, 496]


def test_a_cache_that_is_full_forgets_and_goes_on() -> None:
    for number in range(10_000):
        where = KUBELET.event.tuple._replace(remote=ip_address(number))
        record = KUBELET._replace(
            event=KUBELET.event._replace(tuple=where), process=person(number, number, "/x")
        )
        found = json.loads(line(record))
        assert found["process.pid"] == number
        assert found["network.peer.address"] == str(ip_address(number))


@pytest.mark.parametrize(
    ("wall", "text"),
    [
        (0.0, "1970-01-01T00:00:00.000000Z"),
        (1554803923.9999999, "2019-04-09T09:58:44.000000Z"),
        (1554803923.000001, "2019-04-09T09:58:43.000001Z"),
        (1554803923.6847868, "2019-04-09T09:58:43.684787Z"),
    ],
)
def test_time_is_rfc_3339_in_utc_to_the_microsecond(wall: float, text: str) -> None:
    assert parsed(KUBELET._replace(wall=wall))["time"] == text


def test_the_last_line_is_the_ledger() -> None:
    assert ledger(LEDGER, 1554803923.5) == (
        '{"schema":"xdpguard.trace/1","time":"2019-04-09T09:58:43.500000Z","event":"ledger","seen":1015,'
        '"emitted":1009,"filtered":3,"lost":{"ring":2,"map":1},"unknown":7,"adds_up":true,"kinds":{'
        '"connect":{"seen":1005,"emitted":1000,"filtered":3,"lost":{"ring":2,"map":0},"unknown":7},'
        '"udp-send":{"seen":10,"emitted":9,"filtered":0,"lost":{"map":1},"unknown":0}}}\n'
    )
    assert json.loads(ledger(BROKEN_LEDGER, 0.0))["adds_up"] is False


def test_every_key_is_documented() -> None:
    text = (Path(__file__).parent.parent / "docs" / "trace.md").read_text()
    assert [key for key in KEYS if f"`{key}`" not in text] == []
