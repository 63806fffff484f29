"""A whole trace without a kernel: what becomes of events, whose they are, and the ledger at the end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from trace_bytes import CURL, ID, NETNS, NUMBERS, SECOND, WEB, Host, ends, event, flow, packed, process, task

from xdpguard.trace.ledger import adds_up
from xdpguard.trace.model import Filter, Owner, Person, ProcessKey, Tuple
from xdpguard.trace.seeds import SeededSocket

NOBODY = CURL | {"attribution": 0}
PATH = f"/system.slice/docker-{ID}.scope"


def shell(host: Host) -> None:
    host.processes.seed([process(1, 0, 0, "systemd"), process(10, 1, 1, "bash")])


def seed(host: Host, where: Tuple, pid: int = 500) -> None:
    owner = Owner(ProcessKey(pid, 3 * SECOND), pid, 0, 0, None, "nginx", "procfs")
    host.known.add([SeededSocket(where.netns, 1, where.protocol, where, 9, owner, "ESTABLISHED")])


def where(local: str, port: int, remote: str | None, peer: int | None) -> Tuple:
    from trace_samples import ends as decoded

    return decoded(local, port, remote, peer)


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
    seed(host, where("192.0.2.1", 40000, "198.51.100.7", 443))
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
    seed(host, where("192.0.2.1", 40000, "198.51.100.7", 443))
    first, second = host.records([event("CONNECT", 1), event("CLOSE", 2, owner=NOBODY)])
    assert (first.attribution, second.attribution) == ("exact", "unknown")


def test_what_the_kernel_captured_comes_before_what_proc_showed() -> None:
    host = Host()
    seed(host, where("192.0.2.1", 40000, "198.51.100.7", 443))
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


# ---- what is wanted, and what became of everything -----------------------------------------------------
def test_the_default_filter_gives_every_kind() -> None:
    kinds = ("CONNECT", "CONNECT_FAILED", "ACCEPT", "CLOSE", "RETRANSMIT", "LISTEN")
    host = Host()
    host.session.feed_flows([flow("UDP_SEND", 1, 1), flow("UDP_RECV", 1, 1)])
    assert len({one.event.kind for one in host.records(map(event, kinds))}) == 8


def test_an_unknown_owner_is_filtered_and_counted_in_user_space() -> None:
    host = Host(Filter(pids=frozenset({500})))
    seed(host, where("192.0.2.1", 40000, "198.51.100.7", 443))
    raw = [event("CLOSE", 1, owner=NOBODY), event("CLOSE", 2, owner=NOBODY)]
    assert [one.attribution for one in host.records(raw)] == ["procfs"]
    kernel = {NUMBERS["XG_EV_CLOSE"]: (5, 2, 3, 0, 0, 2)}
    total = host.session.ledger(kernel, final=True).total
    assert (total.seen, total.emitted, total.filtered, total.unknown, total.lost) == (5, 1, 4, 0, {})


def test_unknown_owners_are_counted_among_the_emitted() -> None:
    host = Host()
    host.records([event("CLOSE", 1, owner=NOBODY), event("CLOSE", 2)])
    assert host.session.ledger({}, final=True).kinds["close"].unknown == 1


def test_udp_is_booked_by_datagrams() -> None:
    host = Host()
    host.session.feed_flows([flow("UDP_SEND", 3, 300), flow("UDP_SEND", 4, 400, sock=128)])
    assert len(host.session.finish()) == 2
    ledger = host.session.ledger({NUMBERS["XG_EV_UDP_SEND"]: (9, 7, 0, 0, 2, 0)}, final=True)
    assert (ledger.total.seen, ledger.total.emitted, ledger.total.lost) == (9, 7, {"map": 2})


def test_records_past_the_limit_are_filtered() -> None:
    host = Host(limit=2)
    assert len(host.records(event("CLOSE", number) for number in range(1, 6))) == 2
    assert host.session.complete
    total = host.session.ledger({}, final=True).total
    assert (total.seen, total.emitted, total.filtered) == (5, 2, 3)


def test_bytes_that_are_no_event_are_lost_and_not_silent() -> None:
    host = Host()
    close = event("CLOSE")
    assert host.records([close[:-1], close]) != []
    ledger = host.session.ledger({NUMBERS["XG_EV_CLOSE"]: (3, 3, 0, 0, 0, 0)}, final=True)
    assert ledger.total.lost == {"malformed": 1, "unread": 1}


def test_an_unwanted_container_is_rejected_as_soon_as_it_executes() -> None:
    host = Host(Filter(containers=frozenset({"other"})))
    host.container(PATH)
    host.session.feed([task("EXEC", host.now, path=b"/bin/sh")])
    assert host.session.decisions() == [(77, False)]


def test_of_what_runs_already_all_but_the_wanted_container_is_rejected_by_a_survey() -> None:
    host = Host(Filter(containers=frozenset({"web"})))
    host.container(PATH)
    host.session.survey([(5, "/user.slice"), (77, PATH)])
    assert host.session.decisions() == [(5, False)]
    assert [one.container and one.container.id for one in host.records([event("CLOSE")])] == [ID]


RAW = st.one_of(
    st.builds(
        lambda kind, time, attribution, port: event(
            kind, time, owner=CURL | {"attribution": attribution}, tuple=WEB | {"local_port": port}
        ),
        st.sampled_from(["CONNECT", "CONNECT_FAILED", "ACCEPT", "CLOSE", "RETRANSMIT", "LISTEN"]),
        st.integers(0, 300 * SECOND),
        st.integers(0, 5),
        st.integers(1, 3),
    ),
    st.builds(
        lambda kind, time, pid: task(kind, time, pid=pid, path=b"/bin/x"),
        st.sampled_from(["FORK", "EXEC", "EXIT"]),
        st.integers(0, 300 * SECOND),
        st.integers(1, 9),
    ),
    st.binary(max_size=8),
)
FILTERS = st.sampled_from([Filter(), Filter(ports=frozenset({2})), Filter(pids=frozenset({4242}))])


@given(st.lists(st.lists(RAW, max_size=6), max_size=6), FILTERS, st.none() | st.integers(0, 5))
def test_every_event_that_was_read_is_in_the_books_once(
    batches: list[list[bytes]], wanted: Filter, limit: int | None
) -> None:
    host = Host(wanted, limit=limit)
    records = []
    for batch in batches:
        records += host.session.feed(batch)
        host.now += SECOND // 20
        total = host.session.ledger({}).total
        assert adds_up(total)
        assert total.emitted == len(records)
    records += host.session.finish()
    total = host.session.ledger({}, final=True).total
    events = [one for batch in batches for one in batch if len(one) == len(event("CLOSE"))]
    assert adds_up(total)
    assert total.emitted == len(records)
    assert total.seen == len(events) + total.lost.get("malformed", 0)
    assert "unread" not in total.lost
    assert all(one.event.tuple.netns == NETNS for one in records)
