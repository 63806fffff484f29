"""What a trace wants, and what became of every event: the ledger adds up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from trace_bytes import CURL, ID, NETNS, NOBODY, NUMBERS, SECOND, WEB, Host, event, flow, task

from xdpguard.trace.ledger import adds_up
from xdpguard.trace.model import Filter

PATH = f"/system.slice/docker-{ID}.scope"


# ---- what is wanted, and what became of everything -----------------------------------------------------
def test_the_default_filter_gives_every_kind() -> None:
    kinds = ("CONNECT", "CONNECT_FAILED", "ACCEPT", "CLOSE", "RETRANSMIT", "LISTEN")
    host = Host()
    host.session.feed_flows([flow("UDP_SEND", 1, 1), flow("UDP_RECV", 1, 1)])
    assert len({one.event.kind for one in host.records(map(event, kinds))}) == 8


def test_an_unknown_owner_is_filtered_and_counted_in_user_space() -> None:
    host = Host(Filter(pids=frozenset({500})))
    host.seed()
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
