"""UDP flows: what a look adds to the last one, for tables that are emptied and for counters that go on."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from trace_bytes import SECOND, flow, packed

from xdpguard.trace.model import Counts
from xdpguard.trace.udp import Flows, datagrams


def counts(flows: Flows, *rows: tuple[bytes, bytes]) -> list[Counts | None]:
    return [event.counts for event in flows.take(rows)]


def test_a_table_that_was_emptied_counts_from_zero() -> None:
    flows = Flows()
    assert counts(flows, flow("UDP_SEND", 5, 500, first=1)) == [Counts(500, 0, 5, 0)]
    assert counts(flows, flow("UDP_SEND", 7, 700, first=9)) == [Counts(700, 0, 7, 0)]


def test_counters_that_go_on_give_their_difference() -> None:
    flows = Flows()
    flows.take([flow("UDP_RECV", 5, 500, first=1)])
    assert counts(flows, flow("UDP_RECV", 7, 640, first=1)) == [Counts(0, 140, 0, 2)]


def test_a_flow_that_stood_still_makes_no_record() -> None:
    flows = Flows()
    flows.take([flow("UDP_SEND", 5, 500, first=1)])
    assert counts(flows, flow("UDP_SEND", 5, 500, first=1)) == []


def test_a_row_that_went_and_came_back_is_new() -> None:
    flows = Flows()
    flows.take([flow("UDP_SEND", 5, 500, first=1)])
    flows.take([])
    assert counts(flows, flow("UDP_SEND", 5, 500, first=1)) == [Counts(500, 0, 5, 0)]


def test_a_server_s_peers_directions_and_sockets_are_flows_of_their_own() -> None:
    rows = [
        flow("UDP_RECV", 1, 10, remote=packed("203.0.113.1"), last=1),
        flow("UDP_RECV", 2, 20, remote=packed("203.0.113.2"), last=2),
        flow("UDP_SEND", 3, 30, remote=packed("203.0.113.1"), last=3),
        flow("UDP_SEND", 4, 40, remote=packed("203.0.113.1"), last=4, sock=128),
    ]
    found = Flows().take(reversed(rows))
    assert [datagrams(event) for event in found] == [1, 2, 3, 4]


def test_a_row_that_is_no_flow_is_counted() -> None:
    flows = Flows()
    assert flows.take([(b"", b""), flow("CLOSE", 1, 1)]) == []
    assert flows.malformed == 2


LOOKS = st.lists(st.lists(st.integers(0, 9), min_size=3, max_size=3), max_size=8)


@given(LOOKS, st.booleans())
def test_all_datagrams_are_told_once(looks: list[list[int]], emptied: bool) -> None:
    flows, told = Flows(), 0
    totals = [0, 0, 0]
    for number, added in enumerate(looks):
        totals = [(0 if emptied else old) + new for old, new in zip(totals, added, strict=True)]
        rows = [
            flow("UDP_SEND", total, 0, first=SECOND + (number if emptied else 0), sock=sock)
            for sock, total in enumerate(totals)
        ]
        told += sum(datagrams(event) for event in flows.take(rows))
    assert told == sum(map(sum, looks))
