"""The control word, the size classes, and the room that a bank of totals leaves."""

from __future__ import annotations

from dataclasses import fields
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.abi import abi
from xdpguard.classify.tables import Tables
from xdpguard.generation import manifest, slots, totals
from xdpguard.generation.manifest import Manifest, NamedRule
from xdpguard.generation.totals import Totals
from xdpguard.kernel.maps import SLOTS, Word
from xdpguard.kernel.sizes import Size, size_class

NUMBERS = abi().numbers
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_.-"
SIZES = [one.name for one in fields(Size)]
slot_numbers = st.integers(0, NUMBERS["XG_WORD_SLOT_MASK"])
sizes = st.builds(
    Size, st.integers(1, 64 << 20), st.integers(1, 64 << 20), st.integers(1, 1 << 17), st.integers(1, 1 << 26)
)


# ---- the word ---------------------------------------------------------------------------------------------
@given(slot_numbers, slot_numbers, st.integers(0, (1 << 48) - 1))
def test_a_word_survives_packing(active: int, previous: int, deadline: int) -> None:
    word = Word(active, previous, deadline)
    assert Word.unpack(word.pack()) == word
    assert word.pack() < 1 << 64


def test_a_words_fields_lie_where_the_programs_look() -> None:
    assert Word(1, 2, 3).pack() == 1 | 2 << 8 | 3 << 16


def test_without_a_deadline_a_word_is_its_two_slots() -> None:
    assert Word(3, 0).pack() == 3


@pytest.mark.parametrize(("now", "expected"), [(99, False), (100, True), (101, True)])
def test_a_word_expires_in_the_millisecond_of_its_deadline(
    now: int, expected: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "boot_ms", lambda: now)
    assert slots.expired(Word(1, 2, 100)) is expected


def test_a_word_without_deadline_never_expires() -> None:
    assert not slots.expired(Word(1, 2, 0))


# ---- size classes -----------------------------------------------------------------------------------------
@given(sizes)
def test_a_size_class_holds_what_is_needed_and_what_is_masked_is_a_power_of_two(need: Size) -> None:
    found = size_class(need)
    assert found.holds(need)
    assert found.blob_bytes >= found.table_bytes
    for value in (found.table_bytes, found.counters):
        assert value & value - 1 == 0
    assert size_class(found) == found


@given(sizes)
def test_no_size_class_is_wasteful(need: Size) -> None:
    found, floor = size_class(need), size_class(Size(1, 1, 1, 1))
    for name in ("table_bytes", "counters"):
        assert getattr(found, name) < 2 * max(getattr(need, name), getattr(floor, name))
    assert found.bank_bytes <= max(need.bank_bytes, floor.bank_bytes) * 1.25
    assert found.blob_bytes <= max(need.blob_bytes + found.table_bytes // 8, found.table_bytes)


def test_the_largest_tables_fit_a_size_class_of_64_mib() -> None:
    assert size_class(Size(64 << 20, 64 << 20, 1, 1)).blob_bytes == 64 << 20


@given(sizes, sizes)
def test_joined_sizes_hold_both_and_nothing_more(one: Size, other: Size) -> None:
    both = one.joined(other)
    assert both == other.joined(one)
    assert both.holds(one)
    assert both.holds(other)
    for name in SIZES:
        assert getattr(both, name) in (getattr(one, name), getattr(other, name))


@pytest.mark.parametrize("name", SIZES)
def test_a_size_too_small_in_one_way_does_not_hold(name: str) -> None:
    need = Size(10, 10, 10, 10)
    less = Size(**{each: 10 - (each == name) for each in SIZES})
    assert not less.holds(need)


# ---- room for the totals ----------------------------------------------------------------------------------
def named(rng: Random, rules: int, style: str) -> tuple[NamedRule, ...]:
    """Rules with random keys and names that compress badly, well, or are short."""
    made = []
    for number in range(rules):
        name = {"random": "".join(rng.choices(LETTERS, k=64)), "long": f"{number:064}", "short": str(number)}
        made.append(NamedRule(name[style], "redirect", f"{rng.getrandbits(128):032x}", 1))
    return tuple(made)


def generation(rng: Random, ingress: int, egress: int, style: str) -> Manifest:
    hooks = (named(rng, ingress, style), named(rng, egress, style))
    return Manifest("rules.yaml", "0" * 64, 1.5e9, ("drop", "drop"), hooks, {})


def count(rng: Random, value: Totals, one: Manifest) -> None:
    """Add a slot whose counters are all near the top of 64 bits."""
    first = NUMBERS["XG_COUNT_RULES"]
    near_the_top = [
        [[rng.randint(1 << 63, (1 << 64) - 1) for _ in "pb"] for _ in range(first + len(hook))]
        for hook in one.rules
    ]
    totals.add_slot(value, lambda: one, near_the_top)


def bank(one: Manifest) -> int:
    """Bytes of a bank that an interface gets for a generation."""
    count = 2 * NUMBERS["XG_COUNT_RULES"] + sum(map(len, one.rules))
    tables = Tables(memoryview(bytes(abi().structs["xg_blob"].size)), count)
    return slots.size_for(tables, manifest.encode(one)).bank_bytes - 8  # less the length before the bytes


ROOM = [(0, 0), (1, 0), (400, 0), (0, 400), (100, 100), (500, 500), (1000, 1000), (2000, 2000)]


@pytest.mark.parametrize("style", ["random", "long", "short"])
@pytest.mark.parametrize("rules", ROOM)
def test_a_bank_has_room_for_one_generation(rules: tuple[int, int], style: str) -> None:
    rng = Random(1)
    one, value = generation(rng, *rules, style), Totals({1, 2, 3, 4}, {1 << 63, (1 << 64) - 1})
    count(rng, value, one)
    live = frozenset(rule.key for hook in one.rules for rule in hook)
    totals.encode(value, bank(one), live)


@pytest.mark.parametrize("style", ["random", "long", "short"])
@pytest.mark.parametrize("rules", ROOM)
def test_a_bank_has_room_for_every_generation_that_is_held(rules: tuple[int, int], style: str) -> None:
    """Loads of three rule sets in turn: each was folded once, and all are held again, so all are live."""
    rng, value = Random(2), Totals({1, 2, 3, 4}, {1 << 63, (1 << 64) - 1})
    live: frozenset[str] = frozenset()
    room = []
    for _ in range(SLOTS - 1):
        one = generation(rng, *rules, style)
        count(rng, value, one)
        live |= {rule.key for hook in one.rules for rule in hook}
        room.append(bank(one))
    totals.encode(value, max(room), live)
