"""``kernel/loops.py``, held against the control flow check of Linux 5.10 (kernel/bpf/verifier.c, check_cfg).

The check is written here once more, in the kernel's own way (a stack and edge marks), so that the pass and
its judge have nothing in common.
"""

from __future__ import annotations

import struct

import pytest

from xdpguard.kernel import compile as compiler
from xdpguard.kernel import loops

ALU, STORE, CALL, EXIT, JA, JEQ = 0xB7, 0x7A, 0x85, 0x95, 0x05, 0x15
LOAD64 = 0x18
DISCOVERED, EXPLORED, FALLTHROUGH, BRANCH = 0x10, 0x20, 1, 2


def instruction(operation: int, distance: int = 0, immediate: int = 0) -> bytes:
    return struct.pack("=BBhi", operation, 0, distance, immediate)


def back_edges(code: bytes) -> list[tuple[int, int]]:
    """Edges that Linux 5.10 refuses. An instruction out of reach counts as one from itself."""
    decoded = [struct.unpack_from("=BBhi", code, at) for at in range(0, len(code), 8)]
    state = [0] * len(decoded)
    refused: list[tuple[int, int]] = []
    stack = [0]
    state[0] = DISCOVERED

    def push(at: int, to: int, edge: int, loop_is_fine: bool) -> bool:
        if edge == FALLTHROUGH and state[at] >= DISCOVERED | FALLTHROUGH:
            return False
        if edge == BRANCH and state[at] >= DISCOVERED | BRANCH:
            return False
        state[at] = DISCOVERED | edge
        if not state[to]:
            state[to] = DISCOVERED
            stack.append(to)
            return True
        if state[to] & 0xF0 == DISCOVERED and not loop_is_fine:
            refused.append((at, to))
        return False

    while stack:
        at = stack[-1]
        operation, _, distance, _ = decoded[at]
        pushed = False
        if operation == JA:
            pushed = push(at, at + 1 + distance, FALLTHROUGH, True)
        elif operation & 7 in (5, 6) and operation not in (CALL, EXIT):
            pushed = push(at, at + 1, FALLTHROUGH, True) or push(at, at + 1 + distance, BRANCH, True)
        elif operation != EXIT:
            pushed = push(at, at + 1, FALLTHROUGH, False)
        if not pushed:
            state[at] = EXPLORED
            stack.pop()
    return refused + [(at, at) for at in range(len(decoded)) if not state[at]]


def falling_loop(*latch: bytes) -> bytes:
    """A jump into the head; before the head the latch, which falls into it."""
    body = b"".join(latch)
    length = len(body) // 8
    enter = instruction(JA, length)
    head = instruction(JEQ, 1)
    again = instruction(JA, -(length + 2))
    return enter + body + head + again + instruction(EXIT)


def test_the_judge_refuses_a_loop_whose_body_falls_into_its_head() -> None:
    assert back_edges(falling_loop(instruction(ALU), instruction(STORE))) == [(2, 3)]


@pytest.mark.parametrize(
    "latch",
    [
        (instruction(ALU),),
        (instruction(ALU), instruction(CALL, 0, 5)),
        (instruction(ALU), instruction(LOAD64), instruction(0)),
    ],
    ids=["an operation", "a call", "a 64-bit load"],
)
def test_a_latch_of_any_kind_jumps_back_afterwards(latch: tuple[bytes, ...]) -> None:
    code = falling_loop(*latch)
    assert back_edges(code)
    assert back_edges(loops.jump_back(code)) == []


def test_a_program_without_such_a_loop_stays_as_it_is() -> None:
    code = instruction(ALU) + instruction(JEQ, -2) + instruction(EXIT)
    assert loops.jump_back(code) == code


def test_what_is_executed_stays_the_same_in_the_same_order() -> None:
    """Followed from the start, with conditions false twice: the same instructions that are no plain jumps."""
    code = falling_loop(instruction(ALU, 0, 1), instruction(STORE, 0, 2))

    def run(program: bytes) -> list[bytes]:
        executed: list[bytes] = []
        at, conditions = 0, 0
        while True:
            operation, _, distance, _ = struct.unpack_from("=BBhi", program, at * 8)
            if operation != JA:
                executed.append(program[at * 8 : at * 8 + 8])
            if operation == EXIT:
                return executed
            taken = operation == JA
            if operation == JEQ:
                conditions += 1
                taken = conditions == 3
            at += 1 + (distance if taken else 0)

    assert run(loops.jump_back(code)) == run(code)


def test_a_jump_that_cannot_be_encoded_is_said() -> None:
    code = falling_loop(*[instruction(ALU)] * 3) + instruction(EXIT) * 40000
    with pytest.raises(OverflowError):
        loops.jump_back(code)


@pytest.mark.parametrize(
    "source",
    [compiler.INGRESS, compiler.INGRESS_FRAGS, compiler.EGRESS, compiler.PASS],
    ids=lambda source: "-".join((source.function, *source.defines)),
)
def test_every_shipped_program_passes_the_check_of_linux_5_10(source: compiler.Source) -> None:
    assert back_edges(compiler.bytecode(source)) == []
