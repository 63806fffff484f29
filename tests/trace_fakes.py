"""A trace that runs without a kernel: batches of records, then an end."""

from __future__ import annotations

import os
import signal
from collections.abc import Sequence
from types import ModuleType, TracebackType

from trace_samples import LEDGER, SAMPLES

from xdpguard.kernel.tracing import Cost, ProgramCost
from xdpguard.trace.model import Filter, KindLedger, Record


class FakeLive:
    """``batches``: what each read gives, None for a Ctrl-C meanwhile; after them Ctrl-C comes."""

    made: list[FakeLive]

    def __init__(self, wanted: Filter, *, limit: int | None = None, names: bool = True) -> None:
        self.wanted, self.limit, self.names = wanted, limit, names
        self.sources = {
            "connect": "kprobe tcp_v4_connect, kretprobe tcp_v4_connect",
            "close": "raw tracepoint inet_sock_set_state",
        }
        self.missing: tuple[str, ...] = ()
        self.notes: tuple[str, ...] = ()
        self.late = 0
        self.closed = False
        self.finished = False
        self.waited: list[float] = []
        self.batches: list[Sequence[Record] | None] = [SAMPLES[:2], [], SAMPLES[2:4]]
        self.remaining: list[Record] = []
        self.given = 0
        self.books: dict[str, KindLedger] = LEDGER
        type(self).made.append(self)

    def __enter__(self) -> FakeLive:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closed = True

    @property
    def complete(self) -> bool:
        return self.limit is not None and self.given >= self.limit

    def read(self, timeout: float) -> list[Record]:
        self.waited.append(timeout)
        batch = self.batches.pop(0) if self.batches else None
        if batch is None:
            os.kill(os.getpid(), signal.SIGINT)
            return []
        room = len(batch) if self.limit is None else self.limit - self.given
        self.given += len(batch[:room])
        return list(batch[:room])

    def finish(self) -> tuple[list[Record], dict[str, KindLedger]]:
        self.finished = True
        return self.remaining, self.books

    def cost(self) -> Cost:
        return Cost((ProgramCost("connect", 0.5, 1_000_000, 0),), 9_000_000)


def fake_live(**changes: object) -> type[FakeLive]:
    """A class whose objects differ from the usual one by these attributes."""

    class Changed(FakeLive):
        made: list[FakeLive] = []  # noqa: RUF012 (one list per class is the point)

        def __init__(self, wanted: Filter, *, limit: int | None = None, names: bool = True) -> None:
            super().__init__(wanted, limit=limit, names=names)
            for name, value in changes.items():
                setattr(self, name, value)

    return Changed


def module(live: type[FakeLive]) -> ModuleType:
    """In the place of xdpguard.trace.live."""
    found = ModuleType("xdpguard.trace.live")
    found.Live = live  # type: ignore[attr-defined]
    return found
