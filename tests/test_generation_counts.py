"""No count of a rule is lost or doubled, whatever is loaded and wherever a process dies."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_generation_support import (
    CHANGES,
    CPUS,
    KEYS,
    Crashed,
    Memory,
    counted,
    expire,
    generation,
    load,
    traffic,
)

from xdpguard.errors import KernelError
from xdpguard.generation import slots
from xdpguard.generation.totals import Totals
from xdpguard.kernel.maps import SLOTS, MapSet


@pytest.fixture
def found() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.close()


operations = st.one_of(
    st.tuples(st.just("load"), st.sampled_from(KEYS)),
    st.tuples(st.just("traffic"), st.integers(1, 9)),
    st.tuples(st.just("rollback"), st.none()),
    st.tuples(st.just("expire"), st.none()),
)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(operations, st.one_of(st.just(0), st.integers(1, 30))), max_size=14))
def test_no_crash_loses_or_doubles_a_count(steps: list[tuple[tuple[str, object], int]]) -> None:
    found, expected, seen = Memory(), dict[str, int](), 0
    try:
        slots.write_builtin(found)
        for (name, argument), dies in steps:
            if name == "traffic":
                assert isinstance(argument, int)
                for key in traffic(found, argument):
                    expected[key] = expected.get(key, 0) + CPUS * argument
                seen += CPUS * argument
                continue
            found.dies = dies
            try:
                load(found, argument) if isinstance(argument, tuple) else CHANGES[name](found)
            except Crashed:
                pass  # the next command finds what is there
            found.dies = 0
            assert counted(found) == expected
            assert slots.sum_of(found).hooks[0].matrix[0] == [seen, 60 * seen]
    finally:
        found.close()


def test_folding_waits_for_packets_in_flight(found: Memory) -> None:
    slots.write(found, 1, generation(("a",), 5))
    slots.fold(found, 1)
    assert found.graces == 1


def test_folding_a_slot_twice_counts_it_once(found: Memory) -> None:
    load(found, ("a",))
    traffic(found, 3)
    slots.fold(found, found.word.active)
    slots.fold(found, found.word.active)
    assert counted(found) == {"a": 3 * CPUS}


def test_a_slot_folded_just_before_a_crash_is_not_counted_again_after_another_fold(found: Memory) -> None:
    for keys in (("a",), ("b",), ("c",), ("d",)):
        load(found, keys)
        traffic(found, 1)
    before = counted(found)
    slots.fold(found, slots.free_slot(found.word))  # a load that died before it wrote the slot
    expire(found)
    other = next(slot for slot in (3, 2, 1) if slot not in (found.word.active, slots.free_slot(found.word)))
    slots.fold(found, other)
    slots.fold(found, slots.free_slot(found.word))
    assert counted(found) == before


def test_serials_that_no_slot_holds_are_forgotten(found: Memory) -> None:
    for _ in range(12):
        load(found, ("a",))
        traffic(found, 1)
    assert len(slots.load_totals(found).folded) <= SLOTS


@pytest.mark.parametrize("dies", range(40))
def test_a_replaced_set_is_absorbed_once_whenever_the_process_dies(dies: int) -> None:
    old, new = Memory(epoch=11), Memory(epoch=12)
    try:
        load(old, ("a", "b"))
        traffic(old, 5)
        load(old, ("d",))
        traffic(old, 2)
        load(new, ("a",))
        new.put("predecessor", 11)
        new.dies = dies
        try:
            slots.absorb(new, old)
        except Crashed:
            pass
        new.dies = 0
        slots.absorb(new, old)
        slots.absorb(new, old)
        traffic(new, 1)
        assert counted(new) == {"a": 6 * CPUS, "b": 5 * CPUS, "d": 2 * CPUS}
        assert (new.get("predecessor"), slots.load_totals(new).absorbed) == (0, {11})
        assert old.graces > 0
    finally:
        old.close()
        new.close()


def test_counts_that_a_load_moves_while_they_are_read_are_read_again(
    found: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    for keys in (("a",), ("b",), ("c",)):
        load(found, keys)
        traffic(found, 1)
    before, real = counted(found), slots.load_totals
    moved: list[bool] = []

    def interrupted(memory: MapSet) -> Totals:
        value = real(memory)
        if not moved:
            moved.append(True)
            load(found, ("d",))  # moves the counts of "a" into the totals just read
        return value

    monkeypatch.setattr(slots, "load_totals", interrupted)
    assert counted(found) == before == {key: CPUS for key in "abc"}


def test_counts_that_never_stay_are_an_error_and_not_a_guess(
    found: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = slots.load_totals

    def interrupted(memory: MapSet) -> Totals:
        slots.take_serial(found)
        return real(memory)

    monkeypatch.setattr(slots, "load_totals", interrupted)
    with pytest.raises(KernelError, match="try again"):
        slots.sum_of(found)
