"""The parts of a running trace, put together: what is asked when, and that the books add up. No kernel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from xdpguard.errors import KernelError
from xdpguard.identity.process import Process
from xdpguard.kernel.namespaces import Visit
from xdpguard.kernel.tracing import Cost, KernelFilter, ProgramCost
from xdpguard.trace import live
from xdpguard.trace.existing import Existing
from xdpguard.trace.ledger import adds_up, total
from xdpguard.trace.live import Interfaces, Live
from xdpguard.trace.model import Filter

CONNECT = 1  # XG_EV_CONNECT


class FakeTracing:
    """Remembers in which order it was asked."""

    sources = {"connect": "kprobe tcp_v4_connect"}  # noqa: RUF012
    missing = ("something",)
    cgroup_controller = ""
    cgroup_root: Path | None = None
    missed = 0
    lost = 0

    def __init__(self, wanted: KernelFilter) -> None:
        self.wanted = wanted
        self.asked: list[str] = []
        self.closed = False
        self.waits: list[float] = []

    def poll(self, timeout: float) -> list[bytes]:
        self.asked.append("poll")
        self.waits.append(timeout)
        return []

    def flows(self) -> list[tuple[bytes, bytes]]:
        self.asked.append("flows")
        return []

    def ledger(self) -> dict[int, tuple[int, ...]]:
        self.asked.append("ledger")
        return {CONNECT: (5, 0, 5, 0, 0, 0)}

    def lost_tasks(self) -> int:
        return self.lost

    def cost(self) -> Cost:
        return Cost((ProgramCost("x", 0.0, 0, self.missed),), 0)

    def select_cgroup(self, cgroup: int, wanted: bool) -> None:
        self.asked.append(f"select {cgroup} {wanted}")

    def close(self) -> None:
        self.closed = True


class NotKept:
    """The map of owners, which is not to be had."""

    map = None
    note = ""

    def __init__(self, whole: bool) -> None:
        self.whole = whole

    def begin(self, found: object, everywhere: bool) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[FakeTracing]:
    """Every tracing that was begun."""
    found: list[FakeTracing] = []

    def begin(wanted: KernelFilter, ring_bytes: int, owners: int | None) -> FakeTracing:
        assert owners is None
        found.append(FakeTracing(wanted))
        return found[-1]

    monkeypatch.setattr(live, "Tracing", begin)
    monkeypatch.setattr(live, "Keeping", NotKept)
    monkeypatch.setattr(
        "xdpguard.trace.existing.look", lambda only: Existing((), (), (f"asked for {sorted(only)}",))
    )
    return found


def test_the_kernel_is_given_the_filter_and_the_seeds_their_namespaces(made: list[FakeTracing]) -> None:
    with Live(Filter(pids=frozenset({7}), netns=frozenset({42}))) as running:
        assert made[0].wanted.pids == {7}
        assert made[0].wanted.netns == {42}
        assert running.notes == ("asked for [42]",)
        assert running.missing == ("something",)
    assert made[0].closed


def test_a_start_that_fails_half_way_leaves_nothing_attached(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(only: object) -> Existing:
        raise KernelError("sock_diag: refused")

    monkeypatch.setattr("xdpguard.trace.existing.look", fail)
    with pytest.raises(KernelError):
        Live(Filter())
    assert made[0].closed


def test_the_udp_table_is_read_once_a_second_and_the_ring_each_time(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    with Live(Filter()) as running:
        for _ in range(25):
            running.read(0.2)
            now[0] += 0.1
        assert made[0].asked.count("flows") == 2
        assert made[0].asked.count("poll") == 25
        assert max(made[0].waits) <= 0.1


def test_at_the_end_the_books_are_read_before_what_they_count(made: list[FakeTracing]) -> None:
    with Live(Filter()) as running:
        records, ledger = running.finish()
    assert made[0].asked == ["ledger", "flows", "poll"]
    assert records == []
    assert (ledger["connect"].seen, ledger["connect"].filtered) == (5, 5)


def test_what_no_program_could_look_at_is_lost_and_counted(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeTracing, "missed", 3)
    with Live(Filter()) as running:
        _, ledger = running.finish()
    assert total(ledger.values()).lost == {"missed": 3}
    assert all(adds_up(one) for one in ledger.values())


def test_after_lost_task_events_all_of_proc_is_read_once_and_not_at_every_turn(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    tours: list[Path] = []

    def everyone(proc: Path) -> list[Process]:
        tours.append(proc)
        return []

    monkeypatch.setattr(live, "everyone", everyone)
    with Live(Filter()) as running:
        running.read(0.0)
        assert tours == []
        made[0].lost = 1
        running.read(0.0)
        made[0].lost = 2
        running.read(0.0)
        assert tours == [Path("/proc")]


def test_what_the_session_decides_of_a_cgroup_the_kernel_is_told(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Live(Filter(containers=frozenset({"web"}))) as running:
        assert made[0].wanted.by_cgroup
        monkeypatch.setattr(running.session, "decisions", lambda: [(9, True), (8, False)])
        running.read(0.1)
    assert made[0].asked[-2:] == ["select 9 True", "select 8 False"]


def test_without_names_no_container_is_asked_for(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Any] = []
    monkeypatch.setattr(live, "Cgroups", lambda path, lies_at, container, *_, **__: given.append(container))
    for names in (True, False):
        with Live(Filter(), names=names):
            pass
    assert given[0] is not None
    assert given[1] is None


def test_cgroup_ids_of_a_v1_hierarchy_are_looked_up_in_it(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "docker").mkdir()
    monkeypatch.setattr(FakeTracing, "cgroup_controller", "memory")
    monkeypatch.setattr(FakeTracing, "cgroup_root", tmp_path)
    given: list[Any] = []
    monkeypatch.setattr(live, "Cgroups", lambda path, *_, ids_tell: given.append((path, ids_tell)))
    with Live(Filter()):
        pass
    path, ids_tell = given[0]
    assert path((tmp_path / "docker").stat().st_ino) == "/docker"
    assert ids_tell


def test_what_runs_already_and_is_not_wanted_is_rejected_before_the_first_event(
    made: list[FakeTracing], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    identity = "ab" * 32
    (tmp_path / "docker" / identity).mkdir(parents=True)
    monkeypatch.setattr(FakeTracing, "cgroup_controller", "memory")
    monkeypatch.setattr(FakeTracing, "cgroup_root", tmp_path)
    with Live(Filter(containers=frozenset({identity[:12]}))):
        assert made[0].asked == [f"select {(tmp_path / 'docker').stat().st_ino} False"]


def test_interfaces_are_listed_for_all_namespaces_at_once_and_not_too_often(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tours: list[object] = []

    def each(function: object, only: object) -> Visit[list[tuple[int, str]]]:
        tours.append(only)
        return Visit({1: [(2, "eth0")], 3: [(2, f"veth{len(tours)}")]})

    now = [0.0]
    monkeypatch.setattr("xdpguard.kernel.namespaces.each", each)
    names = Interfaces((1, 3), clock=lambda: now[0])
    assert (names.name(1, 2), names.name(3, 2), names.name(3, 9)) == ("eth0", "veth1", None)
    assert tours == [(1, 3)]
    now[0] = 1.5
    assert names.name(3, 9) is None  # it may be new
    assert len(tours) == 2
    now[0] = 60.0
    assert names.name(3, 2) == "veth3"  # it may have another name
