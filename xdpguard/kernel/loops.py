"""Rewrites loops into the form that verifiers before Linux 6.7 accept.

Those check the control flow before they simulate it, and take an edge back to the head of a loop only from a
jump. A loop body that *falls* into its head, which is a matter of how clang lays out the code, they refuse as
a "back-edge" (kernel commit 10e14e9652bf). Such an edge is led over a jump appended to the program; no other
instruction moves, so no offset changes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

_SIZE = 8
_CLASS_JMP, _CLASS_JMP32 = 0x05, 0x06
_JA, _CALL, _EXIT = 0x05, 0x85, 0x95
_SECOND_HALF = 0x00  # of a 64-bit load: no instruction has this code
_MAX_JUMP = 0x7FFF


def jump_back(code: bytes) -> bytes:
    """The same program in which every edge back into a loop is a jump's.

    ``code``: instructions of 8 bytes (struct bpf_insn). Raises OverflowError for a jump too far to encode.
    """
    rewritten = bytearray(code)
    for last in _falling_back(code):
        first = last - 1 if code[last * _SIZE] == _SECOND_HALF else last
        moved = rewritten[first * _SIZE : (last + 1) * _SIZE]
        for at in range(first, last):
            rewritten[at * _SIZE : (at + 1) * _SIZE] = _jump(0)
        here = len(rewritten) // _SIZE
        rewritten[last * _SIZE : (last + 1) * _SIZE] = _jump(here - (last + 1))
        rewritten += moved
        rewritten += _jump(last - len(rewritten) // _SIZE)
    return bytes(rewritten)


def _jump(distance: int) -> bytes:
    if not -_MAX_JUMP <= distance <= _MAX_JUMP:
        raise OverflowError(f"a jump of {distance} instructions")
    return struct.pack("=BBhi", _JA, 0, distance, 0)


def _successors(code: bytes, at: int) -> tuple[int, ...]:
    """Where execution goes from an instruction; what it falls into comes first."""
    operation, _, distance, _ = struct.unpack_from("=BBhi", code, at * _SIZE)
    if operation == _EXIT:
        return ()
    if operation == _JA:
        return (at + 1 + distance,)
    if operation & 7 in (_CLASS_JMP, _CLASS_JMP32) and operation != _CALL:
        return (at + 1, at + 1 + distance)
    return (at + 1,)


def _falling_back(code: bytes) -> Iterator[int]:
    """Instructions that are no jumps and are followed by the head of a loop that they are part of."""
    on_path: set[int] = {0}
    visited = {0}
    path = [(0, iter(_successors(code, 0)))]
    while path:
        at, left = path[-1]
        following = next(left, None)
        if following is None:
            path.pop()
            on_path.discard(at)
        elif following not in visited:
            visited.add(following)
            on_path.add(following)
            path.append((following, iter(_successors(code, following))))
        elif following in on_path and not _is_jump(code, at):
            yield at


def _is_jump(code: bytes, at: int) -> bool:
    operation = code[at * _SIZE]
    return operation & 7 in (_CLASS_JMP, _CLASS_JMP32) and operation != _CALL
