"""What several CPUs told, put in the order of its time. Pure: the clock is the caller's."""

from __future__ import annotations

from bisect import bisect_left
from typing import Generic, TypeVar

T = TypeVar("T")

WINDOW = 100_000_000
"""ns that something may come after what is younger than it."""


class Order(Generic[T]):
    """Nothing is dropped: what comes too late leaves with the next batch, out of order, and is counted."""

    def __init__(self, window: int = WINDOW) -> None:
        self.late = 0
        self._window = window
        self._waiting: list[tuple[int, int, T]] = []
        self._number = 0  # of what came so far: equal times leave as they came
        self._passed = -1  # the youngest time that has left

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, time: int, item: T) -> None:
        self._number += 1
        if time < self._passed:
            self.late += 1
        self._waiting.append((time, self._number, item))

    def flush(self, now: int) -> list[T]:
        """Those older than the window, oldest first. ``now``: ns, the clock of the times."""
        self._waiting.sort()
        return self._leave(bisect_left(self._waiting, (now - self._window + 1,)))

    def drain(self) -> list[T]:
        """Everything that waits, also what claims to come from the future."""
        self._waiting.sort()
        return self._leave(len(self._waiting))

    def _leave(self, count: int) -> list[T]:
        if not count:
            return []
        leaving, self._waiting = self._waiting[:count], self._waiting[count:]
        self._passed = max(self._passed, leaving[-1][0])
        return [item for _, _, item in leaving]
