"""--container in the kernel: which cgroup ids are wanted, told as the cgroups appear. Pure.

The kernel lets pass only what selected cgroups do; forks and execs always, so that a new container's cgroup
is heard of before its first connection. What is not decided stays unselected.
"""

from __future__ import annotations

from collections.abc import Iterable

from xdpguard.trace.cgroups import Cgroups
from xdpguard.trace.model import ProcessKey
from xdpguard.trace.wanted import Wanted

_SIZE = 65536  # ids remembered as decided


class Selection:
    def __init__(self, wanted: Wanted, cgroups: Cgroups) -> None:
        self._wanted, self._cgroups = wanted, cgroups
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
        """(id, wanted) since the last call; each once. Only what is wanted: at first nothing is selected."""
        found, self._news = self._news, []
        return found

    def _note(self, identity: int, decision: bool | None) -> None:
        if decision is None:
            return
        if len(self._decided) >= _SIZE:
            del self._decided[next(iter(self._decided))]
        if decision and not self._decided.get(identity):
            self._news.append((identity, True))
        self._decided[identity] = decision
