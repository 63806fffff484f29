"""BPF_PROG_TEST_RUN of one program, many times, with every buffer kept: a few microseconds a frame.

``xdpguard/kernel/testrun.py`` makes its buffers anew each time, which costs more than the run itself. This is
the same call. It must never hide an error of it.
"""

from __future__ import annotations

import ctypes
import struct

from xdpguard.kernel import bpf

_PROG_TEST_RUN = 10
_ROOM = 8192  # of a frame; a test run of XDP takes less than a page
_SIZES, _RETURNED = struct.Struct("=III"), struct.Struct("=IIII")


class KeptRun:
    """``run(frame)`` -> what the program returned, and the frame as it left it. ``context``: as ctx_in."""

    def __init__(self, program: int, context: bytes = b"") -> None:
        self._frame, self._out = bytearray(_ROOM), bytearray(_ROOM)
        self._context = ctypes.create_string_buffer(context, len(context)) if context else None
        self._attributes = bytearray(80)
        struct.pack_into(
            "=IIIIQQIIIIQQIII", self._attributes, 0,
            program, 0, 0, _ROOM, _address(self._frame), _address(self._out),
            1, 0, len(context), 0, ctypes.addressof(self._context) if self._context else 0, 0, 0, 0, 0,
        )  # fmt: skip

    def run(self, frame: bytes) -> tuple[int, bytes]:
        size = len(frame)
        self._frame[:size] = frame
        _SIZES.pack_into(self._attributes, 4, 0, size, _ROOM)
        bpf.call(_PROG_TEST_RUN, self._attributes)
        _, returned, _, left = _RETURNED.unpack_from(self._attributes)
        return returned, bytes(self._out[:left])


def _address(buffer: bytearray) -> int:
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer))
