"""A trace of this host, running: the kernel's side, what was there before, and the session, put together.

Reads in the order that loses nothing: the programs first, then the sockets that were there before them; at
the end the kernel's books first, then what they count.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType

from xdpguard.identity.cgroupfs import CgroupPaths
from xdpguard.identity.files import Notes
from xdpguard.identity.process import everyone, ticks
from xdpguard.identity.resolver import Resolver
from xdpguard.kernel import namespaces
from xdpguard.kernel.tracing import RING_BYTES, Cost, KernelFilter, Tracing
from xdpguard.trace import existing
from xdpguard.trace.attribute import Attributor, Names
from xdpguard.trace.cgroups import Cgroups
from xdpguard.trace.known import KnownSockets
from xdpguard.trace.model import Filter, Kind, KindLedger, Record
from xdpguard.trace.owners import Keeping
from xdpguard.trace.processes import Processes, boot_time
from xdpguard.trace.session import Session
from xdpguard.trace.wanted import Wanted, kernel_fields

STEP = 0.1  # seconds: as long as the session waits for other CPUs
FLOWS = 1.0  # seconds between two readings of the UDP table
RESEEDED = 5.0  # seconds between two readings of all of /proc, after losses
RENAMED = 30.0  # seconds until the interfaces of a namespace are listed again
_HELD = 65536  # records: more than the ring holds, so that all that the books count is read
_UDP: frozenset[Kind] = frozenset({"udp-send", "udp-recv"})
"""With these and anything of TCP a trace knows whose every socket is: the probes of TCP go together."""
MISSED = "missed"
"""In the ledger's kinds: events that no program could look at, of whatever kind they were."""


class Live:
    """A context manager: attached when made. ``names``: whether to ask for the names of containers.

    ``ring_bytes``: of what the kernel holds until it is read; what finds no room is lost.
    """

    def __init__(
        self,
        wanted: Filter,
        *,
        limit: int | None = None,
        names: bool = True,
        ring_bytes: int = RING_BYTES,
    ) -> None:
        self._resolver = Resolver()
        self._notes: list[str] = []
        self._keeping = Keeping(wanted.kinds > _UDP or not wanted.kinds)
        try:
            self.tracing = Tracing(
                KernelFilter(*kernel_fields(wanted)), ring_bytes=ring_bytes, owners=self._keeping.map
            )
        except BaseException:
            self._keeping.close()
            raise
        if self._keeping.note:
            self._notes.append(self._keeping.note)
        try:
            self.session = self._begin(wanted, limit, names)
            self._decide()
        except BaseException:
            self.close()
            raise
        self._last_flows = time.monotonic()
        self._reseeding = float("-inf")  # not before: time.monotonic()

    def __enter__(self) -> Live:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self.tracing.close()
        self._keeping.close()

    @property
    def sources(self) -> dict[str, str]:
        """Event -> the probe that gives it."""
        return self.tracing.sources

    @property
    def missing(self) -> tuple[str, ...]:
        """What these probes do not give, a line each."""
        return self.tracing.missing

    @property
    def notes(self) -> tuple[str, ...]:
        """What could not be found out so far, a line each."""
        return (*self._notes, *self._resolver.notes)

    @property
    def late(self) -> int:
        """Records that left out of order."""
        return self.session.late

    @property
    def complete(self) -> bool:
        """As many records as were wanted were given."""
        return self.session.complete

    def read(self, timeout: float) -> list[Record]:
        """Records whose turn has come; waits at most ``timeout`` seconds for the first event."""
        if time.monotonic() - self._last_flows >= FLOWS:
            self._last_flows = time.monotonic()
            self.session.feed_flows(self.tracing.flows())
        raw = self.tracing.poll(min(timeout, STEP))
        records = self.session.feed(raw, self.tracing.lost_tasks())
        self._decide()
        self._reseed()
        return records

    def finish(self) -> tuple[list[Record], dict[str, KindLedger]]:
        """What is still under way, and what became of everything. Nothing is read afterwards.

        Events go on meanwhile: those that come after the kernel's books were read belong to no trace.
        """
        books, cost = self.tracing.ledger(), self.tracing.cost()
        self.session.feed_flows(self.tracing.flows())
        records: list[Record] = []
        taken = 0
        while taken < _HELD and (raw := self.tracing.poll(0)):
            taken += len(raw)
            records += self.session.feed(raw, self.tracing.lost_tasks())
        records += self.session.finish()
        ledger = dict(self.session.ledger(books, final=True).kinds)
        missed = sum(program.missed for program in cost.programs)
        if missed:
            ledger[MISSED] = KindLedger(seen=missed, lost={MISSED: missed})
        return records, ledger

    def cost(self) -> Cost:
        return self.tracing.cost()

    def _begin(self, wanted: Filter, limit: int | None, names: bool) -> Session:
        paths = self._cgroup_paths()
        processes = self._processes = Processes(self._resolver.process)
        cgroups = Cgroups(
            paths.path if paths is not None else lambda _: None,
            paths.lies_at if paths is not None else lambda *_: False,
            self._resolver.container if names else None,
            processes,
            ids_tell=paths is not None,
        )
        known = KnownSockets()
        found = existing.look(only=wanted.netns)
        processes.seed(found.processes)
        known.add(found.sockets)
        self._keeping.begin(found, everywhere=not wanted.netns)
        self._notes += found.notes
        called = Names(self._resolver.user, self._resolver.group, Interfaces(wanted.netns).name)
        attributor = Attributor(processes, known, cgroups, called)
        session = Session(
            attributor,
            processes,
            Wanted(wanted),
            lambda: time.clock_gettime_ns(time.CLOCK_BOOTTIME),
            time.time,
            limit=limit,
        )
        if wanted.containers and paths is not None:
            session.survey(paths.listed())
        return session

    def _reseed(self) -> None:
        """After task events were lost: who is there, and who has ended unheard. Costs a twentieth at most."""
        began = time.monotonic()
        if self._processes.stale and began >= self._reseeding:
            self._processes.seed(everyone(Path("/proc")), began=ticks(boot_time()))
            now = time.monotonic()
            self._reseeding = now + max(RESEEDED, 20 * (now - began))

    def _cgroup_paths(self) -> CgroupPaths | None:
        """The ids are of v2, else of one v1 hierarchy: they are looked up there. None: not mounted."""
        top = self.tracing.cgroup_root
        if top is None:
            return None
        return CgroupPaths(Path("/"), Notes(), time.monotonic, top=top)

    def _decide(self) -> None:
        for cgroup, wanted in self.session.decisions():
            self.tracing.select_cgroup(cgroup, wanted)


class Interfaces:
    """Names of interfaces by (netns inode, ifindex). One tour of the namespaces lists them all."""

    def __init__(
        self,
        only: Collection[int] = (),
        listed: Callable[[], list[tuple[int, str]]] = socket.if_nameindex,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._only, self._listed, self._clock = only, listed, clock
        self._names: dict[tuple[int, int], str] = {}
        self._due = float("-inf")  # when what is known is asked for again
        self._again = float("-inf")  # when what is not known may be asked for

    def name(self, netns: int, ifindex: int) -> str | None:
        now = self._clock()
        found = self._names.get((netns, ifindex))
        if now >= self._due or (found is None and now >= self._again):
            self._due, self._again = now + RENAMED, now + 1.0
            visit = namespaces.each(self._listed, self._only)
            self._names = {
                (inode, index): name for inode, names in visit.results.items() for index, name in names
            }
            found = self._names.get((netns, ifindex))
        return found
