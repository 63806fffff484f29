"""What is wanted: values of the command line, the kernel's filter, and the last word in user space."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import pytest
from trace_samples import ends, event, person, record

from xdpguard.errors import UsageError
from xdpguard.trace.cgroups import Place
from xdpguard.trace.decode import KINDS, TASKS
from xdpguard.trace.model import ContainerName, Filter, Record
from xdpguard.trace.wanted import Wanted, kernel_fields, parse

ID = "ab" * 32
WEB = ContainerName(ID, "docker", "web", None, None, None, None)


def parsed(**words: Any) -> Filter:
    return parse(**words, uid_of=lambda name: {"alice": 1000, "root": 0}.get(name))


def one(**more: Any) -> Record:
    where = ends("192.0.2.1", 40000, "198.51.100.7", 443)
    return record(event("connect", where), process=person(42, 43, "/bin/x", 1000), container=WEB, **more)


def matches(record: Record, **words: Any) -> bool:
    return Wanted(parsed(**words)).matches(record)


def test_no_words_want_everything() -> None:
    assert parsed() == Filter()
    assert kernel_fields(Filter()) == (frozenset(),) * 4 + ((), frozenset(), False)
    nobody = one()._replace(process=None, container=None, attribution="unknown")
    assert matches(nobody)


def test_words_become_numbers() -> None:
    found = parsed(
        letters="r", pids=["42"], users=["alice", "0"], containers=["web"], ports=["443"],
        cidrs=["192.0.2.0/24", "2001:db8::1"], netns=frozenset({7}),
    )  # fmt: skip
    networks = (ip_network("192.0.2.0/24"), ip_network("2001:db8::1/128"))
    assert found == Filter(
        frozenset({"retransmit"}), frozenset({42}), frozenset({1000, 0}), frozenset({"web"}),
        frozenset({443}), networks, frozenset({7}),
    )  # fmt: skip
    fields = kernel_fields(found)
    assert fields.kinds - TASKS.keys() == {number for number, kind in KINDS.items() if kind == "retransmit"}
    assert fields[1:] == (found.pids, found.uids, found.ports, networks, found.netns, True)


def test_processes_are_heard_of_whatever_kinds_are_wanted() -> None:
    assert kernel_fields(parsed(letters="u")).kinds > TASKS.keys()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"pids": ["0"]}, "--pid 0: a number from 1 to 4194304 expected"),
        ({"pids": ["-1"]}, "--pid -1: a number"),
        ({"pids": ["²"]}, "--pid ²: a number"),
        ({"ports": ["65536"]}, "--port 65536: a number from 1 to 65535 expected"),
        ({"users": ["bob"]}, "--user bob: no such user here"),
        ({"users": ["4294967295"]}, "--user 4294967295: a number from 0 to 4294967294"),
        ({"containers": [""]}, "--container : an id"),
        ({"containers": ["a;b"]}, "--container a;b: an id"),
        (
            {"cidrs": ["192.0.2.5/24"]},
            "--cidr 192.0.2.5/24: 192.0.2.5 is no network of /24, 192.0.2.0/24 would be",
        ),
        ({"cidrs": ["host"]}, "--cidr host: 192.0.2.0/24, 2001:db8::/32 or one address expected"),
        ({"cidrs": ["192.0.2.0/33"]}, "--cidr 192.0.2.0/33: 192.0.2.0/24, 2001:db8::/32 or"),
        ({"letters": "z"}, "event letters: 'z'"),
    ],
)
def test_a_value_that_can_match_nothing_is_refused(words: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as refused:
        parsed(**words)
    assert str(refused.value).startswith(message)
    assert str(refused.value).endswith("; nothing traced")


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ({"pids": ["41", "42"]}, True),
        ({"pids": ["43"]}, False),  # its thread's number
        ({"users": ["alice"]}, True),
        ({"users": ["root"]}, False),
        ({"ports": ["443"]}, True),
        ({"ports": ["40000"]}, True),
        ({"ports": ["80"]}, False),
        ({"cidrs": ["192.0.2.0/24"]}, True),
        ({"cidrs": ["198.51.100.7"]}, True),
        ({"cidrs": ["::/0"]}, False),
        ({"letters": "o"}, True),
        ({"letters": "ti"}, False),
        ({"netns": frozenset({4026531840})}, True),
        ({"netns": frozenset({1})}, False),
        ({"pids": ["42"], "ports": ["80"]}, False),  # AND between fields
        ({"containers": ["web"]}, True),
        ({"containers": [ID]}, True),
        ({"containers": [ID[:12]]}, True),
        ({"containers": [ID[:11]]}, False),  # too short for an id, and not its name
        ({"containers": [ID[1:13]]}, False),  # from its middle
        ({"containers": ["we"]}, False),
    ],
)
def test_one_record_against_one_filter(words: dict[str, Any], expected: bool) -> None:
    assert matches(one(), **words) is expected


def test_a_kubernetes_container_is_found_by_its_name_in_the_pod() -> None:
    named = replace(WEB, name=None, pod="web-7", container="nginx")
    assert matches(one()._replace(container=named), containers=["nginx"])


def test_an_unknown_owner_matches_no_filter_for_owners() -> None:
    nobody = one()._replace(process=None, container=None, attribution="unknown")
    for words in ({"pids": ["42"]}, {"users": ["root"]}, {"containers": ["web"]}):
        assert not matches(nobody, **words)
    assert matches(nobody, ports=["443"])


def test_a_cgroup_is_decided_only_by_what_is_certain() -> None:
    wanted = Wanted(parsed(containers=["web"]))
    unnamed = replace(WEB, name=None)
    assert wanted.decides(Place("/docker/x", WEB)) is True
    assert wanted.decides(Place("/docker/x", replace(WEB, name="db"))) is False
    assert wanted.decides(Place("/user.slice", None)) is False
    assert wanted.decides(Place("/docker/x", unnamed)) is None  # its name may be found later
    assert wanted.decides(Place("/", None)) is None
    assert wanted.decides(Place(None, None)) is None
