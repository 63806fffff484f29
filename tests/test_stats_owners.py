"""Accounts grouped by process, user and container: every view adds up to what was seen."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.identity.container import Container
from xdpguard.identity.process import Process, ticks
from xdpguard.kernel.accounts import KINDS, Account
from xdpguard.stats.model import Count, HookOwners, OwnedCount
from xdpguard.stats.owners import NO_CONTAINER, REASONS, Names, of_hook

SECOND = 1_000_000_000
WEB = Container("f" * 64, "docker", "web")


def account(kind: str = "owner", **fields: object) -> Account:
    base = Account(0, kind, 7, 5 * SECOND, 1000, 40, "curl", 10, 1000, 2, 200)
    if kind in ("kernel", "no_owner", "no_ports"):
        base = replace(base, pid=None, uid=None, cgroup=None, start_time=0, comm="")
    return replace(base, **fields)  # type: ignore[arg-type]


class Host:
    """Processes by number, and cgroups: 40 is the container web, 41 is none."""

    def __init__(self, *alive: Process) -> None:
        self._alive = {one.pid: one for one in alive}

    def process(self, pid: int) -> Process | None:
        return self._alive.get(pid)

    def container(self, cgroup_path: str) -> Container | None:
        return WEB if cgroup_path == "/web" else None

    def user(self, uid: int) -> str | None:
        return {0: "root"}.get(uid)


def process(pid: int, started: int, comm: str, cgroup: str) -> Process:
    return Process(pid, pid, comm, None, 0, 0, 1, ticks(started), None, cgroup)


def grouped(*accounts: Account, host: Host | None = None, more: int = 0) -> HookOwners:
    """``more``: packets that were seen beside the accounts', of 100 bytes each, none dropped."""
    mine = [one for one in accounts if one.hook == 0]
    seen = Count(sum(one.packets for one in mine) + more, sum(one.bytes for one in mine) + 100 * more)
    dropped = Count(sum(one.dropped_packets for one in mine), sum(one.dropped_bytes for one in mine))
    return of_hook(accounts, 0, seen, dropped, Names(host or Host(), {40: "/web", 41: "/user.slice"}.get))


def packets(view: tuple[OwnedCount, ...]) -> dict[str, int]:
    return {one.name: one.count.packets for one in view if one.count.packets}


def test_a_process_that_is_gone_keeps_the_name_of_its_first_packet() -> None:
    assert packets(grouped(account()).processes) == {"curl": 10}


def test_a_process_that_is_there_has_its_name_of_today() -> None:
    host = Host(process(7, 5 * SECOND, "nginx", "/web"))
    assert packets(grouped(account(), host=host).processes) == {"nginx": 10}


def test_a_later_process_of_the_same_number_is_another_one() -> None:
    host = Host(process(7, 9 * SECOND, "nginx", "/web"))
    found = grouped(account(), account(start_time=9 * SECOND, comm="x"), host=host)
    assert packets(found.processes) == {"curl": 10, "nginx": 10}


def test_start_times_of_one_clock_tick_are_one_process() -> None:
    """/proc tells ticks, the kernel nanoseconds."""
    found = grouped(account(), account(start_time=5 * SECOND + 1, uid=0))
    assert packets(found.processes) == {"curl": 20}
    assert packets(found.users) == {"1000": 10, "root": 10}


def test_a_socket_of_which_only_the_user_is_known_is_the_users() -> None:
    found = grouped(account(pid=None, start_time=0, uid=0, cgroup=41, comm=""))
    assert packets(found.processes) == {"(unknown)": 10}
    assert packets(found.users) == {"root": 10}
    assert packets(found.containers) == {NO_CONTAINER: 10}
    assert found.reasons["no_process"].count == Count(10, 1000)


def test_a_process_without_an_account_of_its_own_still_is_its_users_and_containers() -> None:
    found = grouped(account("no_room", pid=None, start_time=0))
    assert packets(found.processes) == {"(unknown)": 10}
    assert packets(found.users) == {"1000": 10}
    assert packets(found.containers) == {"web": 10}
    assert found.reasons["no_room"].count.packets == 10


def test_what_no_process_asks_for_is_the_kernels() -> None:
    found = grouped(account("kernel"))
    for view in (found.processes, found.users, found.containers):
        assert packets(view) == {"(kernel)": 10}


@pytest.mark.parametrize("kind", ["no_owner", "no_ports"])
def test_what_nobody_is_known_for_is_unknown_and_says_why(kind: str) -> None:
    found = grouped(account(kind))
    for view in (found.processes, found.users, found.containers):
        assert packets(view) == {"(unknown)": 10}
    assert {name: one.count.packets for name, one in found.reasons.items() if one.count.packets} == {kind: 10}


def test_what_came_before_the_accounting_is_unknown() -> None:
    found = grouped(account(), more=5)
    assert packets(found.processes) == {"curl": 10, "(unknown)": 5}
    assert found.reasons["not_accounted"].count == Count(5, 500)


def test_a_cgroup_that_is_gone_is_called_by_its_number() -> None:
    assert packets(grouped(account(cgroup=99)).containers) == {"cgroup 99": 10}


def test_the_kernel_and_the_unknown_come_last() -> None:
    found = grouped(
        account("kernel", packets=99), account(), account("no_owner", packets=50), account(pid=8, packets=20)
    )
    assert [one.pid for one in found.processes] == [8, 7, None, None]
    assert [one.name for one in found.processes][2:] == ["(kernel)", "(unknown)"]


counts = st.integers(0, 1000)
accounts = st.builds(
    lambda hook, kind, pid, uid, cgroup, numbers: account(
        kind,
        hook=hook,
        pid=pid if kind == "owner" else None,
        start_time=SECOND if pid and kind == "owner" else 0,
        uid=uid if kind in ("owner", "no_room") else None,
        cgroup=cgroup if kind in ("owner", "no_room") else None,
        packets=sum(numbers),
        bytes=7 * sum(numbers),
        dropped_packets=numbers[0],
        dropped_bytes=7 * numbers[0],
    ),
    st.integers(0, 1),
    st.sampled_from(sorted(KINDS.values())),
    st.one_of(st.none(), st.integers(1, 3)),
    st.one_of(st.none(), st.integers(0, 2)),
    st.one_of(st.none(), st.sampled_from([1, 40, 41, 99])),
    st.tuples(counts, counts),
)


@given(st.lists(accounts, max_size=12), counts)
def test_every_view_adds_up_to_what_was_seen(found: list[Account], more: int) -> None:
    owned = grouped(*found, more=more)
    mine = [one for one in found if one.hook == 0]
    seen = sum(one.packets for one in mine) + more
    dropped = sum(one.dropped_bytes for one in mine)
    for view in (owned.processes, owned.users, owned.containers):
        assert sum(one.count.packets for one in view) == seen
        assert sum(one.dropped.bytes for one in view) == dropped
        assert all(one.count.packets >= one.dropped.packets >= 0 for one in view)
        assert [one.name for one in view][-2:] == ["(kernel)", "(unknown)"]
    unknown = owned.processes[-1]
    assert tuple(owned.reasons) == REASONS
    assert sum(one.count.packets for one in owned.reasons.values()) == unknown.count.packets
    assert sum(one.dropped.bytes for one in owned.reasons.values()) == unknown.dropped.bytes
