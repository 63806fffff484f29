"""The figures that a run reached: how often what was tried, told at its end, whether it is a default run or a
soak.
"""

from __future__ import annotations

from collections import Counter


class Figures:
    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._said: list[str] = []

    def add(self, what: str, number: int = 1) -> None:
        """So many more of these."""
        self._counts[what] += number

    def say(self, line: str) -> None:
        self._said.append(line)

    def lines(self) -> list[str]:
        return [*(f"{number:,} {what}" for what, number in self._counts.items()), *self._said]
