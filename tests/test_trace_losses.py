"""Task events that were lost: no process is called by a program or a user that it has left."""

from __future__ import annotations

from typing import Any

from trace_bytes import CURL, SECOND, Host, event, process, task

from xdpguard.identity.process import Process
from xdpguard.trace import decode
from xdpguard.trace.model import Person, ProcessKey, TaskEvent
from xdpguard.trace.processes import Processes

CHILD, SHELL = ProcessKey(4242, 5 * SECOND), ProcessKey(10, SECOND)
LOST = 100 * SECOND  # when that was found out


def told(kind: str, time: int, **fields: Any) -> TaskEvent:
    found = decode.record(task(kind, time, **fields))
    assert isinstance(found, TaskEvent)
    return found


class Table:
    """A shell (pid 10) and its child (4242), which was seen to be forked; then events were lost."""

    def __init__(self) -> None:
        self.now = LOST
        self.proc = {one.pid: one for one in (process(1, 0, 0, "init"), process(10, 1, 1, "bash"))}
        self.processes = Processes(lambda pid: self.proc.get(pid), clock=lambda: self.now)
        self.processes.seed(self.proc.values())
        self.processes.apply(told("FORK", LOST - 9, comm=b"bash"))
        self.proc[4242] = process(4242, 5, 10, "bash")
        self.processes.doubt()
        self.now += SECOND

    def is_now(self, comm: str, **fields: Any) -> None:
        """The child executes a program, of which no event tells."""
        self.proc[4242] = process(4242, 5, 10, comm, **fields)

    def path(self, time: int) -> str | None:
        return self.processes.lineage(CHILD, time)[0].exe


def test_without_a_loss_a_child_that_executes_nothing_is_its_parent_s_program() -> None:
    host = Table()
    fresh = Processes(lambda pid: None)
    fresh.seed(host.proc.values())
    fresh.apply(told("FORK", 1, pid=77, start_time=6 * SECOND, comm=b"bash"))
    assert fresh.lineage(ProcessKey(77, 6 * SECOND))[0].exe == "/usr/bin/bash"


def test_a_child_whose_exec_was_lost_is_unknown_until_proc_was_asked_and_then_what_it_says() -> None:
    host = Table()
    host.is_now("curl")
    assert host.path(LOST - 5) is None
    assert host.path(host.now) == "/usr/bin/curl"
    assert host.path(host.now - 1) is None


def test_a_child_whose_exec_was_lost_and_that_is_gone_has_no_program() -> None:
    host = Table()
    del host.proc[4242]
    assert (host.path(LOST - 5), host.path(host.now + SECOND)) == (None, None)
    assert host.processes.lineage(CHILD)[0].exe is None


def test_a_process_that_took_the_number_does_not_answer_for_it() -> None:
    host = Table()
    host.proc[4242] = process(4242, 99, 10, "bash")
    assert host.path(host.now + SECOND) is None


def test_a_process_that_is_ending_and_shows_no_program_has_none() -> None:
    host = Table()
    host.proc[4242] = Process(4242, 4242, "curl", None, 0, 0, 10, 500, None, None)
    assert host.path(host.now + SECOND) is None


def test_what_proc_confirms_was_true_all_the_time() -> None:
    assert Table().path(LOST - 5) == "/usr/bin/bash"


def test_who_forked_whom_stays_true_and_what_an_ancestor_is_does_not() -> None:
    host = Table()
    host.proc[10] = process(10, 1, 1, "zsh")
    lineage = host.processes.lineage(CHILD, LOST - 5)
    assert [(one.key.pid, one.comm, one.exe, one.uid) for one in lineage] == [
        (4242, "bash", "/usr/bin/bash", 1000),
        (10, None, None, None),
        (1, "init", "/usr/bin/init", 1000),
    ]


def test_an_exec_after_the_loss_is_certain_without_proc() -> None:
    host = Table()
    del host.proc[4242]
    host.processes.apply(told("EXEC", LOST + 1, path=b"/usr/bin/wget"))
    assert host.path(LOST + 2) == "/usr/bin/wget"


def test_an_exec_from_before_the_loss_was_found_out_may_not_have_been_the_last() -> None:
    host = Table()
    host.is_now("curl")
    host.processes.apply(told("EXEC", LOST - 1, path=b"/usr/bin/env", comm=b"env"))
    assert host.path(LOST) is None


def test_proc_was_asked_before_such_an_exec_was_applied_and_is_asked_again() -> None:
    host = Table()
    host.is_now("curl")
    assert host.path(host.now) == "/usr/bin/curl"
    host.processes.apply(told("EXEC", LOST - 1, path=b"/usr/bin/env", comm=b"env"))
    host.now += SECOND
    assert host.path(host.now) == "/usr/bin/curl"


def test_a_fork_after_the_loss_inherits_no_program_that_its_parent_may_have_left() -> None:
    host = Table()
    host.is_now("curl")
    grandchild = ProcessKey(77, 120 * SECOND)
    told_later = told(
        "FORK", LOST + 1, pid=77, start_time=grandchild.start_time, parent=4242, parent_start_time=5 * SECOND
    )
    host.processes.apply(told_later)
    assert host.processes.lineage(grandchild, host.now + SECOND)[0].exe is None


def test_a_fork_after_the_loss_inherits_what_proc_confirms() -> None:
    host = Table()
    grandchild = ProcessKey(77, 120 * SECOND)
    host.processes.apply(told("FORK", LOST + 1, pid=77, start_time=120 * SECOND))
    assert host.processes.lineage(grandchild, LOST + 2)[0].exe == "/usr/bin/bash"


def test_a_second_loss_makes_everything_doubtful_again() -> None:
    host = Table()
    assert host.path(LOST) == "/usr/bin/bash"
    host.processes.doubt()
    host.is_now("curl")
    assert host.path(LOST) is None


def test_all_of_proc_tells_who_has_ended_unheard() -> None:
    host = Table()
    del host.proc[4242]
    host.processes.seed(host.proc.values(), began=10_000)
    assert host.processes.lineage(CHILD)[0].exited
    assert not host.processes.stale


def test_proc_does_not_overwrite_what_events_told_and_nobody_doubts() -> None:
    processes = Processes(lambda pid: None)
    processes.apply(told("FORK", 1))
    processes.apply(told("EXEC", 2, path=b"/opt/script.sh", comm=b"script.sh"))
    processes.seed([process(4242, 5, 10, "python3")])
    assert processes.lineage(CHILD)[0].exe == "/opt/script.sh"


def test_a_connection_after_a_lost_exec_is_not_its_parent_s_program_s() -> None:
    host = Host()
    host.processes.seed([process(1, 0, 0, "systemd"), process(10, 1, 1, "bash")])
    host.proc[4242] = process(4242, 5, 10, "curl")
    forked = task("FORK", host.now, comm=b"bash")
    records = host.session.feed([forked, event("CONNECT", host.now + 1, owner=CURL)], lost_tasks=1)
    records += host.session.finish()
    (found,) = records
    assert found.attribution == "exact"
    assert found.process == Person(4242, 4243, "resolver", None, 1000, "alice", 100, "users")


def test_what_was_said_of_a_process_before_a_loss_is_asked_again() -> None:
    host = Host()
    host.processes.seed([process(1, 0, 0, "systemd"), process(10, 1, 1, "bash")])
    told_before = [task("FORK", 1, comm=b"bash"), event("CONNECT", 2), event("CLOSE", SECOND)]
    (connected,) = host.session.feed(told_before)
    (closed,) = host.session.feed([], lost_tasks=1)
    paths = [one.process and one.process.path for one in (connected, closed)]
    assert paths == ["/usr/bin/bash", None]
