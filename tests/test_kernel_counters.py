"""Reading counters that programs add to meanwhile: sums over CPUs, and copies that agree with themselves."""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterator
from mmap import mmap
from typing import cast

import pytest

from xdpguard.abi import abi
from xdpguard.kernel import counters
from xdpguard.kernel.maps import MapSet
from xdpguard.kernel.sizes import COUNT_BYTES, Size

NUMBERS = abi().numbers
MATRIX = NUMBERS["XG_PROTOS"] * NUMBERS["XG_ACTIONS"]
FIRST_RULE = NUMBERS["XG_COUNT_RULES"]


class Moving:
    """Memory whose copies are given in turn; the last one stays."""

    def __init__(self, copies: list[bytes]) -> None:
        self.copies, self.reads = copies, 0

    def __getitem__(self, where: slice) -> bytes:
        self.reads += 1
        return self.copies[min(self.reads, len(self.copies)) - 1][where]


def part(matrix: int, decider: int, length: int) -> bytes:
    """One CPU's counters: packets in the last cell of the matrix and at the last decider."""
    values = array("Q", bytes(length * COUNT_BYTES))
    values[2 * (MATRIX - 1)], values[2 * (length - 1)] = matrix, decider
    return values.tobytes()


def consistent(copies: list[bytes], length: int) -> tuple[list[int], int]:
    memory = Moving(copies)
    values = counters._consistent(cast(mmap, memory), 0, length)
    return [values[2 * (MATRIX - 1)], values[2 * (length - 1)]], memory.reads


@pytest.mark.parametrize("length", [FIRST_RULE, FIRST_RULE + 7])
def test_a_copy_whose_sums_agree_is_taken_at_once(length: int) -> None:
    assert consistent([part(5, 5, length), part(6, 6, length)], length) == ([5, 5], 1)


def test_a_copy_taken_between_two_adds_is_taken_again() -> None:
    copies = [part(5, 4, 70), part(7, 6, 70), part(7, 7, 70), part(9, 9, 70)]
    assert consistent(copies, 70) == ([7, 7], 3)


def test_under_a_flood_the_last_copy_is_taken_as_it_is() -> None:
    assert consistent([part(5, 4, 70)], 70) == ([5, 4], counters._ATTEMPTS)


def test_only_the_asked_part_is_compared() -> None:
    memory = part(9, 1, 70) + part(3, 3, 70)
    values = counters._consistent(cast(mmap, Moving([memory])), 70 * COUNT_BYTES, 70)
    assert values[2 * (MATRIX - 1)] == 3


RULES = (2, 0)


class Counters:
    """The counters of one slot in plain shared memory: of each CPU those of ingress, then those of egress."""

    def __init__(self, cpus: int, size: int) -> None:
        self.size = Size(0, 0, size, 0)
        self.cpus = cpus
        self.fd = os.memfd_create("counters")
        os.ftruncate(self.fd, cpus * self.size.cpu_bytes)

    def get(self, field: str) -> int:
        return {"cpus": self.cpus}[field]

    def counters(self, slot: int) -> mmap:
        return mmap(self.fd, self.cpus * self.size.cpu_bytes)

    def add(self, cpu: int, hook: int, index: int, packets: int, size: int) -> None:
        place = self.size.counter_at(cpu, index if hook == 0 else FIRST_RULE + RULES[0] + index)
        os.pwrite(self.fd, array("Q", (packets, size)).tobytes(), place)


@pytest.fixture
def slot() -> Iterator[Counters]:
    made = Counters(cpus=3, size=256)
    yield made
    os.close(made.fd)


def test_the_counts_of_all_cpus_are_summed_for_each_hook(slot: Counters) -> None:
    for cpu, packets in enumerate((1, 10, 100)):
        slot.add(cpu, 0, 0, packets, 60 * packets)
        slot.add(cpu, 0, FIRST_RULE + 1, packets, 60 * packets)
        slot.add(cpu, 1, MATRIX - 1, 2 * packets, packets)
        slot.add(cpu, 1, NUMBERS["XG_COUNT_DEFAULT"], 2 * packets, packets)
    ingress, egress = counters.read(cast(MapSet, slot), 1, RULES)
    assert (len(ingress), len(egress)) == (FIRST_RULE + 2, FIRST_RULE)
    assert {at: count for at, count in enumerate(ingress) if any(count)} == {
        0: [111, 6660],
        FIRST_RULE + 1: [111, 6660],
    }
    assert {at: count for at, count in enumerate(egress) if any(count)} == {
        MATRIX - 1: [222, 111],
        NUMBERS["XG_COUNT_DEFAULT"]: [222, 111],
    }


def test_sums_beyond_64_bits_are_not_cut(slot: Counters) -> None:
    for cpu in range(3):
        slot.add(cpu, 0, 0, 1, (1 << 64) - 1)
        slot.add(cpu, 0, MATRIX, 1, (1 << 64) - 1)
    ingress, _ = counters.read(cast(MapSet, slot), 1, (0, 0))
    assert ingress[0] == [3, 3 * ((1 << 64) - 1)]


def test_zeroing_a_slot_zeroes_every_cpu_and_hook(slot: Counters) -> None:
    for cpu in range(3):
        for hook in range(2):
            slot.add(cpu, hook, 127, 9, 9)
    counters.zero(cast(MapSet, slot), 1)
    assert os.pread(slot.fd, 1 << 20, 0) == bytes(3 * slot.size.cpu_bytes)
