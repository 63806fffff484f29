"""BPF_PROG_TEST_RUN: one program, one frame, no interface.

Used by the preflight, the tests and the benchmark.
"""

from __future__ import annotations

import ctypes
import struct
from dataclasses import dataclass

from xdpguard.kernel import bpf

_PROG_TEST_RUN = 10


@dataclass(frozen=True, slots=True)
class TestRun:
    verdict: int
    nanoseconds: int  # mean of one run
    data: bytes  # the frame as the program left it


def prog_test_run(
    fd: int,
    frame: bytes,
    *,
    repeat: int = 1,
    context: bytes = b"",
    flags: int = 0,
    batch: int = 0,
    out_bytes: int | None = None,
) -> TestRun:
    """BPF_PROG_TEST_RUN. Frames under 14 bytes are refused by the kernel (EINVAL)."""
    data = ctypes.create_string_buffer(frame, len(frame))
    space = (len(frame) + 256) if out_bytes is None else out_bytes
    out = ctypes.create_string_buffer(max(space, 1))
    ctx = ctypes.create_string_buffer(context, len(context)) if context else None
    attributes = bytearray(80)
    struct.pack_into(
        "=IIIIQQIIIIQQIII", attributes, 0,
        fd, 0, len(frame), space, ctypes.addressof(data), ctypes.addressof(out) if space else 0,
        repeat, 0, len(context), 0, ctypes.addressof(ctx) if ctx else 0, 0, flags, 0, batch,
    )  # fmt: skip
    bpf.call(_PROG_TEST_RUN, attributes)
    (verdict,) = struct.unpack_from("=I", attributes, 4)
    (size,) = struct.unpack_from("=I", attributes, 12)
    (duration,) = struct.unpack_from("=I", attributes, 36)
    return TestRun(verdict, duration, out.raw[: min(size, space)])
