"""Address trees: what one says of every boundary and of the addresses beside it, by the second reader."""

from __future__ import annotations

from bisect import bisect_right
from random import Random

import numpy as np
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpguard.abi import abi
from xdpguard.classify.blob import Blob
from xdpguard.classify.columns import bounds
from xdpguard.classify.trees import Tree, build

AT = abi().offset("xg_blob.hook") + abi().offset("xg_hook.ipv4") + abi().offset("xg_addresses.src")
BITS = {4: 32, 6: 128}


def written(tree: Tree) -> tuple[tables.Reader, dict[str, int]]:
    blob = Blob("t")
    blob.put_tree(tree, AT)
    reader = tables.Reader(blob.finish().tobytes())
    return reader, reader.struct("xg_tree", AT)


def made(starts: list[int], family: int) -> Tree:
    """Interval i is of pair class i and has the word i + 1000."""
    number = np.arange(len(starts))
    return build(bounds(starts, BITS[family]), number, number.astype(np.uint64) + np.uint64(1000))


def check(starts: list[int], family: int, spots: set[int] | None = None) -> None:
    """Every boundary, the address before it and behind it, and both ends; or these addresses."""
    top = (1 << BITS[family]) - 1
    reader, tree = written(made(starts, family))
    for spot in spots or {0, 1, top - 1, top, *(start + near for start in starts for near in (-1, 0, 1))}:
        if 0 <= spot <= top:
            number = bisect_right(starts, spot) - 1
            assert tables.find(reader, tree, family, spot) == (number, number + 1000), hex(spot)


@pytest.mark.parametrize("family", BITS)
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_address_is_found_in_its_interval(family: int, data: st.DataObject) -> None:
    bits = BITS[family]
    near = st.integers(0, 200).map(lambda step: (1 << bits) - 1 - step)
    middle = st.tuples(st.integers(0, 12), st.integers(0, 3)).map(
        lambda pair: (pair[0] << bits // 2) + pair[1] & (1 << bits) - 1
    )
    spots = st.one_of(st.integers(1, 200), near, middle, st.integers(1, (1 << bits) - 1))
    check(sorted({0, *data.draw(st.lists(spots, max_size=150))}), family)


SIZES = (1, 2, 3, 4, 5, 16, 63, 64, 65, 255, 256, 257, 1023, 1025)


@pytest.mark.parametrize("family", BITS)
@pytest.mark.parametrize("size", SIZES)
def test_nodes_may_be_full_or_have_one_key(family: int, size: int) -> None:
    step = (1 << BITS[family]) // size
    check([at * step for at in range(size)], family)


@pytest.mark.parametrize("family", BITS)
@pytest.mark.parametrize("where", ["bottom", "top", "spread"])
def test_a_hundred_thousand_intervals_are_told_apart(family: int, where: str) -> None:
    bits, rng = BITS[family], Random(1)
    wide = {"bottom": (1, 1 << 20), "top": ((1 << bits) - (1 << 20), 1 << bits), "spread": (1, 1 << bits)}[
        where
    ]
    starts = sorted({0, *(rng.randrange(*wide) for _ in range(100_000))})
    spots = {start + near for start in rng.sample(starts, 1000) for near in (-1, 0, 1)}
    check(starts, family, {spot for spot in spots | {0, (1 << bits) - 1} if 0 <= spot < 1 << bits})


@pytest.mark.parametrize("family", BITS)
def test_addresses_before_and_behind_the_index_are_in_its_first_and_last_stretch(family: int) -> None:
    bits = BITS[family]
    base = 3 << bits - 4
    starts = [0, *(base + (at << bits // 2) for at in range(2000))]
    tree = made(starts, family)
    assert tree.index.base > 0
    assert len(tree.index.entries) > 1
    check(starts, family)
    check(starts, family, {0, 1, base - 1, starts[-1] + 1, starts[-1] * 2 % (1 << bits), (1 << bits) - 1})


def kinds_of(tree: Tree) -> list[int]:
    """Of the upper halves in which intervals end."""
    assert tree.halves is not None
    found = [int(leaf) >> 2 * place & 3 for leaf in tree.leaves["kinds"] for place in range(3)]
    return found[: len(tree.halves.highs)]


def test_prefixes_longer_than_64_bits_share_one_upper_half() -> None:
    high = 0x20010DB8 << 96
    starts = [0, *(high + (at << 20) for at in range(1, 700)), high + (1 << 64), high + (5 << 64) + 9]
    check(starts, 6)
    assert kinds_of(made(starts, 6)) == [
        kind("SEARCH"),
        kind("BLOCK"),
        kind("SAME"),
    ]  # :db8::, :db8:0:5::, and all the rest


def kind(name: str) -> int:
    return abi().numbers[f"XG_{name}"]


@pytest.mark.parametrize("inside", range(6))
def test_an_upper_half_with_more_intervals_than_two_is_searched(inside: int) -> None:
    """So many boundaries in one upper half, and one behind it."""
    high = 9 << 64
    starts = [0, *(high + (at << 40) for at in range(1, inside + 1)), high + (1 << 64)]
    check(starts, 6)
    assert kinds_of(made(starts, 6))[0] == kind(["SAME", "BLOCK", "SEARCH"][min(inside, 2)])


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(65, 128), st.integers(0, 1 << 64)), min_size=1))
def test_a_prefix_in_an_upper_half_is_a_block(prefixes: list[tuple[int, int, int]]) -> None:
    """One a half: what is before it is known alike behind it. Of every leaf and place in it."""
    inside: dict[int, tuple[int, int]] = {}
    for half, length, low in prefixes:
        size = 1 << 128 - length
        first = (3 * half + 1 << 64) + (low % (1 << 64) & -size)
        inside[half] = first, first + size
    starts = sorted({0, *(end for ends in inside.values() for end in ends)} - {1 << 128})
    known = [next((half + 1 for half, (a, b) in inside.items() if a <= start < b), 0) for start in starts]
    words = np.array(known, dtype=np.uint64) + np.uint64(1000)
    tree = build(bounds(starts, 128), np.array(known), words)
    assert set(kinds_of(tree)) <= {kind("SAME"), kind("BLOCK")}
    reader, found = written(tree)
    for address in {max(at + near, 0) for at in starts for near in (-1, 0, 1)}:
        number = known[bisect_right(starts, address) - 1]
        assert tables.find(reader, found, 6, address) == (number, number + 1000), hex(address)


def test_an_interval_may_end_with_its_upper_half() -> None:
    high = 7 << 64
    check([0, high, high + (1 << 64)], 6)
    check([0, high + 5, high + (1 << 64) - 1, high + (1 << 64)], 6)
    check([0, (1 << 128) - 1], 6)
    check([0, (1 << 128) - (1 << 64)], 6)


@pytest.mark.parametrize("family", BITS)
def test_equal_neighbours_become_one_interval(family: int) -> None:
    starts = bounds([0, 10, 20, 30], BITS[family])
    tree = build(starts, np.array([1, 1, 2, 2]), np.array([5, 5, 5, 6], dtype=np.uint64))
    reader, found = written(tree)
    places = [tables.find(reader, found, family, address) for address in (0, 10, 19, 20, 29, 30)]
    assert places == [(1, 5), (1, 5), (1, 5), (2, 5), (2, 5), (2, 6)]
    assert tree.rows == 3


def test_a_search_begins_where_all_that_it_may_find_is_below() -> None:
    """Spread evenly, most addresses need no level above the leaves."""
    tree = made([at << 12 for at in range(1 << 16)], 4)
    levels = tree.index.entries >> np.uint32(abi().numbers["XG_NODE_SHIFT"])
    assert (levels == 0).mean() > 0.5
    assert len(tree.levels) == 4
