"""The table of probes, held against the C sources, and what the programs are told of a kernel."""

from __future__ import annotations

import re
from ipaddress import ip_network
from pathlib import Path

import pytest

from xdpguard.abi import abi, folder
from xdpguard.errors import KernelError
from xdpguard.kernel import offsets, tracefilter
from xdpguard.kernel.sources import WAYS, Choice, Probe, wanted_ways
from xdpguard.kernel.tracefilter import KernelFilter

NUMBERS = abi().numbers
KINDS = {name.removeprefix("XG_EV_") for name in NUMBERS if name.startswith("XG_EV_")} - {"KINDS"}
TCP = {"CONNECT", "CONNECT_FAILED", "ACCEPT", "CLOSE", "RETRANSMIT", "LISTEN"}


def probes() -> set[Probe]:
    return {probe for way in WAYS for choice in (*way.kprobes, *way.tracepoints) for probe in choice.probes}


def test_every_kind_of_event_has_a_way_with_and_without_kprobes() -> None:
    assert {kind for way in WAYS for kind in way.kinds} == KINDS
    for way in WAYS:
        assert way.choices(True)
        assert way.choices(False)


def test_without_kprobes_none_is_asked_for() -> None:
    for way in WAYS:
        used = {probe.how for choice in way.choices(False) for probe in choice.probes}
        assert used <= {"raw tracepoint", "tracepoint"}


def test_kprobes_come_first_and_what_does_without_them_follows() -> None:
    for way in WAYS:
        assert way.choices(True) == (*way.kprobes, *way.tracepoints)


def test_a_way_that_is_not_essential_ends_with_a_word_on_what_is_missing() -> None:
    for way in WAYS:
        last = way.tracepoints[-1]
        assert way.essential or (last.probes == () and last.missing)
        assert not way.essential or last.probes


def test_every_program_of_the_table_is_in_its_file_and_every_program_is_in_the_table() -> None:
    there = {
        (f"trace/{file.name}", function)
        for file in (folder() / "trace").glob("*.c")
        if file.name != "xdp_delivery.c"
        for function in re.findall(r"^int (xdpguard_\w+)\(", file.read_text(), re.M)
    }
    assert {(probe.file, probe.function) for probe in probes()} == there


def test_only_what_the_wanted_kinds_need_is_attached() -> None:
    def events(*kinds: str) -> set[str]:
        return {event for way in wanted_ways(frozenset(kinds)) for event in way.events}

    assert events("UDP_SEND") == {"udp-send"}
    assert events("FORK", "EXIT") == {"fork", "exit"}
    assert events("CLOSE") == {"connect", "connect-failed", "accept", "late", "close", "listen"}
    assert "retransmit" in events("RETRANSMIT")


def test_raw_tracepoints_have_their_arguments_named() -> None:
    raw = {probe.target for probe in probes() if probe.how == "raw tracepoint"}
    assert raw == set(offsets._EVENTS)


class AnyKernel:
    """Stands for Btf: has every field, at 8; no function's arguments unless told."""

    def __init__(self, **arguments: tuple[str, ...]) -> None:
        self._arguments = arguments

    def offset(self, name: str, path: str) -> int:
        if "v6" in path:
            raise KernelError("no IPv6 here")
        return 8

    def bit(self, name: str, path: str) -> tuple[int, int]:
        return 3, 1 << 6

    def enumerator(self, enumeration: str, name: str) -> int | None:
        return {"memory_cgrp_id": 4, "io_cgrp_id": 2}.get(name)

    def arguments(self, function: str) -> tuple[str, ...]:
        event = function.removeprefix("__traceiter_")
        if event not in self._arguments:
            raise KernelError("not known")
        return ("__data", *self._arguments[event])


def test_every_number_that_the_programs_name_is_given() -> None:
    text = "".join(
        (folder() / "include" / f"{name}.h").read_text()
        for name in ("kernel", "owner", "socket", "filter", "connection", "flow")
    )
    text += "".join(file.read_text() for file in (folder() / "trace").glob("*.c") if "xdp" not in file.name)
    fields = re.findall(r"FIELD\(.*?, (?:u8|u16|u32|u64), (\w+)\)", text)
    named = set(re.findall(r"XG_NUMBER_(\w+)\b", text)) | set(re.findall(r", u\d+, ([A-Z]\w+)\)", text))
    given = offsets.numbers(AnyKernel(), "") | KernelFilter().numbers()  # type: ignore[arg-type]
    assert fields
    given["XG_NUMBER_OWNERS"] = 1  # by Tracing
    assert {f"XG_NUMBER_{name}" for name in named - {""}} <= set(given)
    assert set(given) <= set(NUMBERS)


def test_a_field_that_a_kernel_may_lack_is_zero() -> None:
    assert offsets.numbers(AnyKernel(), "")["XG_NUMBER_SOCK_V6_DADDR"] == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("controller", "v1", "slot"), [("", 0, 8), ("memory", 1, 8 + 32), ("blkio", 1, 8 + 16)]
)
def test_an_owners_cgroup_is_of_v2_or_of_a_v1_controller(controller: str, v1: int, slot: int) -> None:
    found = offsets.numbers(AnyKernel(), controller)  # type: ignore[arg-type]
    assert (found["XG_NUMBER_CGROUP_V1"], found["XG_NUMBER_CSS_SET_SLOT"]) == (v1, slot)


def test_a_controller_that_btf_does_not_know_is_named() -> None:
    with pytest.raises(KernelError, match="no cgroup controller misc"):
        offsets.numbers(AnyKernel(), "misc")  # type: ignore[arg-type]


def test_arguments_are_found_by_name_and_else_taken_as_they_used_to_be() -> None:
    known = offsets.definitions(AnyKernel(tcp_retransmit_skb=("why", "sk", "skb", "err")))  # type: ignore[arg-type]
    assert "XG_ARG_TCP_RETRANSMIT_SKB_SK=1" in known
    assert "XG_ARG_TCP_RETRANSMIT_SKB_ERR=3" in known
    usual = offsets.definitions(AnyKernel())  # type: ignore[arg-type]
    assert "XG_ARG_TCP_RETRANSMIT_SKB_SK=0" in usual
    assert not [one for one in usual if one.startswith("XG_ARG_TCP_RETRANSMIT_SKB_ERR")]


# ---- cgroups ----------------------------------------------------------------------------------------------
HEAD = "#subsys_name\thierarchy\tnum_cgroups\tenabled\n"


@pytest.mark.parametrize(
    ("rows", "controller"),
    [
        ("cpu\t1\t1\t1\nmemory\t4\t9\t1\npids\t8\t1\t1\n", "memory"),
        ("cpu\t1\t1\t1\nmemory\t0\t9\t1\npids\t8\t1\t1\n", "pids"),
        ("cpu\t1\t1\t1\nmemory\t0\t9\t1\n", "cpu"),
        ("cpu\t0\t1\t1\nmemory\t0\t9\t1\n", ""),
        ("", ""),
    ],
)
def test_the_hierarchy_is_that_of_containers(rows: str, controller: str, tmp_path: Path) -> None:
    table = tmp_path / "cgroups"
    table.write_text(HEAD + rows)
    assert offsets.cgroup_controller(table) == controller


def test_a_kernel_without_v1_has_none(tmp_path: Path) -> None:
    assert offsets.cgroup_controller(tmp_path / "missing") == ""


def test_the_hierarchys_directories_are_found(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "tmpfs /sys/fs/cgroup tmpfs rw 0 0\n"
        "cgroup /sys/fs/cgroup/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0\n"
        "cgroup2 /sys/fs/cgroup/unified cgroup2 rw,memory_recursiveprot 0 0\n"
        "cgroup /sys/fs/cgroup/memory cgroup rw,relatime,memory 0 0\n"
    )
    assert offsets.cgroup_root("memory", mounts) == Path("/sys/fs/cgroup/memory")
    assert offsets.cgroup_root("cpuacct", mounts) == Path("/sys/fs/cgroup/cpu,cpuacct")
    assert offsets.cgroup_root("", mounts) == Path("/sys/fs/cgroup/unified")
    assert offsets.cgroup_root("pids", mounts) is None


# ---- the filter -----------------------------------------------------------------------------------------
def test_an_empty_filter_wants_every_kind_and_has_no_condition() -> None:
    found = KernelFilter().numbers()
    assert found["XG_NUMBER_FILTERS"] == 0
    assert all(found["XG_NUMBER_KINDS"] >> NUMBERS[f"XG_EV_{kind}"] & 1 for kind in KINDS)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (KernelFilter(pids=frozenset({1})), "XG_SET_PID"),
        (KernelFilter(uids=frozenset({0})), "XG_SET_UID"),
        (KernelFilter(ports=frozenset({80})), "XG_SET_PORT"),
        (KernelFilter(netns=frozenset({4})), "XG_SET_NETNS"),
        (KernelFilter(by_cgroup=True), "XG_SET_CGROUP"),
        (KernelFilter(networks=(ip_network("::/0"),)), "XG_SET_NETWORK"),
    ],
)
def test_each_field_of_the_filter_is_a_condition_of_its_own(wanted: KernelFilter, field: str) -> None:
    assert wanted.numbers()["XG_NUMBER_FILTERS"] == 1 << NUMBERS[field]


def test_only_the_wanted_kinds_are_named() -> None:
    wanted = KernelFilter(kinds=frozenset({NUMBERS["XG_EV_CLOSE"], NUMBERS["XG_EV_EXIT"]}))
    expected = 1 << NUMBERS["XG_EV_CLOSE"] | 1 << NUMBERS["XG_EV_EXIT"]
    assert wanted.numbers()["XG_NUMBER_KINDS"] == expected


@pytest.mark.parametrize(
    ("network", "key"),
    [
        ("192.0.2.0/24", "3800000002000000c0000200" + "00" * 12),
        ("2001:db8::/32", "400000000a00000020010db8" + "00" * 12),
        ("::/0", "200000000a000000" + "00" * 16),
    ],
)
def test_a_networks_family_comes_before_its_bits(network: str, key: str) -> None:
    assert tracefilter._network_key(ip_network(network)).hex() == key


def test_a_choice_of_nothing_is_a_choice() -> None:
    assert Choice().probes == ()
