"""Sets of addresses divided into classes, against membership asked address by address."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import normal

from xdpguard.classify.columns import Sets, bounds, column
from xdpguard.classify.partition import Classes, Ranked, covers, divide, expand, ranges, rank, runs, sizes
from xdpguard.rules.model import Intervals

BITS = (32, 128)


def ranked(sets: list[Intervals], bits: int) -> Ranked:
    # One interval more than once is one set; these tests want each under its own number.
    made = column(sets, bits)
    assert len(made.sets) == len(sets)
    return rank(made.sets, bounds([0], bits))


def starts(found: Ranked) -> list[int]:
    if found.starts.dtype.kind == "S":
        return [int.from_bytes(bytes(start).ljust(16, b"\0"), "big") for start in found.starts]
    return [int(start) for start in found.starts]


def members(sets: list[Intervals], value: int) -> frozenset[int]:
    return frozenset(at for at, each in enumerate(sets) if any(low <= value <= high for low, high in each))


def check(sets: list[Intervals], bits: int) -> Classes:
    """Everything that ``divide`` promises; the sets are all chosen."""
    found, chosen = ranked(sets, bits), np.arange(len(sets))
    classes = divide(found, chosen)
    inside = [members(sets, start) for start in starts(found)]
    # Two elementary intervals are of one class just where the same sets contain them; 0 where none does.
    of = classes.of.tolist()
    assert len(set(zip(of, inside, strict=True))) == len(set(of)) == len(set(inside))
    assert [number == 0 for number in of] == [not each for each in inside]
    appeared = [number for number in dict.fromkeys(of) if number]
    assert appeared == list(range(1, classes.count))
    assert [of.index(number) for number in appeared] == classes.first.tolist()
    wanted = [
        sorted({number for number, each in zip(of, inside, strict=True) if at in each}) for at in chosen
    ]
    offsets, values = covers(found, chosen, classes)
    assert [values[low:high].tolist() for low, high in pairwise(offsets)] == wanted
    assert sizes(found, chosen, classes).tolist() == [len(each) for each in wanted]
    offsets, lows, highs = ranges(found, chosen, classes)
    spans = [
        list(zip(lows[at:to].tolist(), highs[at:to].tolist(), strict=True)) for at, to in pairwise(offsets)
    ]
    assert spans == [list(normal([(number, number) for number in each])) for each in wanted]
    return classes


def any_sets(bits: int) -> st.SearchStrategy[list[Intervals]]:
    top = (1 << bits) - 1
    spot = st.one_of(
        st.integers(0, 40), st.integers(top - 20, top), st.sampled_from((0, top, top >> 1, 1 << bits // 2))
    )
    pair = st.tuples(spot, spot).map(lambda ends: (min(ends), max(ends)))
    return st.lists(st.lists(pair, min_size=1, max_size=5).map(normal), max_size=8, unique=True)


@pytest.mark.parametrize("bits", BITS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_sets_are_divided_into_what_the_same_sets_contain(bits: int, data: st.DataObject) -> None:
    check(data.draw(any_sets(bits)), bits)


@pytest.mark.parametrize("bits", BITS)
def test_nested_sets_have_one_class_each(bits: int) -> None:
    base = (1 << bits) // 3
    chain: list[Intervals] = [((base & -(1 << size), base | (1 << size) - 1),) for size in range(bits + 1)]
    assert check(chain, bits).count == bits + 2  # and class 0, which no address has here


@pytest.mark.parametrize("bits", BITS)
def test_disjoint_sets_have_one_class_each(bits: int) -> None:
    assert check([((at * 10, at * 10 + 4),) for at in range(50)], bits).count == 51


@pytest.mark.parametrize("bits", BITS)
def test_neighbouring_sets_are_kept_apart(bits: int) -> None:
    assert check([((0, 9),), ((10, 19),), ((20, (1 << bits) - 1),)], bits).count == 4


@pytest.mark.parametrize("bits", BITS)
def test_crossing_sets_have_a_class_for_what_they_share(bits: int) -> None:
    assert check([((0, 20),), ((10, 30),), ((15, 40), (100, 200))], bits).count == 6


@pytest.mark.parametrize("bits", BITS)
def test_the_lowest_and_the_highest_address_can_be_sets_of_their_own(bits: int) -> None:
    top = (1 << bits) - 1
    found = check([((0, 0),), ((top, top),)], bits)
    assert found.of.tolist() == [1, 0, 2]


@pytest.mark.parametrize("bits", BITS)
def test_every_address_can_be_in_one_set(bits: int) -> None:
    assert check([((0, (1 << bits) - 1),)], bits).of.tolist() == [1]


@pytest.mark.parametrize("bits", BITS)
def test_no_sets_leave_one_class(bits: int) -> None:
    found = ranked([], bits)
    assert divide(found, np.arange(0)).of.tolist() == [0]


def test_sets_that_are_not_chosen_divide_nothing() -> None:
    found = ranked([((0, 99),), ((50, 59),), ((200, 299),)], 32)
    classes = divide(found, np.array([0, 2]))
    assert classes.of.tolist() == [1, 1, 1, 0, 2, 0]
    assert covers(found, np.array([0, 2]), classes)[1].tolist() == [1, 2]


def spread_set(entries: int) -> Sets:
    """A set of single addresses, 4,096 apart; and a hundred ranges, each over nearly all of them."""
    first = np.arange(entries, dtype=np.uint64) * np.uint64(4096)
    low = np.arange(100, dtype=np.uint64)
    return Sets(
        np.r_[0, entries, entries + 1 + np.arange(100)],
        np.r_[first, low + np.uint64(1)],
        np.r_[first + np.uint64(1), np.uint64(0xFFFFFFFF) - low],
    )


def test_a_million_entries_are_one_class_and_broad_sets_over_them_cost_no_more() -> None:
    found = rank(spread_set(1_000_000), bounds([0], 32))
    alone = divide(found, np.array([0]))
    assert alone.count == 2
    assert covers(found, np.array([0]), alone)[1].tolist() == [1]
    every = np.arange(101)
    classes = divide(found, every)
    # Between the ends of two ranges there is one class with the entries, and one without.
    assert sizes(found, every, classes).sum() == len(covers(found, every, classes)[1]) < 20_000


# ---- the small things -----------------------------------------------------------------------------------
def test_counts_are_expanded_to_owner_and_step() -> None:
    owner, step = expand(np.array([2, 0, 3]))
    assert (owner.tolist(), step.tolist()) == ([0, 0, 2, 2, 2], [0, 1, 0, 1, 2])
    assert [each.tolist() for each in expand(np.array([], dtype=np.int64))] == [[], []]


def test_runs_end_where_a_number_is_missing_or_the_owner_changes() -> None:
    offsets, low, high = runs(np.array([0, 3, 3, 5]), np.array([1, 2, 4, 5, 6]))
    assert (offsets.tolist(), low.tolist(), high.tolist()) == ([0, 2, 2, 3], [1, 4, 5], [2, 4, 6])


def test_two_classes_with_one_sum_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = ranked([((0, 9),), ((20, 29),)], 32)
    sums = iter([np.array([7, 0, 7, 0], dtype=np.uint64), np.array([7, 0, 8, 0], dtype=np.uint64)])
    monkeypatch.setattr("xdpguard.classify.partition._sums", lambda *_: next(sums))
    with pytest.raises(AssertionError, match="two different classes"):
        divide(found, np.arange(2))
