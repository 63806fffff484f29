"""Generations in slots, over plain shared memory in place of BPF maps: no kernel, no privilege."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from random import Random

import pytest
from test_generation_support import ABI, NUMBERS, Memory, generation

from xdpguard.generation import slots, totals
from xdpguard.kernel import counters
from xdpguard.kernel.maps import SLOTS, MapSet, Word


@pytest.fixture
def found() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


# ---- the free slot --------------------------------------------------------------------------------------
@pytest.mark.parametrize(("active", "previous"), list(product(range(SLOTS), repeat=2)))
def test_a_free_slot_is_neither_in_use_nor_the_built_in_one(active: int, previous: int) -> None:
    slot = slots.free_slot(Word(active, previous))
    assert 0 < slot < SLOTS
    assert slot not in (active, previous, slots.BUILTIN)


# ---- one slot -------------------------------------------------------------------------------------------
def test_what_is_written_to_a_slot_is_there_and_its_counters_are_zero(found: Memory) -> None:
    data = generation(("a", "b"), 77)
    memory = found.counters(2)
    memory[:] = b"\xff" * len(memory)
    memory.close()
    slots.write(found, 2, data)
    assert slots.serial(found, 2) == 77
    assert slots.blob_bytes(found, 2) == data
    names = slots.describe(found, 2)
    assert names is not None
    assert [rule.key for rule in names.rules[0]] == ["a", "b"]
    assert counters.read(found, 2, (2, 0))[0] == [[0, 0]] * (NUMBERS["XG_COUNT_RULES"] + 2)
    assert [slots.serial(found, slot) for slot in (0, 1, 3)] == [0, 0, 0]


def test_a_slot_is_marked_empty_while_it_is_written(found: Memory, monkeypatch: pytest.MonkeyPatch) -> None:
    slots.write(found, 1, generation(("a",), 5))
    seen = []
    zero = counters.zero

    def watched(memory: MapSet, slot: int) -> None:
        seen.append(slots.serial(memory, slot))
        zero(memory, slot)

    monkeypatch.setattr(counters, "zero", watched)
    slots.write(found, 1, generation(("b",), 6))
    assert seen == [0]
    assert slots.serial(found, 1) == 6


def test_an_empty_slot_has_no_names(found: Memory) -> None:
    slots.write(found, 1, generation(("a",), 5))
    slots.clear(found, 1)
    assert slots.describe(found, 1) is None
    assert slots.serial(found, 1) == 0


def test_the_built_in_rules_let_everything_pass(found: Memory) -> None:
    slots.write_builtin(found)
    data = slots.blob_bytes(found, slots.BUILTIN)
    for hook in range(NUMBERS["XG_HOOKS"]):
        base = ABI.offset("xg_blob.hook") + hook * ABI.structs["xg_hook"].size
        fields = ("rules", "default_action", "malformed_action", "drop_fragments")
        assert [ABI.get(data, f"xg_hook.{name}", base) for name in fields] == [0, 2, 2, 0]


def test_totals_go_to_the_bank_that_is_not_in_use(found: Memory) -> None:
    banks = []
    for number in range(3):
        value = totals.Totals(folded={number})
        slots.store_totals(found, value)
        banks.append(found.get("bank"))
        assert slots.load_totals(found) == value
    assert banks == [1, 0, 1]
    found.switch_bank(0)
    assert slots.load_totals(found).folded == {1}


def test_totals_without_room_lose_names_of_rules_that_are_gone_first(found: Memory) -> None:
    slots.write(found, 1, generation(("a", "b"), 5))
    rng = Random(3)
    gone = {f"{rng.getrandbits(128):032x}" for _ in range(found.size.bank_bytes // 16)}
    value = totals.Totals()
    value.hooks[0].rules |= {key: totals.RuleTotal(key, "drop", [9, 900]) for key in sorted(gone)}
    value.hooks[0].rules |= {key: totals.RuleTotal(key, "drop", [1, 60]) for key in ("a", "b")}
    slots.store_totals(found, value)
    rules = slots.load_totals(found).hooks[0].rules
    assert {"a", "b", totals.MERGED_KEY} <= rules.keys()
    assert sum(rule.count[0] for rule in rules.values()) == 9 * len(gone) + 2
