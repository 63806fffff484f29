"""The names of rules: what one may consist of, and that each is used once.

Must never report; who asks knows the words.
"""

from __future__ import annotations

from collections.abc import Sequence

from .sets import NAMES

_LINE_BITS = 32


class Names:
    """Of one rule file and the files that it names. Lines count from 0; a file "" is the rule file itself."""

    def __init__(self) -> None:
        self._first: dict[str, int] = {}
        self._files: list[str] = []

    def add(self, name: str, file: str, line: int) -> tuple[str, int] | None:
        """None, or where it stood before."""
        first = self._first.get(name)
        if first is None:
            self._first[name] = self._base(file) + line
            return None
        return self._files[first >> _LINE_BITS], first & (1 << _LINE_BITS) - 1

    def fresh(self, names: list[str], file: str, lines: Sequence[int]) -> dict[str, int] | None:
        """What ``put`` takes; None: not all are names, or one stands somewhere else too."""
        taken = dict(zip(names, map(self._base(file).__add__, lines), strict=True))
        fresh = len(taken) == len(names) and self._first.keys().isdisjoint(taken)
        return taken if fresh and NAMES.match("\n".join([*names, ""])) else None

    def put(self, taken: dict[str, int]) -> None:
        if len(self._first) < len(taken):
            taken.update(self._first)
            self._first = taken
        else:
            self._first.update(taken)

    def _base(self, file: str) -> int:
        if not self._files or self._files[-1] != file:
            self._files.append(file)
        return len(self._files) - 1 << _LINE_BITS
