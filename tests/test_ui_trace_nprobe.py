"""``trace --format nprobe``: nProbe's published sample, and both shapes of a container."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from trace_samples import (
    CLOSE,
    CURL,
    DNS,
    HOSTILE,
    KUBELET,
    LEDGER,
    MANAGER,
    NOBODY,
    REFUSED,
    SAMPLES,
    hostile,
)  # fmt: skip

from xdpguard.trace.model import Record
from xdpguard.ui.trace_nprobe import ledger, line

PUBLISHED = {
    "timestamp": "1556532359.110896",
    "LOCAL_PROCESS": {"PID": 8950, "UID": 100, "GID": 65534, "PROCESS_PATH": "/usr/lib/apt/methods/http"},
    "LOCAL_FATHER_PROCESS": {"PID": 8947, "UID": 0, "GID": 0, "PROCESS_PATH": "/usr/bin/apt-get"},
    "EVENT_TYPE": "SEND",
    "IP_PROTOCOL_VERSION": 4,
    "PROTOCOL": 17,
    "L4_LOCAL_PORT": 57756,
    "L4_REMOTE_PORT": 53,
    "IPV4_LOCAL_ADDR": "192.12.193.11",
    "IPV4_REMOTE_ADDR": "192.12.192.6",
    "LOCAL_CONTAINER": {"DOCKER": {"ID": "cf5485c07181", "NAME": "docker_monitor"}},
    "EXPORTER_IPV4_ADDRESS": "192.12.193.11",
}
"""The published flow record of a DNS request from a container."""

GOLDEN = (
    '{"timestamp":"1556532359.110896","INTERFACE_NAME":"eth0","LOCAL_PROCESS":{"PID":8950,"TID":8950,"UID":100,'
    '"GID":65534,"PROCESS_PATH":"/usr/lib/apt/methods/http"},"LOCAL_FATHER_PROCESS":{"PID":8947,"UID":0,"GID":0,'
    '"PROCESS_PATH":"/usr/bin/apt-get"},"EVENT_TYPE":"SEND","IP_PROTOCOL_VERSION":4,"PROTOCOL":17,'
    '"L4_LOCAL_PORT":57756,"L4_REMOTE_PORT":53,"IPV4_LOCAL_ADDR":"192.12.193.11",'
    '"IPV4_REMOTE_ADDR":"192.12.192.6","OUT_BYTES":62,"OUT_PKTS":2,"LOCAL_CONTAINER":{"ID":"cf5485c07181",'
    '"RUNTIME":"docker","DOCKER":{"ID":"cf5485c07181","NAME":"docker_monitor"}},"ATTRIBUTION":"exact",'
    '"EXPORTER_IPV4_ADDRESS":"192.12.193.11"}\n'
)


def parsed(record: Record) -> dict[str, Any]:
    text = line(record)
    assert text.endswith("\n")
    assert text[:-1].isprintable()
    assert text.isascii()
    document: dict[str, Any] = json.loads(text)
    return document


def test_the_published_record_comes_out_with_every_key_and_value() -> None:
    assert line(DNS, exporter="192.12.193.11") == GOLDEN
    assert _within(PUBLISHED, json.loads(GOLDEN))


def _within(part: dict[str, Any], whole: dict[str, Any]) -> bool:
    return all(
        _within(value, whole[key]) if isinstance(value, dict) else whole[key] == value
        for key, value in part.items()
    )


def test_a_pod_has_its_id_at_the_top_and_both_shapes() -> None:
    names = {"POD": "kube-controller-manager-minikube", "NS": "kube-system"}
    assert parsed(MANAGER)["LOCAL_CONTAINER"] == {
        "ID": "275d71585e03",
        "RUNTIME": "containerd",
        "K8S": {"ID": "275d71585e03", **names},
        "KUBE": names,
    }


def test_local_is_the_side_of_our_process_also_after_an_accept() -> None:
    found = parsed(MANAGER)
    assert (found["EVENT_TYPE"], found["L4_LOCAL_PORT"], found["L4_REMOTE_PORT"]) == ("ACCEPT", 10252, 53790)


def test_a_close_tells_what_passed_and_its_times_in_milliseconds() -> None:
    found = parsed(CLOSE)
    assert found["TCP"] == {
        "CONN_STATE": "CLOSE", "SEGS_IN": 300, "SEGS_OUT": 1100, "RETRAN_PKTS": 2, "RTT": 4.144,
        "BYTES_RCVD": 24000,
    }  # fmt: skip
    assert (found["IN_BYTES"], found["OUT_BYTES"], found["IPV6_LOCAL_ADDR"]) == (
        24000,
        1460000,
        "2001:db8::1",
    )


def test_the_handshake_is_in_milliseconds() -> None:
    assert parsed(KUBELET)["NW_LATENCY_MS"] == 0.1


def test_user_names_stand_beside_their_numbers() -> None:
    process = parsed(CURL)["LOCAL_PROCESS"]
    assert (process["UID"], process["UID_NAME"], process["GID_NAME"]) == (0, "root", "root")


def test_what_is_not_known_is_left_out() -> None:
    assert parsed(NOBODY) == {
        "timestamp": "1554803923.684786",
        "EVENT_TYPE": "RETRANSMIT",
        "IP_PROTOCOL_VERSION": 4,
        "PROTOCOL": 6,
        "L4_LOCAL_PORT": 22,
        "L4_REMOTE_PORT": 5000,
        "IPV4_LOCAL_ADDR": "10.0.0.1",
        "IPV4_REMOTE_ADDR": "10.0.0.2",
        "ATTRIBUTION": "unknown",
    }


def test_a_failure_has_its_reason() -> None:
    found = parsed(REFUSED)
    assert (found["EVENT_TYPE"], found["ERROR"]) == ("CONNECT_FAILED", "ECONNREFUSED")


@pytest.mark.parametrize("record", SAMPLES)
def test_every_record_is_one_ascii_line(record: Record) -> None:
    assert parsed(record)


def test_any_name_survives_on_one_line() -> None:
    found = parsed(hostile())
    assert found["LOCAL_PROCESS"]["PROCESS_PATH"] == HOSTILE
    assert found["LOCAL_CONTAINER"]["K8S"]["POD"] == HOSTILE


def test_a_container_of_podman_is_given_where_readers_look() -> None:
    assert CURL.container is not None
    found = parsed(CURL._replace(container=replace(CURL.container, runtime="podman", name=None)))
    assert found["LOCAL_CONTAINER"] == {
        "ID": "cbd2540ec5be",
        "RUNTIME": "podman",
        "DOCKER": {"ID": "cbd2540ec5be"},
    }


def test_the_last_line_is_the_ledger() -> None:
    assert ledger(LEDGER, 1554803923.5) == (
        '{"timestamp":"1554803923.500000","EVENT_TYPE":"LEDGER","SEEN":1015,"EMITTED":1009,"FILTERED":3,'
        '"LOST":{"ring":2,"map":1},"UNKNOWN":7}\n'
    )
