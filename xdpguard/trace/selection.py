"""--container in the kernel: which cgroup ids are not wanted, told as the cgroups appear. Pure.

What must never break: a wanted container's first connection is not missed. So the kernel lets pass what a
cgroup does that nobody has judged yet, and user space filters that; from then on an unwanted one is rejected.
"""

from __future__ import annotations

from collections.abc import Iterable

from xdpguard.abi import abi
from xdpguard.trace.cgroups import Cgroups
from xdpguard.trace.model import ProcessKey
from xdpguard.trace.wanted import Wanted

SIZE = abi().numbers["XG_MAX_CGROUPS"]


class Selection:
    """``size``: cgroups rejected at a time; the one rejected first passes again, to be judged anew."""

    def __init__(self, wanted: Wanted, cgroups: Cgroups, size: int = SIZE) -> None:
        self._wanted, self._cgroups, self._size = wanted, cgroups, size
        self._active = bool(wanted.filter.containers)
        self._decided: dict[int, bool] = {}
        self._news: list[tuple[int, bool]] = []

    def survey(self, cgroups: Iterable[tuple[int, str]], now: int) -> None:
        """(id, path) of every cgroup there is at the start, of the hierarchy that the ids are of."""
        if self._active:
            for identity, path in cgroups:
                self._note(identity, self._wanted.decides(self._cgroups.of_path(path, now)))

    def decide(self, process: ProcessKey, identity: int | None, now: int) -> None:
        """A process of that cgroup was heard of. Costs nothing without --container, or once it is decided."""
        if self._active and identity is not None and identity not in self._decided:
            self._note(identity, self._wanted.decides(self._cgroups.home(process, identity, now)))

    def news(self) -> list[tuple[int, bool]]:
        """(id, wanted) since the last call, in the order in which the kernel is to hear it."""
        found, self._news = self._news, []
        return found

    def _note(self, identity: int, decision: bool | None) -> None:
        if decision is None or self._decided.get(identity) == decision:
            return
        if len(self._decided) >= self._size:
            oldest = next(iter(self._decided))
            if not self._decided.pop(oldest):
                self._news.append((oldest, True))
        if not decision:
            self._news.append((identity, False))
        elif self._decided.get(identity) is False:
            self._news.append((identity, True))
        self._decided[identity] = decision
