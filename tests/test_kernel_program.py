"""Linking: placeholders in the bytecode become file descriptors and numbers, and nothing else changes."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.abi import abi
from xdpguard.kernel.program import link

NUMBERS = abi().numbers
MAPS = {"XG_MAP_CONTROL": 31, "XG_MAP_BLOBS": 32, "XG_MAP_COUNTERS": 33, "XG_MAP_TARGETS": 1 << 20}
VALUES = {"XG_NUMBER_BLOB_MASK": (64 << 20) - 8, "XG_NUMBER_COUNTER_MASK": 1 << 33 | 5, "XG_NUMBER_FLAGS": 0}
LD_IMM64, MOV_IMM, JEQ_IMM, CALL = 0x18, 0xB7, 0x15, 0x85
PSEUDO_NUMBER, PSEUDO_MAP, PSEUDO_MAP_VALUE = 0, 1, 2


def one(opcode: int, registers: int, offset: int, immediate: int) -> bytes:
    """One 8-byte instruction (uapi/linux/bpf.h, struct bpf_insn)."""
    return struct.pack("=BBhI", opcode, registers, offset, immediate)


def wide(pseudo: int, low: int, high: int = 0, register: int = 1) -> bytes:
    return one(LD_IMM64, pseudo << 4 | register, 0, low) + one(0, 0, 0, high)


def linked(code: bytes) -> bytes:
    return link(code, MAPS, VALUES)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize("pseudo", [PSEUDO_MAP, PSEUDO_MAP_VALUE])
def test_a_map_placeholder_becomes_its_descriptor(name: str, pseudo: int) -> None:
    assert linked(wide(pseudo, NUMBERS[name])) == wide(pseudo, MAPS[name])


def test_an_offset_into_a_map_value_stays() -> None:
    before = wide(PSEUDO_MAP_VALUE, NUMBERS["XG_MAP_CONTROL"], 8)
    assert linked(before) == wide(PSEUDO_MAP_VALUE, MAPS["XG_MAP_CONTROL"], 8)


@pytest.mark.parametrize("name", VALUES)
def test_a_number_placeholder_becomes_all_64_bits_of_its_value(name: str) -> None:
    low, high = VALUES[name] & 0xFFFFFFFF, VALUES[name] >> 32
    assert linked(wide(PSEUDO_NUMBER, NUMBERS[name])) == wide(PSEUDO_NUMBER, low, high)


def test_the_register_of_a_load_stays() -> None:
    before = wide(PSEUDO_MAP, NUMBERS["XG_MAP_BLOBS"], register=7)
    assert linked(before) == wide(PSEUDO_MAP, MAPS["XG_MAP_BLOBS"], register=7)


@pytest.mark.parametrize("opcode", [MOV_IMM, JEQ_IMM, CALL])
@pytest.mark.parametrize("name", [*MAPS, *VALUES])
def test_the_same_number_in_another_instruction_stays(opcode: int, name: str) -> None:
    code = one(opcode, 0x12, -3, NUMBERS[name])
    assert linked(code) == code


def test_the_second_half_of_a_load_is_not_an_instruction() -> None:
    # Read as an instruction of its own it would be another load, of a placeholder.
    inner = one(LD_IMM64, PSEUDO_NUMBER << 4, 0, NUMBERS["XG_NUMBER_FLAGS"])
    code = one(LD_IMM64, PSEUDO_NUMBER << 4, 0, 5) + inner + one(MOV_IMM, 0, 0, 1)
    assert linked(code) == code


def test_a_map_that_is_not_given_is_an_error() -> None:
    with pytest.raises(KeyError):
        link(wide(PSEUDO_MAP, NUMBERS["XG_MAP_TARGETS"]), {"XG_MAP_CONTROL": 3}, {})


plain = st.builds(
    one,
    st.integers(0, 255).filter(lambda opcode: opcode != LD_IMM64),
    st.integers(0, 255),
    st.integers(-(1 << 15), (1 << 15) - 1),
    st.sampled_from((0, 1, 0xFFFFFFFF, *(NUMBERS[name] for name in (*MAPS, *VALUES)))),
)
pieces = st.one_of(
    plain.map(lambda code: (code, code)),
    st.integers(0, 1 << 30).map(lambda low: (wide(PSEUDO_NUMBER, low, 9), wide(PSEUDO_NUMBER, low, 9))),
    st.sampled_from([(wide(PSEUDO_MAP, NUMBERS[name]), wide(PSEUDO_MAP, fd)) for name, fd in MAPS.items()]),
    st.sampled_from(
        [
            (wide(PSEUDO_NUMBER, NUMBERS[name]), wide(PSEUDO_NUMBER, value & 0xFFFFFFFF, value >> 32))
            for name, value in VALUES.items()
        ]
    ),
)


@given(st.lists(pieces, max_size=30))
def test_only_placeholders_change(code: list[tuple[bytes, bytes]]) -> None:
    assert linked(b"".join(before for before, _ in code)) == b"".join(after for _, after in code)
