"""A trace from one reading of the kernel to the next: bytes in, records out, every event accounted for. Pure.

The caller feeds it what it polls, also when that is nothing, and the flow table once a second; passes each
of ``decisions`` on to the kernel; at the end feeds what is left, then asks ``finish`` and ``ledger``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from xdpguard.trace import decode
from xdpguard.trace.attribute import Attributor
from xdpguard.trace.decode import KINDS, TASKS
from xdpguard.trace.ledger import Ledger, Tally, balance
from xdpguard.trace.model import Event, Record, TaskEvent
from xdpguard.trace.order import WINDOW, Order
from xdpguard.trace.processes import Processes
from xdpguard.trace.selection import Selection
from xdpguard.trace.udp import Flows, datagrams
from xdpguard.trace.wanted import Wanted

_SECOND = 1_000_000_000
_ALL = {**KINDS, **TASKS}


class Session:
    """``clock``: ns, CLOCK_BOOTTIME, as in the events; ``wall``: seconds since the epoch.

    ``limit``: records wanted at all (--count). What comes after them is filtered, like everything unwanted.
    """

    def __init__(
        self,
        attributor: Attributor,
        processes: Processes,
        wanted: Wanted,
        clock: Callable[[], int],
        wall: Callable[[], float],
        *,
        limit: int | None = None,
        window: int = WINDOW,
    ) -> None:
        self._attributor, self._processes, self._wanted = attributor, processes, wanted
        self._selection = Selection(wanted, attributor.cgroups)
        self._clock, self._wall = clock, wall
        self._left = limit
        self._order: Order[Event | TaskEvent] = Order(window)
        self._flows = Flows()
        self._lost_tasks = 0
        self._tallies: dict[str, Tally] = {kind: Tally() for kind in _ALL.values()}

    @property
    def late(self) -> int:
        """Events that left out of order: they came later than the window allows."""
        return self._order.late

    @property
    def complete(self) -> bool:
        """As many records as wanted were given."""
        return self._left == 0

    def feed(self, raw: Sequence[bytes], lost_tasks: int = 0) -> list[Record]:
        """What ``Tracing.poll`` gave, also when that is nothing: time passes. Records whose turn has come.

        ``lost_tasks``: forks, execs and exits lost so far, as read after ``raw``.
        """
        self._begin()
        if lost_tasks != self._lost_tasks:
            self._lost_tasks = lost_tasks
            self._processes.doubt()
        newest, tallies = 0, self._tallies
        for data in raw:
            item = decode.record(data)
            if item is None:
                self._malformed(data)
                continue
            time = item.time
            if time > newest:
                newest = time
            tallies[item.kind].received += 1
            self._order.add(time, self._noticed(item))
        # There may be more in the ring than was read: what is not read yet must not come too late.
        now = self._attributor.now
        return self._emit(self._order.flush(min(newest, now) if raw else now))

    def feed_flows(self, rows: Iterable[tuple[bytes, bytes]]) -> None:
        """What ``Tracing.flows`` gave. Their records come with later feeds, after the tasks of that time."""
        self._begin()
        for event in self._flows.take(rows):
            self._tallies[event.kind].received += datagrams(event)
            self._order.add(self._attributor.now, self._noticed(event))

    def finish(self) -> list[Record]:
        """All that still waits for its turn. Nothing more is fed afterwards."""
        self._begin()
        return self._emit(self._order.drain())

    def survey(self, cgroups: Iterable[tuple[int, str]]) -> None:
        """(id, path) of every cgroup that is there, so that --container selects what already runs."""
        self._begin()
        self._selection.survey(cgroups, self._attributor.now)

    def decisions(self) -> list[tuple[int, bool]]:
        """(cgroup id, wanted) since the last call, for ``Tracing.select_cgroup``; each once."""
        return self._selection.news()

    def ledger(self, kernel: Mapping[int, Sequence[int]], final: bool = False) -> Ledger:
        """``kernel``: ``Tracing.ledger``. With ``final``, after ``finish``."""
        return balance(kernel, self._tallies, final)

    def _begin(self) -> None:
        now = self._clock()
        self._attributor.now = now
        self._attributor.epoch = round(self._wall() * _SECOND) - now

    def _malformed(self, data: bytes) -> None:
        """Bytes of no kind at all stay what the kernel has emitted and nobody has read."""
        kind = _ALL.get(decode.number(data)) if len(data) >= 4 else None
        if kind is not None:
            self._tallies[kind].received += 1
            self._tallies[kind].malformed += 1

    def _noticed(self, item: Event | TaskEvent) -> Event | TaskEvent:
        """Look at once at what may be gone when its turn comes."""
        if isinstance(item, TaskEvent):
            noticed = self._attributor.executed(item) if item.kind == "exec" else item
            self._selection.decide(item.process, item.cgroup, self._attributor.now)
            return noticed
        owner = item.owner
        if owner is not None and owner.attribution != "kernel":
            self._attributor.meet(owner)
            self._selection.decide(owner.process, owner.cgroup, self._attributor.now)
        return item

    def _emit(self, items: Iterable[Event | TaskEvent]) -> list[Record]:
        records: list[Record] = []
        for item in items:
            tally = self._tallies[item.kind]
            if isinstance(item, TaskEvent):
                self._processes.apply(item)
                tally.emitted += 1
                continue
            count = datagrams(item) if item.kind in ("udp-send", "udp-recv") else 1
            record = self._attributor.record(item)
            if self._left == 0 or not self._wanted.matches(record):
                tally.filtered += count
                continue
            tally.emitted += count
            if record.attribution == "unknown":
                tally.unknown += count
            if self._left is not None:
                self._left -= 1
            records.append(record)
        return records
