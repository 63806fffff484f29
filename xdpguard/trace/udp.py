"""UDP: what the flow table counted since the last look -> one event per (socket, peer, direction). Pure."""

from __future__ import annotations

from collections.abc import Iterable

from xdpguard.trace import decode
from xdpguard.trace.model import Counts, Event

_Before = tuple[int, Counts]  # when the counters began, and what they had reached


class Flows:
    """Right for a table that is emptied by each look, and for one whose counters go on.

    Counters that go on have the ``first`` they had; with another ``first`` the row was made anew (emptied, or
    evicted and back) and all it holds is new. ``malformed``: rows that are no flow.
    """

    def __init__(self) -> None:
        self.malformed = 0
        self._before: dict[bytes, _Before] = {}

    def take(self, rows: Iterable[tuple[bytes, bytes]]) -> list[Event]:
        """``rows``: (struct xg_flow_key, struct xg_flow). Oldest first; none for a flow that stood still."""
        now: dict[bytes, _Before] = {}
        events: dict[bytes, Event] = {}
        for key, value in rows:
            event = decode.flow(key, value)
            if event is None or event.counts is None:
                self.malformed += 1
                continue
            began = decode.first(value)
            past = now.get(key) or self._before.get(key)
            counts = _since(event.counts, past[1]) if past and past[0] == began else event.counts
            now[key] = began, event.counts
            if not any((counts.packets_sent, counts.packets_received)):
                continue
            again = events.get(key)  # twice in one look: evicted and back meanwhile
            events[key] = event._replace(counts=_sum(again.counts, counts) if again else counts)
        self._before = now  # a flow that is no longer in the table began anew if it comes back
        return sorted(events.values(), key=lambda event: event.time)


def datagrams(event: Event) -> int:
    """How many an event of the flow table stands for."""
    return event.counts.packets_sent + event.counts.packets_received if event.counts else 0


def _since(counts: Counts, before: Counts) -> Counts:
    """Counters that went backwards were made anew within one nanosecond's name: all of them is new."""
    sent = counts.packets_sent - before.packets_sent
    received = counts.packets_received - before.packets_received
    bytes_sent = counts.bytes_sent - before.bytes_sent
    bytes_received = counts.bytes_received - before.bytes_received
    if min(sent, received, bytes_sent, bytes_received) < 0:
        return counts
    return Counts(bytes_sent, bytes_received, sent, received)


def _sum(one: Counts | None, other: Counts) -> Counts:
    if one is None:
        return other
    return Counts(
        one.bytes_sent + other.bytes_sent,
        one.bytes_received + other.bytes_received,
        one.packets_sent + other.packets_sent,
        one.packets_received + other.packets_received,
    )
