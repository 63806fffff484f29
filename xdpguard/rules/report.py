"""The collector of findings while a rule file is read.

Owns order and number of the Problems: nothing is lost silently, and a file with 20,000 mistakes still gives a
readable answer. Must never print or raise.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from xdpguard.errors import Problem

LIMIT = 100
"""How many findings of one severity are kept; the rest is counted and told in one closing line."""


class Mark(Protocol):
    """A place in the rule file as the YAML parser gives it: line and column from 0."""

    @property
    def line(self) -> int: ...
    @property
    def column(self) -> int: ...


class Report:
    """The findings of one rule file and of the files that it names."""

    def __init__(self, file: str) -> None:
        self.file = file
        self._here = file
        self._kept: list[Problem] = []
        self._counts = {"error": 0, "warning": 0, "note": 0}

    @property
    def errors(self) -> int:
        """How many errors were added so far."""
        return self._counts["error"]

    @property
    def full(self) -> bool:
        """No more errors are kept, only counted."""
        return self.errors >= LIMIT

    @property
    def findings(self) -> int:
        """How many of any severity."""
        return sum(self._counts.values())

    @contextmanager
    def inside(self, file: str) -> Iterator[None]:
        """Marks are of this file meanwhile."""
        self._here, before = file, self._here
        try:
            yield
        finally:
            self._here = before

    def error(self, mark: Mark | None, message: str) -> None:
        """An error in the file being read; ``mark`` None means the whole file."""
        self._mark("error", mark, message)

    def warning(self, mark: Mark | None, message: str) -> None:
        """A warning, likewise."""
        self._mark("warning", mark, message)

    def note(self, mark: Mark | None, message: str) -> None:
        """A note, likewise."""
        self._mark("note", mark, message)

    def _mark(self, severity: str, mark: Mark | None, message: str) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark is not None else (0, 0)
        self.add(Problem(self._here, line, column, severity, message))

    def add(self, problem: Problem) -> None:
        """A finding in any file."""
        self._counts[problem.severity] += 1
        if self._counts[problem.severity] <= LIMIT:
            self._kept.append(problem)

    def problems(self) -> list[Problem]:
        """The findings in file order: the rule file first, then the others by name, then what was cut."""
        kept = sorted(self._kept, key=lambda p: (p.file != self.file, p.file, p.line, p.column))
        for severity, count in self._counts.items():
            if count > LIMIT:
                words = f"{count - LIMIT} more {severity}s are not shown (only the first {LIMIT} are)"
                kept.append(Problem(self.file, 0, 0, severity, words))
        return kept
