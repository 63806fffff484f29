"""Set algebra on sorted, disjoint, inclusive integer intervals.

Owns the normal form of model.Intervals: sorted, disjoint, not adjacent. Must never know what
the numbers mean.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator

from .model import Interval, Intervals

LOPSIDED = 16
"""So many times as long as another list of intervals, one is searched rather than gone through."""


def union(parts: Iterable[Interval]) -> Intervals:
    """Any intervals (first <= last, in any order) to their normal form. O(n log n)."""
    ordered = sorted(parts)
    if len(ordered) < 2:
        return tuple(ordered)
    out: list[Interval] = []
    low, high = ordered[0]
    for first, last in ordered:
        if first > high + 1:
            out.append((low, high))
            low, high = first, last
        elif last > high:
            high = last
    out.append((low, high))
    return tuple(out)


def from_values(values: Iterable[int]) -> Intervals:
    """Any numbers to the normal form."""
    ordered = sorted(values)
    if not ordered:
        return ()
    out: list[Interval] = []
    low = high = ordered[0]
    for value in ordered:
        if value > high + 1:
            out.append((low, high))
            low = value
        high = value
    out.append((low, high))
    return tuple(out)


def complement(parts: Intervals, low: int, high: int) -> Intervals:
    """Every number from low to high that is in no part. ``parts`` lies within low..high."""
    out: list[Interval] = []
    start = low
    for first, last in parts:
        if start < first:
            out.append((start, first - 1))
        start = last + 1
    if start <= high:
        out.append((start, high))
    return tuple(out)


def intersection(left: Intervals, right: Intervals) -> Intervals:
    """The numbers that are in both. O(n + m), or O(n log m + their number) where n is much smaller."""
    if len(left) > len(right):
        left, right = right, left
    if len(left) < len(right) // LOPSIDED:
        return tuple(part for first, last in left for part in _cut(right, first, last))
    out: list[Interval] = []
    i = j = 0
    while i < len(left) and j < len(right):
        first = max(left[i][0], right[j][0])
        last = min(left[i][1], right[j][1])
        if first <= last:
            out.append((first, last))
        if left[i][1] < right[j][1]:
            i += 1
        else:
            j += 1
    return tuple(out)


def without(wanted: Intervals | None, banned: Intervals | None, low: int, high: int) -> Intervals | None:
    """The wanted values that are not banned, all within low..high. None says nothing; two None give None."""
    if banned is None:
        return wanted
    rest = complement(banned, low, high)
    return rest if wanted is None else intersection(wanted, rest)


def _cut(parts: Intervals, low: int, high: int) -> Iterator[Interval]:
    """What of the parts lies within low..high."""
    at = bisect_left(parts, low, key=_last)
    while at < len(parts) and parts[at][0] <= high:
        yield max(low, parts[at][0]), min(high, parts[at][1])
        at += 1


def covers(outer: Intervals, inner: Intervals) -> bool:
    """True if every number of ``inner`` is in ``outer``. O(m log n), ends at the first miss."""
    if outer is inner or not inner:
        return True
    if not outer or outer[0][0] > inner[0][0] or outer[-1][1] < inner[-1][1]:
        return False
    if len(outer) == 1:
        return True
    for first, last in inner:
        at = bisect_right(outer, first, key=_first) - 1
        if at < 0 or outer[at][1] < last:
            return False
    return True


def _first(part: Interval) -> int:
    return part[0]


def _last(part: Interval) -> int:
    return part[1]
