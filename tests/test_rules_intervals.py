"""Interval algebra against Python's sets."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from xdpguard.rules.intervals import LOPSIDED, complement, covers, intersection, union, without
from xdpguard.rules.model import Interval, Intervals

HIGH = 40
PART = st.tuples(st.integers(0, HIGH), st.integers(0, HIGH)).map(lambda pair: (min(pair), max(pair)))
PARTS = st.lists(PART, max_size=6)


def numbers(parts: Intervals | list[Interval]) -> set[int]:
    return {number for low, high in parts for number in range(low, high + 1)}


def is_normal(parts: Intervals) -> bool:
    gaps = all(left[1] + 1 < right[0] for left, right in pairwise(parts))
    return gaps and all(low <= high for low, high in parts)


@given(PARTS)
def test_union_keeps_every_number_in_normal_form(parts: list[Interval]) -> None:
    assert numbers(union(parts)) == numbers(parts)
    assert is_normal(union(parts))


@given(PARTS)
def test_the_complement_is_every_other_number(parts: list[Interval]) -> None:
    rest = complement(union(parts), 0, HIGH)
    assert numbers(rest) == set(range(HIGH + 1)) - numbers(parts)
    assert is_normal(rest)


@given(PARTS)
def test_the_complement_of_the_complement_is_the_beginning(parts: list[Interval]) -> None:
    assert complement(complement(union(parts), 0, HIGH), 0, HIGH) == union(parts)


@given(PARTS, PARTS)
def test_the_intersection_is_what_both_hold(left: list[Interval], right: list[Interval]) -> None:
    both = intersection(union(left), union(right))
    assert numbers(both) == numbers(left) & numbers(right)
    assert is_normal(both)


@given(PARTS)
def test_the_intersection_with_a_much_longer_list_is_what_both_hold(few: list[Interval]) -> None:
    many = tuple((at, at + 1) for at in range(0, HIGH * 100, 4))
    assert len(many) > LOPSIDED * len(union(few))
    for left, right in ((union(few), many), (many, union(few))):
        assert numbers(intersection(left, right)) == numbers(few) & numbers(many)
        assert is_normal(intersection(left, right))


@given(PARTS, PARTS)
def test_covers_says_whether_one_is_a_part_of_the_other(left: list[Interval], right: list[Interval]) -> None:
    assert covers(union(left), union(right)) == (numbers(right) <= numbers(left))


@given(PARTS, PARTS)
def test_without_takes_the_banned_numbers_away(wanted: list[Interval], banned: list[Interval]) -> None:
    rest = without(union(wanted), union(banned), 0, HIGH)
    assert rest is not None
    assert numbers(rest) == numbers(wanted) - numbers(banned)


def test_without_says_nothing_where_nothing_was_said() -> None:
    assert without(None, None, 0, HIGH) is None
    assert without(((1, 2),), None, 0, HIGH) == ((1, 2),)
    assert without(None, ((1, HIGH),), 0, HIGH) == ((0, 0),)
