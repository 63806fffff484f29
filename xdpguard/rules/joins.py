"""Sets joined with other values, cut by them, or turned round: each made once, and only as many as fit.

Ten thousand rules that each add one port to a set of 30,000 would make 300 million intervals of a file of a
megabyte. Owns how many may be made. Must never know keys or families.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from .intervals import LOPSIDED, complement, intersection, union
from .model import Intervals
from .report import Mark, Report

LEAST_ROOM = 1 << 19
"""Intervals that may be made, whatever the size of the files; a list that stands there itself needs none."""
BYTES_EACH = 2
"""Of the files, for each interval beyond that."""
FREE = 32
"""Intervals of the sets of one result that need no room."""

_Sides = tuple[Intervals, ...]


class Joins:
    """Of one rule file."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._known: dict[tuple[object, ...], tuple[_Sides, Intervals]] = {}
        self._bytes = self._used = 0
        self._refused = False

    def make_room(self, data: bytes) -> None:
        """For one more file."""
        self._bytes += len(data)

    def union(self, parts: Sequence[Intervals], mark: Mark) -> Intervals:
        if len(parts) == 1:
            return parts[0]
        return self._made("or", parts, sum(map(len, parts)), lambda: union(chain(*parts)), mark)

    def intersection(self, left: Intervals, right: Intervals, mark: Mark) -> Intervals:
        small, large = sorted((len(left), len(right)))
        steps = small if small < large // LOPSIDED else large
        return self._made("and", (left, right), steps, lambda: intersection(left, right), mark)

    def complement(self, parts: Intervals, low: int, high: int, mark: Mark) -> Intervals:
        """``parts`` of one object are always within the same bounds."""
        return self._made("not", (parts,), len(parts), lambda: complement(parts, low, high), mark)

    def without(
        self, wanted: Intervals | None, banned: Intervals, low: int, high: int, mark: Mark
    ) -> Intervals:
        """The wanted values (None: all) that are not banned, all within low..high."""
        rest = self.complement(banned, low, high, mark)
        return rest if wanted is None else self.intersection(wanted, rest, mark)

    def _made(
        self, how: str, of: Sequence[Intervals], steps: int, make: Callable[[], Intervals], mark: Mark
    ) -> Intervals:
        """By identity: a set is one object in every rule that uses it. Empty when there is no more room."""
        # What a rule lists itself is one interval each, and has its bytes in the file.
        free = sum(len(one) for one in of if len(one) > 1) if how == "or" else max(map(len, of))
        if free <= FREE:
            return make()
        key = (how, *map(id, of))
        known = self._known.get(key)
        if known is None and not self._refused:
            known = self._known[key] = (tuple(of), make())  # keeps the objects, and so their identities
            self._used += max(len(known[1]), steps) - FREE
            self._refuse_if_full(mark)
        return () if known is None else known[1]

    def _refuse_if_full(self, mark: Mark) -> None:
        room = max(LEAST_ROOM, self._bytes // BYTES_EACH)
        if self._used > room:
            self._refused = True
            words = (
                f"sets in lists, and sets under not, come to more than {room} values and ranges by this rule"
            )
            self._report.error(mark, f"{words}; put what rules have in common into a set")
