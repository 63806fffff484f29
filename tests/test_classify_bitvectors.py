"""The bit vectors of one dimension against sets of rule numbers."""

from __future__ import annotations

from bisect import bisect_right
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import normal

from xdpguard.classify import bitvectors
from xdpguard.classify.bitvectors import BLOCK_RULES, Dimension
from xdpguard.classify.columns import column
from xdpguard.rules.model import Intervals

SIZES = {"small": 1024, "IPv4": 1 << 32, "IPv6": 1 << 128}
Conditions = list[Intervals | None]


def build(conditions: Conditions, size: int) -> Dimension:
    """``conditions[r]``: values that rule r allows, None = all."""
    given = column(conditions, (size - 1).bit_length())
    return bitvectors.build(given.ids, given.sets, size)


def starts_of(dimension: Dimension) -> list[int]:
    if dimension.starts.dtype.kind == "S":
        # NumPy drops the zero bytes at the end of a string.
        return [int.from_bytes(bytes(start).ljust(16, b"\0"), "big") for start in dimension.starts]
    return [int(start) for start in dimension.starts]


def rules_of(dimension: Dimension, value: int) -> set[int]:
    """The rules that allow a value, as the dimension has it."""
    interval = bisect_right(starts_of(dimension), value) - 1
    found = set()
    for block, number in enumerate(dimension.members[dimension.numbers[interval]]):
        if number >= 0:
            bits = int.from_bytes(dimension.blocks[number].tobytes(), "little")
            found |= {block * BLOCK_RULES + bit for bit in range(BLOCK_RULES) if bits >> bit & 1}
    return found


def model(conditions: Conditions, value: int) -> set[int]:
    return {
        rule
        for rule, values in enumerate(conditions)
        if values is None or any(first <= value <= last for first, last in values)
    }


def edges(conditions: Conditions, size: int) -> list[int]:
    ends = [
        end for values in conditions for pair in values or () for end in (pair[0] - 1, *pair, pair[1] + 1)
    ]
    return sorted({value for value in (0, size - 1, *ends) if 0 <= value < size})


def allowed(size: int) -> st.SearchStrategy[Intervals | None]:
    spot = st.one_of(st.integers(0, size - 1), st.sampled_from((0, 1, size // 2, size - 2, size - 1)))
    pairs = st.tuples(spot, spot).map(lambda pair: (min(pair), max(pair)))
    return st.one_of(st.none(), st.lists(pairs, max_size=4).map(normal))


@pytest.mark.parametrize("kind", SIZES)
@settings(deadline=None, max_examples=50)
@given(data=st.data())
def test_every_value_has_the_rules_that_allow_it(kind: str, data: st.DataObject) -> None:
    size = SIZES[kind]
    conditions = data.draw(st.lists(allowed(size), max_size=70))
    dimension = build(conditions, size)
    for value in edges(conditions, size):
        assert rules_of(dimension, value) == model(conditions, value)


@pytest.mark.parametrize("count", [BLOCK_RULES - 1, BLOCK_RULES, BLOCK_RULES + 1, 2 * BLOCK_RULES + 1])
def test_rules_on_both_sides_of_a_block_border_keep_their_numbers(count: int) -> None:
    conditions: Conditions = [((7, 9),) if rule % 3 else None for rule in range(count)]
    conditions[-1] = ((1000, 1023),)
    dimension = build(conditions, 1024)
    for value in (0, 6, 7, 9, 10, 999, 1000, 1023):
        assert rules_of(dimension, value) == model(conditions, value)


def test_the_first_interval_starts_at_the_lowest_value_and_neighbours_differ() -> None:
    dimension = build([((0, 9),), ((5, 20),), ((10, 20),)], 1024)
    assert starts_of(dimension) == [0, 5, 10, 21]
    numbers = dimension.numbers.tolist()
    assert all(one != two for one, two in pairwise(numbers))


def test_intervals_with_the_same_rules_share_a_class() -> None:
    dimension = build([((5, 5), (9, 9))], 1024)
    assert starts_of(dimension) == [0, 5, 6, 9, 10]
    assert len(dimension.members) == 2


def test_equal_blocks_of_many_classes_are_kept_once() -> None:
    conditions: Conditions = [None] * BLOCK_RULES + [((value, value),) for value in range(100)]
    dimension = build(conditions, 1024)
    # One block of rules that allow everything, and 100 second blocks, plus an empty one that is not named.
    assert len(dimension.blocks) == 1 + 101
    assert len(dimension.members) == 101


def test_an_empty_block_is_marked_absent() -> None:
    conditions: Conditions = [()] * BLOCK_RULES + [((3, 3),)]
    dimension = build(conditions, 1024)
    assert dimension.members[dimension.numbers].tolist() == [
        [-1, -1],
        [-1, max(dimension.members.ravel().tolist())],
        [-1, -1],
    ]


def test_rules_that_share_a_large_set_all_have_it() -> None:
    odd, even = (tuple((value, value) for value in range(start, 1024, 2)) for start in (1, 0))
    conditions: Conditions = [(odd, even, None, ((7, 8),))[rule % 4] for rule in range(BLOCK_RULES + 200)]
    dimension = build(conditions, 1024)
    for value in (0, 1, 6, 7, 8, 9, 1022, 1023):
        assert rules_of(dimension, value) == model(conditions, value)


@pytest.mark.parametrize("kind", SIZES)
def test_no_rules_and_rules_without_values_allow_nothing(kind: str) -> None:
    for conditions in ([], [()], [(), ()]):
        dimension = build(list(conditions), SIZES[kind])
        assert starts_of(dimension) == [0]
        assert rules_of(dimension, SIZES[kind] - 1) == set()


def test_rows_whose_hashes_collide_are_still_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.array([[1, 0], [0, 1], [1, 0], [0, 0]], dtype=np.uint64)
    real = np.unique

    def colliding(values: np.ndarray, **options: object) -> object:
        # The search for distinct hashes is the one without an axis.
        return real(values if "axis" in options else np.zeros_like(values), **options)  # type: ignore[call-overload]

    monkeypatch.setattr(np, "unique", colliding)
    unique, number = bitvectors._unique_rows(rows)
    assert unique[number].tolist() == rows.tolist()
    assert len(unique) == 3
