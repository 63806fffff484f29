"""The processes of a trace: lineages past their end, executables as executed, numbers used again."""

from __future__ import annotations

from typing import Any

from trace_bytes import SECOND, process, task

from xdpguard.identity.ancestry import Ancestry
from xdpguard.identity.process import Process
from xdpguard.trace import decode
from xdpguard.trace.model import ProcessKey, TaskEvent
from xdpguard.trace.processes import Processes

CURL, SHELL = ProcessKey(4242, 5 * SECOND), ProcessKey(10, SECOND)


def told(kind: str, **fields: Any) -> TaskEvent:
    found = decode.record(task(kind, **fields))
    assert isinstance(found, TaskEvent)
    return found


def table(*there: Process, bounds: Ancestry | None = None) -> Processes:
    """A host with an init (pid 1) and a shell (pid 10), and what else is in /proc."""
    seeded = [process(1, 0, 0, "systemd"), process(10, 1, 1, "bash", "/user.slice")]
    processes = Processes({one.pid: one for one in (*seeded, *there)}.get, bounds)
    processes.seed(seeded)
    return processes


def names(processes: Processes, key: ProcessKey) -> list[str | None]:
    return [one.comm for one in processes.lineage(key)]


def run(processes: Processes) -> None:
    processes.apply(told("FORK", comm=b"bash"))
    processes.apply(told("EXEC", path=b"/usr/bin/curl"))


def test_a_lineage_is_right_for_a_process_that_has_exited() -> None:
    processes = table()
    run(processes)
    processes.apply(told("EXIT"))
    processes.apply(told("EXIT", pid=10, start_time=SECOND, parent=1, parent_start_time=0))
    assert names(processes, CURL) == ["curl", "bash", "systemd"]
    assert processes.lineage(CURL)[0].exe == "/usr/bin/curl"


def test_a_seeded_process_is_found_by_the_kernel_s_exact_start_time() -> None:
    exact = ProcessKey(10, SECOND + 3_456_789)  # /proc knows whole clock ticks
    assert names(table(), exact) == ["bash", "systemd"]


def test_a_process_that_took_the_number_is_not_who_it_was() -> None:
    processes = table(process(4242, 99, comm="newcomer"))
    assert processes.lineage(CURL) == ()
    assert processes.cgroup(CURL) is None


def test_a_process_that_no_event_told_is_looked_for_with_its_parents() -> None:
    processes = table(process(4242, 5, 30, "curl"), process(30, 4, 10, "make"))
    assert names(processes, CURL) == ["curl", "make", "bash", "systemd"]


def test_a_parent_that_no_event_told_is_looked_for() -> None:
    processes = table(process(30, 4, 1, "make"))
    processes.apply(told("FORK", parent=30, parent_start_time=4 * SECOND))
    assert names(processes, CURL) == ["curl", "make", "systemd"]


def test_an_answer_is_outdated_when_an_ancestor_executes_and_not_when_a_stranger_does() -> None:
    processes = table()
    run(processes)
    assert names(processes, CURL) == ["curl", "bash", "systemd"]
    before = processes.version
    processes.apply(told("FORK", pid=77, start_time=9 * SECOND))
    processes.apply(told("EXEC", pid=77, start_time=9 * SECOND, path=b"/bin/true"))
    processes.apply(told("EXIT"))
    assert processes.version == before
    processes.apply(told("EXEC", pid=10, start_time=SECOND, comm=b"zsh", path=b"/bin/zsh"))
    assert processes.version > before
    assert names(processes, CURL) == ["curl", "zsh", "systemd"]


def test_an_answer_that_lacked_a_parent_is_outdated_when_its_fork_is_told() -> None:
    processes = table()
    processes.apply(told("EXEC", path=b"/usr/bin/curl"))
    assert names(processes, CURL) == ["curl"]
    before = processes.version
    processes.apply(told("FORK"))
    assert processes.version > before
    assert names(processes, CURL) == ["curl", "bash", "systemd"]


def test_an_answer_that_ended_early_is_outdated_when_its_end_s_parent_is_told() -> None:
    processes = table()
    processes.apply(told("FORK", parent=30, parent_start_time=4 * SECOND))
    assert names(processes, CURL) == ["curl"]
    before = processes.version
    processes.apply(told("FORK", pid=30, start_time=4 * SECOND, comm=b"make"))
    assert processes.version > before
    assert names(processes, CURL) == ["curl", "make", "bash", "systemd"]


def test_an_absolute_path_is_taken_as_it_was_executed() -> None:
    given = told("EXEC", path=b"/opt/script.sh")
    assert table(process(4242, 5, comm="python3")).noticed(given) == given


def test_a_relative_path_is_completed_while_its_process_is_there() -> None:
    given = told("EXEC", path=b"./curl")
    assert table(process(4242, 5, comm="curl")).noticed(given).path == "/usr/bin/curl"
    assert table(process(4242, 99, comm="newcomer")).noticed(given).path == "./curl"
    assert table().noticed(given).path == "./curl"


def test_a_path_that_only_the_process_itself_understands_is_completed_too() -> None:
    for path in (b"/proc/self/exe", b"/dev/fd/5"):
        given = told("EXEC", path=path)
        assert table(process(4242, 5, comm="busybox")).noticed(given).path == "/usr/bin/busybox"
        assert table().noticed(given).path == path.decode()


def test_a_process_that_executes_itself_and_is_gone_is_the_program_that_it_was() -> None:
    processes = table()
    processes.apply(told("EXEC", path=b"/bin/busybox"))
    processes.apply(told("EXEC", path=b"/proc/self/exe"))
    assert processes.lineage(CURL)[0].exe == "/bin/busybox"


def test_a_thread_is_not_its_own_parent() -> None:
    processes = table()
    processes.apply(told("FORK", parent=4242, parent_start_time=5 * SECOND))
    assert processes.lineage(CURL) == ()


def test_a_cgroup_path_stays_known_when_its_process_is_gone() -> None:
    processes = table()
    assert processes.cgroup(SHELL) == "/user.slice"
    assert processes.cgroup(SHELL, refresh=True) == "/user.slice"


def test_a_cgroup_path_is_read_again_on_request() -> None:
    there = {4242: process(4242, 5, cgroup="/before")}
    processes = Processes(there.get)
    assert processes.cgroup(CURL) == "/before"
    there[4242] = process(4242, 5, cgroup="/docker/after")
    assert processes.cgroup(CURL) == "/before"
    assert processes.cgroup(CURL, refresh=True) == "/docker/after"


def test_the_table_is_bounded_and_says_what_it_gave_up() -> None:
    processes = table(bounds=Ancestry(exited=2))
    for pid in range(100, 105):
        processes.apply(told("FORK", pid=pid))
        processes.apply(told("EXIT", pid=pid))
    assert processes.losses.evicted == 3
    assert len(processes) == 4
