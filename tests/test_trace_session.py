"""A whole trace without a kernel: what becomes of events, whose they are, and the ledger at the end."""

from __future__ import annotations

from trace_bytes import CURL, ID, NOBODY, NUMBERS, SECOND, WEB, Host, ends, event, flow, packed, process, task

from xdpguard.trace.model import Person

PATH = f"/system.slice/docker-{ID}.scope"


def shell(host: Host) -> None:
    host.processes.seed([process(1, 0, 0, "systemd"), process(10, 1, 1, "bash")])


# ---- whose it is ------------------------------------------------------------------------------------------
def test_a_connection_is_its_process_s_with_its_names_and_ancestry() -> None:
    host = Host()
    shell(host)
    (found,) = host.records(
        [task("FORK", comm=b"bash"), task("EXEC", path=b"/usr/bin/curl"), event("CONNECT", handshake_ns=7)]
    )
    assert found.process == Person(4242, 4243, "resolver", "/usr/bin/curl", 1000, "alice", 100, "users")
    assert [(one.pid, one.comm, one.path) for one in found.ancestors] == [
        (10, "bash", "/usr/bin/bash"),
        (1, "systemd", "/usr/bin/systemd"),
    ]
    assert (found.attribution, found.interface, found.event.handshake_ns) == ("exact", "eth0", 7)
    assert found.wall == 1_700_000_000 + 100


def test_the_user_s_name_is_looked_up_by_the_uid_and_not_by_the_pid() -> None:
    host = Host()
    (found,) = host.records([event("CONNECT", owner=CURL | {"pid": 1000, "uid": 7})])
    assert found.process is not None
    assert (found.process.uid, found.process.user) == (7, None)


def test_a_close_without_an_owner_is_unknown_though_its_bytes_name_a_bystander() -> None:
    host = Host()
    host.proc[4242] = process(4242, 5, comm="bystander")
    for kind in ("CLOSE", "RETRANSMIT"):
        (found,) = host.records([event(kind, owner=NOBODY)])
        assert (found.attribution, found.process, found.ancestors) == ("unknown", None, ())


def test_a_close_long_after_the_exit_has_its_process_and_its_ancestry() -> None:
    host = Host()
    shell(host)
    start = [task("FORK", 1), task("EXEC", 2, path=b"/usr/bin/curl"), event("CONNECT", 3), task("EXIT", 4)]
    host.proc[4242] = process(4242, 99, comm="newcomer")
    *_, closed = host.records([*start, event("CLOSE", 60 * SECOND)])
    assert closed.process is not None
    assert closed.process.path == "/usr/bin/curl"
    assert [one.pid for one in closed.ancestors] == [10, 1]


def test_two_threads_that_connect_at_once_keep_their_own_events() -> None:
    host = Host()
    raw = [event("CONNECT", sock=number, owner=CURL | {"tid": number}) for number in (7, 8)]
    assert [(one.event.sock, one.process and one.process.tid) for one in host.records(raw)] == [
        (7, 7),
        (8, 8),
    ]


def test_a_kernel_socket_has_no_process() -> None:
    (found,) = Host().records([event("CONNECT", owner={"attribution": NUMBERS["XG_BY_KERNEL"]})])
    assert (found.attribution, found.process) == ("kernel", None)


def test_a_late_owner_is_told_as_late() -> None:
    (found,) = Host().records([event("CLOSE", owner=CURL | {"attribution": NUMBERS["XG_BY_LATE"]})])
    assert found.attribution == "late"
    assert found.process is not None


def test_an_accept_s_local_side_is_the_server_s() -> None:
    server = ends("127.0.0.1", 8086, "127.0.0.1", 51176)
    (found,) = Host().records([event("ACCEPT", tuple=server, incoming=1)])
    assert (found.event.tuple.local_port, found.event.tuple.remote_port) == (8086, 51176)


def test_a_connection_older_than_the_tracing_is_its_holder_s_by_procfs() -> None:
    host = Host()
    host.seed()
    retransmit, close, again = host.records(
        [
            event("RETRANSMIT", 1, owner=NOBODY),
            event("CLOSE", 2, owner=NOBODY),
            event("CLOSE", 3, owner=NOBODY),
        ]
    )
    assert (retransmit.attribution, close.attribution) == ("procfs", "procfs")
    assert close.process == Person(500, None, "nginx", None, 0, None, 0, None)  # which thread is not known
    assert again.attribution == "unknown"  # the next connection with these ends is another one


def test_a_new_connection_is_never_its_predecessor_s() -> None:
    host = Host()
    host.seed()
    first, second = host.records([event("CONNECT", 1), event("CLOSE", 2, owner=NOBODY)])
    assert (first.attribution, second.attribution) == ("exact", "unknown")


def test_what_the_kernel_captured_comes_before_what_proc_showed() -> None:
    host = Host()
    host.seed()
    (found,) = host.records([event("RETRANSMIT")])
    assert found.process is not None
    assert (found.attribution, found.process.pid) == ("exact", 4242)


def test_a_container_that_is_gone_when_its_event_s_turn_comes_is_known() -> None:
    host = Host()
    host.container(PATH)
    assert host.session.feed([event("CONNECT", host.now)]) == []
    host.paths.clear()
    host.containers.clear()
    host.now += SECOND
    (found,) = host.session.feed([])
    assert found.cgroup_path == PATH
    assert found.container is not None
    assert found.container.name == "web"


def test_a_process_of_many_events_is_described_by_the_same_objects() -> None:
    host = Host()
    shell(host)
    first, second = host.records([event("CONNECT", 1), event("CLOSE", 2)])
    assert first.process is second.process
    assert first.ancestors is second.ancestors


def test_a_process_that_executes_another_program_is_that_from_then_on() -> None:
    host = Host()
    raw = [event("CONNECT", 1), task("EXEC", 2, path=b"/usr/bin/wget"), event("CLOSE", 3)]
    assert [one.process and one.process.path for one in host.records(raw)] == [None, "/usr/bin/wget"]


def test_an_interface_is_looked_up_in_the_socket_s_namespace() -> None:
    host = Host()
    host.interfaces[(9, 2)] = "veth0"
    first, second = host.records([event("CONNECT", 1), event("CONNECT", 2, tuple=WEB | {"netns": 9})])
    assert (first.interface, second.interface) == ("eth0", "veth0")


# ---- order and time ---------------------------------------------------------------------------------------
def test_events_of_several_cpus_come_out_in_order() -> None:
    host = Host()
    late = [event("CLOSE", 5), event("CONNECT", 3), event("RETRANSMIT", 4)]
    assert [one.event.kind for one in host.records(late)] == ["connect", "retransmit", "close"]


def test_an_exec_that_was_read_after_its_connection_still_names_it() -> None:
    host = Host()
    shell(host)
    (found,) = host.records(
        [event("CONNECT", 30), task("EXEC", 20, path=b"/usr/bin/curl"), task("FORK", 10, comm=b"bash")]
    )
    assert found.process is not None
    assert found.process.path == "/usr/bin/curl"
    assert [one.pid for one in found.ancestors] == [10, 1]


def test_time_alone_brings_an_event_out() -> None:
    host = Host()
    assert host.session.feed([event("CLOSE", host.now)]) == []
    host.now += SECOND // 2
    assert len(host.session.feed([])) == 1


def test_a_backlog_is_put_in_order_by_its_own_time() -> None:
    host = Host()
    # The clock is far ahead of what is read: the rest of the ring may still hold older events.
    assert host.session.feed([event("CLOSE", 50 * SECOND)]) == []
    first, second = host.session.feed([event("CONNECT", 49 * SECOND), event("CLOSE", 60 * SECOND)])
    assert (first.event.time, second.event.time) == (49 * SECOND, 50 * SECOND)
    assert host.session.late == 0


# ---- UDP --------------------------------------------------------------------------------------------------
def test_udp_has_one_record_for_each_peer_with_process_bytes_and_packets() -> None:
    host = Host()
    peers = [packed("203.0.113.1"), packed("203.0.113.2")]
    host.session.feed_flows(flow("UDP_RECV", 2, 200, remote=peer) for peer in peers)
    found = host.session.finish()
    assert [str(one.event.tuple.remote) for one in found] == ["203.0.113.1", "203.0.113.2"]
    assert [one.event.counts and one.event.counts.bytes_received for one in found] == [200, 200]
    assert [one.process and one.process.pid for one in found] == [4242, 4242]


def test_a_flow_waits_for_the_fork_and_exec_of_its_process() -> None:
    host = Host()
    shell(host)
    host.session.feed([task("EXEC", host.now - 1, path=b"/usr/bin/dig")])
    host.session.feed_flows([flow("UDP_SEND", 1, 40, last=host.now - SECOND)])
    host.session.feed([task("FORK", host.now - 2)])
    (found,) = host.session.finish()
    assert found.process is not None
    assert found.process.path == "/usr/bin/dig"
