"""Totals: counts that outlive their generation are neither lost nor doubled, whatever room there is."""

from __future__ import annotations

from copy import deepcopy
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from xdpguard.abi import abi
from xdpguard.generation import totals
from xdpguard.generation.manifest import Manifest, NamedRule
from xdpguard.generation.totals import MERGED_KEY, HookTotals, RuleTotal, Totals, decode, encode

NUMBERS = abi().numbers
ROOM = 1 << 24
NOBODY: frozenset[str] = frozenset()
HUGE = 1 << 64


def key(number: int) -> str:
    return f"{number:032x}"


def manifest(ingress: tuple[int, ...], egress: tuple[int, ...] = ()) -> Manifest:
    hooks = tuple(
        tuple(NamedRule(f"rule-{number}", "drop", key(number), 3) for number in hook)
        for hook in (ingress, egress)
    )
    return Manifest("t.yaml", "", 0.0, ("pass", "pass"), (hooks[0], hooks[1]), {})


def counts(start: int, rules: int) -> list[list[int]]:
    """One hook's counters, every one different: [n, 100 n] from ``start`` on."""
    return [[start + at, 100 * (start + at)] for at in range(NUMBERS["XG_COUNT_RULES"] + rules)]


pairs = st.tuples(st.integers(0, HUGE), st.integers(0, HUGE)).map(list)
counted = st.tuples(st.integers(1, HUGE), st.integers(0, HUGE)).map(list)
named = st.builds(RuleTotal, st.from_regex(r"[A-Za-z0-9_.-]{1,64}", fullmatch=True), st.just("drop"), counted)
hooks = st.builds(
    HookTotals,
    st.lists(pairs, min_size=totals.MATRIX, max_size=totals.MATRIX),
    st.lists(pairs, min_size=totals.REASONS, max_size=totals.REASONS),
    pairs,
    st.dictionaries(st.integers(0, 1 << 128).map(key), named, max_size=12),
)
marks = st.sets(st.integers(0, HUGE - 1), max_size=4)
several = st.builds(Totals, marks, marks, st.tuples(hooks, hooks))
few = settings(deadline=None, max_examples=40)


def sums(value: Totals) -> list[list[int]]:
    """All that the rules of either hook counted."""
    return [
        [sum(rule.count[part] for rule in hook.rules.values()) for part in (0, 1)] for hook in value.hooks
    ]


def many(rules: int, seed: int = 1) -> Totals:
    rng = Random(seed)
    value = Totals()
    for hook in value.hooks:
        for _ in range(rules):
            name = f"{rng.getrandbits(200):x}"
            hook.rules[key(rng.getrandbits(128))] = RuleTotal(name, "drop", [rng.randint(1, HUGE), HUGE])
    return value


# ---- the bytes ------------------------------------------------------------------------------------------
@few
@given(several)
def test_what_is_encoded_is_decoded_again(value: Totals) -> None:
    assert decode(encode(deepcopy(value), ROOM, NOBODY)) == value


def test_a_bank_never_written_holds_empty_totals() -> None:
    assert decode(b"") == Totals()


def test_a_rule_that_never_matched_takes_no_room() -> None:
    value = Totals()
    value.hooks[0].rules[key(1)] = RuleTotal("idle", "drop", [0, 0])
    assert decode(encode(value, ROOM, NOBODY)) == Totals()


def test_damaged_bytes_are_refused() -> None:
    data = encode(many(3), ROOM, NOBODY)
    for at in range(len(data)):
        with pytest.raises(ValueError, match=r"damaged totals|Expecting|decode|Extra data|values to unpack"):
            decode(data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :])
    for length in range(1, len(data)):
        with pytest.raises(ValueError, match="damaged totals"):
            decode(data[:length])


# ---- adding ---------------------------------------------------------------------------------------------
def test_every_counter_of_a_slot_goes_to_its_place() -> None:
    value = Totals()
    totals.add_slot(value, lambda: manifest((1, 2), (3,)), [counts(1000, 2), counts(5000, 1)])
    for hook, start, keys in ((value.hooks[0], 1000, (1, 2)), (value.hooks[1], 5000, (3,))):
        flat = [
            *hook.matrix,
            *hook.reasons,
            hook.default,
            *(hook.rules[key(number)].count for number in keys),
        ]
        assert flat == counts(start, len(keys))
    assert value.hooks[0].rules[key(2)].name == "rule-2"


def test_a_rule_keeps_its_counts_at_another_place_under_its_key() -> None:
    value = Totals()
    totals.add_slot(value, lambda: manifest((1, 2)), [counts(0, 2), counts(0, 0)])
    totals.add_slot(value, lambda: manifest((2, 9, 1)), [counts(0, 3), counts(0, 0)])
    first = NUMBERS["XG_COUNT_RULES"]
    assert [value.hooks[0].rules[key(number)].count[0] for number in (1, 2, 9)] == [
        first + first + 2,
        first + 1 + first,
        first + 1,
    ]


def test_a_rule_of_the_same_key_counts_apart_on_either_hook() -> None:
    value = Totals()
    totals.add_slot(value, lambda: manifest((1,), (1,)), [counts(0, 1), counts(500, 1)])
    assert value.hooks[0].rules[key(1)].count != value.hooks[1].rules[key(1)].count


@few
@given(several, several)
def test_totals_add_up_and_the_marks_of_the_other_stay_out(one: Totals, other: Totals) -> None:
    result, before = deepcopy(one), deepcopy(other)
    totals.add_totals(result, other)
    assert (result.folded, result.absorbed) == (one.folded, one.absorbed)
    assert other == before
    for hook, left, right in zip(result.hooks, one.hooks, other.hooks, strict=True):
        for name in ("matrix", "reasons"):
            both = zip(getattr(left, name), getattr(right, name), strict=True)
            assert getattr(hook, name) == [[a[0] + b[0], a[1] + b[1]] for a, b in both]
        assert set(hook.rules) == set(left.rules) | set(right.rules)
    assert sums(result) == [[a[0] + b[0], a[1] + b[1]] for a, b in zip(sums(one), sums(other), strict=True)]


def test_adding_does_not_tie_the_two_together() -> None:
    value, other = Totals(), many(1)
    totals.add_totals(value, other)
    totals.add_totals(value, other)
    assert [count[0] for count in sums(value)] == [2 * count[0] for count in sums(other)]


# ---- no room --------------------------------------------------------------------------------------------
def all_retired_merged(value: Totals, live: frozenset[str]) -> int:
    """Bytes of these totals when every rule that is not live is in the sum."""
    value = deepcopy(value)
    for hook in value.hooks:
        retired = [hook.rules.pop(each).count for each in set(hook.rules) - live]
        if retired:
            both = [sum(count[part] for count in retired) for part in (0, 1)]
            hook.rules[MERGED_KEY] = RuleTotal("(merged rules)", "", both)
    return len(encode(value, ROOM, live))


@few
@given(st.integers(2, 60), st.floats(0, 1), st.integers(0, 1 << 32), st.floats(0, 1))
def test_merging_keeps_every_sum_and_the_live_rules_while_they_fit(
    rules: int, share: float, seed: int, squeeze: float
) -> None:
    value, rng = many(rules, seed), Random(seed)
    live = frozenset(each for hook in value.hooks for each in hook.rules if rng.random() < share)
    before = deepcopy(value)
    least, most = all_retired_merged(value, live) + 16, len(encode(deepcopy(value), ROOM, live))
    room = least + int(max(most - least, 0) * squeeze)
    result = encode(value, room, live)
    assert len(result) <= room
    assert sums(decode(result)) == sums(before)
    for hook, source in zip(decode(result).hooks, before.hooks, strict=True):
        for each in live & set(source.rules):
            assert hook.rules[each] == source.rules[each]


def left_apart(value: Totals) -> set[str]:
    return {each for hook in value.hooks for each in hook.rules} - {MERGED_KEY}


def test_rules_with_the_fewest_packets_are_merged_first() -> None:
    value = many(40)
    ranked = [
        each for _, each in sorted((r.count[0], each) for h in value.hooks for each, r in h.rules.items())
    ]
    whole = len(encode(deepcopy(value), ROOM, NOBODY))
    left = left_apart(decode(encode(value, whole - 1, NOBODY)))
    assert 0 < len(left) < len(ranked)
    assert left == set(ranked[-len(left) :])


def test_live_rules_are_merged_last_and_keep_the_sums() -> None:
    value = many(40)
    live = frozenset(each for each, _ in zip(value.hooks[0].rules, range(20), strict=False))
    wanted, room = sums(value), all_retired_merged(value, live) - 200
    result = decode(encode(value, room, live))
    assert sums(result) == wanted
    assert left_apart(result) < live


def test_rules_merged_before_stay_in_the_sum() -> None:
    value = many(40)
    wanted = sums(value)
    for part in (2, 3, 4):
        size = len(encode(deepcopy(value), ROOM, NOBODY))
        value = decode(encode(value, max(size - size // part, 400), NOBODY))
        assert sums(value) == wanted


def test_no_room_for_the_sums_alone_is_an_error() -> None:
    value = many(20)
    size = all_retired_merged(value, NOBODY)
    with pytest.raises(ValueError, match="there is room for 100"):
        encode(deepcopy(value), 100, NOBODY)
    assert len(encode(value, size + 16, NOBODY)) <= size + 16
