"""Where a rule is looked for: the groups, the lists of a class, the hash of pairs."""

from __future__ import annotations

from random import Random

import numpy as np
import pytest
import tables
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpguard.abi import abi
from xdpguard.classify import engine, pairs
from xdpguard.classify.columns import Numbers, columns
from xdpguard.classify.engine import Engine, build
from xdpguard.classify.groups import MAX_LIST, Conditions, Placed
from xdpguard.classify.split import Group
from xdpguard.rules.model import Addresses, Intervals, Match

NUMBERS = abi().numbers
WHOLE = 0xFFFFFFFFFFFFFFFF
TOP = (1 << 32) - 1


def net(value: int, length: int) -> Intervals:
    size = 1 << 32 - length
    return ((value & -size, value & -size | size - 1),)


def match(src: Intervals | None = None, dst: Intervals | None = None, **fields: Intervals) -> Match:
    return Match(
        ipv6=False,
        src=None if src is None else Addresses(v4=src),
        dst=None if dst is None else Addresses(v4=dst),
        **fields,  # type: ignore[arg-type]
    )


def groups(*matches: Match) -> dict[Group, int]:
    """How many rules of each group, in IPv4."""
    found = made(*matches).groups[4]
    return {group: count for group, count in found.items() if count}


def made(*matches: Match) -> Engine:
    return build(columns(matches))


HOST, NEAR, FAR = net(0x0A000001, 32), net(0x0A000002, 32), net(0xC0000200, 24)
PORT: Intervals = ((80, 80),)


# ---- groups ---------------------------------------------------------------------------------------------
def test_rules_of_both_addresses_are_pairs_of_one_are_lists_of_none_are_wide() -> None:
    rules = match(HOST, FAR), match(HOST), match(None, FAR), match(NEAR, NEAR), match(dport=PORT)
    assert groups(*rules) == {Group.PAIR: 2, Group.SRC: 1, Group.DST: 1, Group.WIDE: 1}


def test_a_rule_is_absent_from_the_family_that_it_cannot_match() -> None:
    found = made(match(HOST), Match(ipv4=False, dport=PORT))
    assert found.groups[4][Group.ABSENT] == found.groups[6][Group.ABSENT] == 0  # absent rules are in no group
    assert {family: sum(each.values()) for family, each in found.groups.items()} == {4: 1, 6: 1}


def test_a_rule_of_both_families_may_be_in_another_group_in_each() -> None:
    found = made(
        Match(src=Addresses(HOST, ((1, 1),)), dst=Addresses(FAR, ((0, (1 << 128) - 1),))), match(NEAR)
    )
    assert found.groups[4] == {**dict.fromkeys(Group, 0), Group.PAIR: 1, Group.SRC: 1}
    assert found.groups[6][Group.PAIR] + found.groups[6][Group.SRC] == 1


def test_broad_rules_of_both_sides_are_wide() -> None:
    """A /1 over two thousand networks on each side is neither a pair nor in a list."""
    narrow = [match(net(at << 16, 24), net(at << 16, 24)) for at in range(2000)]
    assert groups(match(net(0, 1), net(0, 1)), *narrow) == {Group.PAIR: 2000, Group.WIDE: 1}


def test_a_broad_side_beside_a_specific_one_is_a_condition_of_the_list() -> None:
    narrow = [match(net(at << 16, 24), net(at << 16, 24)) for at in range(100)]
    assert groups(match(net(0, 1), HOST), match(FAR, net(0, 1)), *narrow)[Group.DST] == 1
    assert groups(match(net(0, 1), HOST), match(FAR, net(0, 1)), *narrow)[Group.SRC] == 1


def test_rules_behind_one_that_takes_everything_are_in_no_group() -> None:
    found = made(match(HOST), Match(), match(NEAR), Match(dport=PORT))
    assert {family: each.fallback for family, each in found.families.items()} == {4: 1, 6: 1}
    assert sum(found.groups[4].values()) == 1
    assert sum(found.groups[6].values()) == 0


def test_a_rule_for_all_of_one_family_leaves_the_other_alone() -> None:
    found = made(Match(ipv6=False), Match(dport=PORT))
    assert {family: each.fallback for family, each in found.families.items()} == {
        4: 0,
        6: NUMBERS["XG_NO_RULE"],
    }
    assert sum(found.groups[4].values()) == 0
    assert found.groups[6][Group.WIDE] == 1


def test_arp_has_a_fallback_of_its_own_and_rules_for_it_are_wide() -> None:
    arp = Match(arp=True, ipv4=False, ipv6=False, vlan=((5, 5),))
    found = made(Match(), arp, Match(arp=True, ipv4=False, ipv6=False), arp)
    assert found.arp_fallback == 2
    assert found.wide.rules.tolist() == [1]
    assert found.wide.first[0] == 1


def test_a_rule_of_too_many_words_is_wide() -> None:
    ports = tuple((at * 2, at * 2) for at in range(17))
    assert groups(match(HOST, dport=ports[:16])) == {Group.SRC: 1}
    assert groups(match(HOST, dport=ports)) == {Group.WIDE: 1}


# ---- lists ----------------------------------------------------------------------------------------------
def on_host(count: int) -> list[Match]:
    return [match(HOST, dport=((at, at),)) for at in range(count)]


def test_a_list_has_room_for_so_many_rules_and_its_tail_is_wide() -> None:
    assert groups(*on_host(MAX_LIST)) == {Group.SRC: MAX_LIST}
    found = made(*on_host(MAX_LIST + 3))
    assert found.groups[4] == {**dict.fromkeys(Group, 0), Group.SRC: MAX_LIST, Group.WIDE: 3}
    assert found.wide.rules.tolist() == [MAX_LIST, MAX_LIST + 1, MAX_LIST + 2]


def test_a_list_that_overflows_costs_no_second_making_of_the_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    made_pairs = engine._Attempt.add_pairs
    families: list[int] = []

    def counted(self: engine._Attempt, view: engine._View, group: Numbers) -> None:
        families.append(view.family)
        made_pairs(self, view, group)

    monkeypatch.setattr(engine._Attempt, "add_pairs", counted)
    assert groups(match(NEAR, NEAR), *on_host(MAX_LIST + 3))[Group.WIDE] == 3
    assert families == [4, 6]


def test_a_list_ends_behind_the_rule_that_takes_everything_there() -> None:
    found = made(*on_host(10), match(HOST), *on_host(200))
    assert len(found.conditions.entries) == 11
    assert found.groups[4][Group.WIDE] == 0


def test_a_pair_of_too_many_rules_sends_its_tail_to_the_wide_ones() -> None:
    rules = [match(HOST, FAR, dport=((at, at),)) for at in range(MAX_LIST + 2)]
    assert groups(*rules) == {Group.PAIR: MAX_LIST, Group.WIDE: 2}


def test_a_rule_that_needs_more_entries_than_a_list_holds_is_wide() -> None:
    """Sixteen or seventeen ranges of the broad side times four of ports."""
    narrow = [match(net(at << 20, 30), net(at << 20, 30)) for at in range(1 << 12)]
    broad = [match(net(at << 24, 8), net(at << 8, 32)) for at in range(256)]
    ports = tuple((at * 2, at * 2) for at in range(4))
    for ranges, wide in ((16, 0), (17, 1)):
        spread = tuple(net(at << 25, 8)[0] for at in range(1, ranges + 1))
        assert groups(match(spread, HOST, dport=ports), *broad, *narrow).get(Group.WIDE, 0) == wide


def put(*places: tuple[int, int, int, int]) -> tuple[Conditions, list[int], list[int], list[int]]:
    """(key, rule, low, high) each. -> conditions, keys, words, rules left over."""
    columns_of = list(zip(*places, strict=True))
    keys, rules = (np.array(each, dtype=np.int64) for each in columns_of[:2])
    low, high = (np.array(each, dtype=np.uint64) for each in columns_of[2:])
    found = Conditions()
    made_keys, words, left = found.words(Placed(keys, rules, low, high))
    return found, made_keys.tolist(), words.tolist(), left.tolist()


def test_a_list_is_in_the_order_of_its_rules() -> None:
    found, keys, words, _ = put((4, 9, 1, 1), (4, 2, 2, 2), (4, 30, 1, 1), (4, 2, 3, 3))
    assert keys == [4]
    assert words[0] & NUMBERS["XG_RULE_MASK"] == 2
    assert words[0] >> NUMBERS["XG_LIST_SHIFT"] & 1
    entries = found.entries.tolist()
    assert [entry & NUMBERS["XG_RULE_MASK"] for entry in entries] == [2, 2, 9, 30]
    assert [entry >> 63 for entry in entries] == [0, 0, 0, 1]


def test_a_place_with_one_rule_needs_no_list() -> None:
    found, keys, words, _ = put((7, 3, 1, 5), (9, 8, 1, 5))
    assert keys == [7, 9]
    assert [word & NUMBERS["XG_RULE_MASK"] for word in words] == [3, 8]
    assert not any(word >> NUMBERS["XG_LIST_SHIFT"] & 1 for word in words)
    assert len(found.entries) == 0


def test_equal_conditions_are_kept_once_and_keep_their_numbers() -> None:
    found = Conditions()
    low = np.array([5, 1, 5, 2], dtype=np.uint64)
    assert found.add(low, low).tolist() == [0, 1, 0, 2]
    assert found.add(np.array([2, 9, 5], dtype=np.uint64), np.array([2, 9, 5], dtype=np.uint64)).tolist() == [
        2,
        3,
        0,
    ]
    assert found.low.tolist() == [5, 1, 2, 9]


def test_what_lies_behind_an_unconditional_entry_is_cut_off_in_its_own_list_only() -> None:
    found, keys, _, left = put((1, 0, 1, 1), (1, 1, 0, WHOLE), (1, 2, 1, 1), (2, 3, 1, 1), (2, 4, 1, 1))
    assert (keys, left) == ([1, 2], [])
    assert [entry & NUMBERS["XG_RULE_MASK"] for entry in found.entries.tolist()] == [0, 1, 3, 4]


def test_no_places_make_no_words() -> None:
    empty = np.zeros(0, np.int64)
    none = np.zeros(0, np.uint64)
    keys, words, left = Conditions().words(Placed(empty, empty, none, none))
    assert (len(keys), len(words), len(left)) == (0, 0, 0)


# ---- pairs ----------------------------------------------------------------------------------------------
def look_up(lines: np.ndarray, count: int, key: int) -> int:
    """Through the second reader: the word of a pair."""
    reader = tables.Reader(lines.tobytes())
    return tables.pair_word(reader, {"pairs": 0, "pair_lines": count}, key & 0xFFFFFFFF, key >> 32)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 400), st.integers(1, 400), st.integers(0, 1 << 20))
def test_every_pair_is_found_and_no_other(src: int, dst: int, base: int) -> None:
    """Dense classes, as a family has them."""
    rng = Random(src * 1000 + dst)
    wanted = sorted({rng.randrange(1, src + 1) + base | rng.randrange(1, dst + 1) << 32 for _ in range(500)})
    words = np.arange(len(wanted), dtype=np.uint64) + np.uint64(7)
    lines, count = pairs.table(np.array(wanted, dtype=np.uint64), words)
    assert [look_up(lines, count, key) for key in wanted] == words.tolist()
    others = {key + near for key in wanted for near in (1, 1 << 32)} - set(wanted)
    assert {look_up(lines, count, key) for key in others} == {NUMBERS["XG_NO_RULE"]}


def same_home(count: int, lines: int) -> list[int]:
    """Keys that hash to the last line."""
    found = []
    for start in range(0, 1 << 24, 1 << 16):
        keys = np.arange(start + 1, start + 1 + (1 << 16), dtype=np.uint64) | np.uint64(5 << 32)
        found += keys[pairs.home(keys, lines) == lines - 1].tolist()
        if len(found) >= count:
            return found[:count]
    raise AssertionError("too few")


def test_a_full_line_goes_on_in_the_next_ones_and_behind_the_last() -> None:
    keys = same_home(32, 60)
    lines = pairs._insert(np.array(keys, dtype=np.uint64), np.arange(32, dtype=np.uint64), 60)
    assert lines is not None
    assert [look_up(lines, 60, key) for key in keys] == list(range(32))


def test_a_table_that_is_too_crowded_grows() -> None:
    keys = same_home(33, 60)
    assert pairs._insert(np.array(keys, dtype=np.uint64), np.arange(33, dtype=np.uint64), 60) is None
    lines, count = pairs.table(np.array(keys, dtype=np.uint64), np.arange(33, dtype=np.uint64))
    assert [look_up(lines, count, key) for key in keys] == list(range(33))


def test_no_pairs_are_found_in_an_empty_table() -> None:
    lines, count = pairs.table(np.zeros(0, np.uint64), np.zeros(0, np.uint64))
    assert look_up(lines, count, 5 | 6 << 32) == NUMBERS["XG_NO_RULE"]
    assert lines.nbytes % NUMBERS["XG_LINE"] == 0


@pytest.mark.parametrize("count", [1, 3, 4, 5, 100_000])
def test_the_table_is_not_much_larger_than_its_pairs(count: int) -> None:
    keys = (np.arange(count, dtype=np.uint64) // np.uint64(300) + np.uint64(1)) | (
        np.arange(count, dtype=np.uint64) % np.uint64(300) + np.uint64(1)
    ) << np.uint64(32)
    lines, _ = pairs.table(keys, keys)
    assert lines.nbytes <= count * 16 * 2.1 + 16 * NUMBERS["XG_LINE"]
