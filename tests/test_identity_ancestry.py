"""The table of processes: lineages from events and from /proc, exits, numbers used again, bounds."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from xdpguard.identity.ancestry import NO_PARENT, Ancestry, Event, Executed, Exited, Forked
from xdpguard.identity.process import Key, Process

INIT, SHELL, CURL = Key(1, 0), Key(10, 100), Key(20, 200)


def process(key: Key, ppid: int, comm: str = "x", start: int | None = None) -> Process:
    began = key.start if start is None else start
    return Process(key.pid, key.pid, comm, f"/bin/{comm}", 0, 0, ppid, began, None, None)


def forked(key: Key, parent: Key, comm: str = "bash") -> Forked:
    return Forked(key, parent, comm, 1000, 1000)


def executed(key: Key, comm: str) -> Executed:
    return Executed(key, comm, f"/bin/{comm}", 1000, 1000)


def seeded(**bounds: int) -> Ancestry:
    table = Ancestry(**bounds)
    table.seed([process(INIT, 0, "systemd"), process(SHELL, 1, "bash")])
    return table


def names(table: Ancestry, key: Key) -> list[str | None]:
    return [one.comm for one in table.ancestry(key).processes]


def test_a_lineage_goes_from_the_process_up_to_pid_1() -> None:
    table = seeded()
    table.apply(forked(CURL, SHELL))
    table.apply(executed(CURL, "curl"))
    lineage = table.ancestry(CURL)
    assert [one.key for one in lineage.processes] == [CURL, SHELL, INIT]
    assert names(table, CURL) == ["curl", "bash", "systemd"]
    assert lineage.complete


def test_a_child_has_its_parent_s_executable_until_it_executes_another() -> None:
    table = seeded()
    table.apply(forked(CURL, SHELL))
    assert table.ancestry(CURL).processes[0].exe == "/bin/bash"
    table.apply(executed(CURL, "curl"))
    assert table.ancestry(CURL).processes[0].exe == "/bin/curl"


def test_a_process_that_has_exited_keeps_its_lineage() -> None:
    table = seeded()
    table.apply(forked(CURL, SHELL))
    table.apply(executed(CURL, "curl"))
    table.apply(Exited(CURL))
    table.apply(Exited(SHELL))
    assert names(table, CURL) == ["curl", "bash", "systemd"]
    assert [one.exited for one in table.ancestry(CURL).processes] == [True, True, False]


def test_a_parent_that_exits_stays_the_parent_though_proc_names_another() -> None:
    table = seeded()
    table.apply(forked(CURL, SHELL))
    table.apply(Exited(SHELL))
    table.seed([process(INIT, 0, "systemd"), process(CURL, 1, "curl")])
    assert [one.key for one in table.ancestry(CURL).processes] == [CURL, SHELL, INIT]


def test_a_fork_told_after_the_scan_corrects_the_parent_that_proc_shows() -> None:
    table = Ancestry()
    table.seed([process(INIT, 0, "systemd"), process(CURL, 1, "curl")])
    table.apply(forked(CURL, SHELL))
    assert table.ancestry(CURL).processes[0].parent == SHELL
    assert table.ancestry(CURL).processes[0].comm == "curl"


def test_a_number_used_again_is_another_process() -> None:
    table = seeded()
    again = Key(CURL.pid, CURL.start + 1)
    table.apply(forked(CURL, SHELL, "first"))
    table.apply(Exited(CURL))
    table.apply(forked(again, INIT, "second"))
    assert names(table, CURL) == ["first", "bash", "systemd"]
    assert names(table, again) == ["second", "systemd"]


def test_a_number_used_again_within_a_tick_inherits_nothing() -> None:
    table = seeded()
    table.apply(forked(CURL, SHELL, "first"))
    table.apply(executed(CURL, "first-image"))
    table.apply(Exited(CURL))
    table.apply(forked(CURL, INIT, "second"))
    assert names(table, CURL) == ["second", "systemd"]
    assert not table.ancestry(CURL).processes[0].exited


def test_a_parent_younger_than_its_child_is_not_the_parent() -> None:
    table = Ancestry()
    # SHELL exited and its number went to another process before the scan came to it.
    table.seed([process(INIT, 0), process(CURL, SHELL.pid), process(SHELL, 1, "newcomer", start=300)])
    lineage = table.ancestry(CURL)
    assert [one.key for one in lineage.processes] == [CURL]
    assert not lineage.complete


def test_a_process_from_outside_of_the_pid_namespace_ends_a_lineage() -> None:
    table = Ancestry()
    table.seed([process(INIT, 0), process(SHELL, 0)])  # docker exec
    assert table.ancestry(SHELL).complete
    assert table.ancestry(SHELL).processes[-1].parent == NO_PARENT


def test_a_process_never_seen_has_no_lineage() -> None:
    assert seeded().ancestry(CURL).processes == ()
    assert not seeded().ancestry(CURL).complete


def test_exec_and_exit_may_arrive_before_the_fork() -> None:
    table = seeded()
    for event in (executed(CURL, "curl"), Exited(CURL), forked(CURL, SHELL)):
        table.apply(event)
    assert names(table, CURL) == ["curl", "bash", "systemd"]
    assert table.ancestry(CURL).processes[0].exited
    assert table.losses.unseen == 1


def test_exited_processes_are_kept_by_count_and_evictions_are_counted() -> None:
    table = seeded(exited=3)
    keys = [Key(100 + number, 1000) for number in range(5)]
    for key in keys:
        table.apply(forked(key, SHELL))
        table.apply(Exited(key))
    assert [bool(table.ancestry(key).processes) for key in keys] == [False, False, True, True, True]
    assert table.losses.evicted == 2


def test_an_exited_ancestor_outlives_exited_processes_without_children() -> None:
    table = seeded(exited=2)
    table.apply(forked(CURL, SHELL))
    table.apply(Exited(SHELL))  # the oldest to have exited, and CURL's parent
    for number in range(10):
        table.apply(forked(Key(100 + number, 1000), INIT))
        table.apply(Exited(Key(100 + number, 1000)))
    assert table.ancestry(CURL).complete
    table.apply(Exited(CURL))
    for number in range(10):
        table.apply(forked(Key(200 + number, 1000), INIT))
        table.apply(Exited(Key(200 + number, 1000)))
    assert not table.ancestry(SHELL).processes  # nobody's ancestor any more


def test_live_processes_are_bounded_and_refusals_counted() -> None:
    table = seeded(live=3)
    for number in range(5):
        table.apply(forked(Key(100 + number, 1000), SHELL))
    assert len(table) == 3
    assert table.losses.refused == 4


def test_a_scan_after_lost_events_finds_the_exits_that_nobody_told() -> None:
    table = seeded()
    young = Key(30, 600)
    table.apply(forked(CURL, SHELL))
    table.apply(forked(young, SHELL))
    table.seed([process(INIT, 0), process(SHELL, 1)], began=500)
    assert table.ancestry(CURL).processes[0].exited
    assert not table.ancestry(young).processes[0].exited  # began after the scan
    assert table.losses.overdue == 1


def test_a_lineage_that_runs_in_a_circle_ends() -> None:
    table = Ancestry()
    table.apply(forked(CURL, SHELL))
    table.apply(forked(SHELL, CURL))
    assert not table.ancestry(CURL).complete


# ---- any order of events ------------------------------------------------------------------------------
KEYS = st.builds(Key, st.integers(1, 6), st.integers(0, 2))
EVENTS = st.one_of(
    st.builds(forked, KEYS, KEYS), st.builds(executed, KEYS, st.just("x")), st.builds(Exited, KEYS)
)


@given(st.lists(EVENTS, max_size=60))
def test_no_order_of_events_breaks_the_bounds_or_the_books(events: list[Event]) -> None:
    table = Ancestry(exited=3, live=4)
    for event in events:
        table.apply(event)
        assert len(table) <= 7
    kept = table._table.values()
    counts: dict[Key, int] = {}
    for one in kept:
        if one.parent is not None:
            counts[one.parent] = counts.get(one.parent, 0) + 1
    assert table._children == counts
    assert set(table._gone) == {one.key for one in kept if one.exited}
    assert set(table._leaves) == {key for key in table._gone if key not in counts}


@given(st.permutations([forked(CURL, SHELL), executed(CURL, "curl"), Exited(CURL)]))
def test_the_end_is_the_same_in_whatever_order_one_process_s_events_arrive(events: list[Event]) -> None:
    table = seeded()
    for event in events:
        table.apply(event)
    first, *rest = table.ancestry(CURL).processes
    assert first == replace(first, parent=SHELL, comm="curl", exe="/bin/curl", exited=True)
    assert len(rest) == 2
