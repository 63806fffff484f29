"""The benchmark's own C, compiled by BCC and loaded by bpf(2), with its maps put in place of placeholders."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from xdpguard import abi
from xdpguard.kernel import bpf

PLACES = {
    f"BENCH_{name}": 0x7D000001 + at
    for at, name in enumerate(("CURSOR", "TRACE", "XDP_TEST", "TC_TEST", "SRC_TRIE", "DST_TRIE"))
}
LPM_TRIE, PROG_ARRAY = 11, 3
_LD_IMM64 = 0x18


@cache
def compiled(file: str) -> dict[str, bytes]:
    """The functions of a C file beside this one: name -> instructions, with placeholders."""
    os.environ["BCC_KERNEL_SOURCE"] = str(abi.folder() / "include" / "kbuild")
    from bcc import BPF

    path = Path(__file__).with_name(file)
    flags = ["-DPAGE_SIZE=4096", *(f"-D{name}={place:#x}" for name, place in PLACES.items())]
    module = BPF(src_file=os.fsencode(path), cflags=flags)
    names = [
        line.split("(")[0].removeprefix("int ")
        for line in path.read_text().splitlines()
        if line.startswith("int ")
    ]
    codes = {name: bytes(module.dump_func(name.encode())) for name in names}
    module.cleanup()
    return codes


def placed(code: bytes, maps: Mapping[str, int]) -> bytes:
    """With fds of maps instead of placeholders."""
    fds = {PLACES[f"BENCH_{name}"]: fd for name, fd in maps.items()}
    done, at = bytearray(code), 0
    while at < len(done):
        wide = done[at] == _LD_IMM64
        if wide and done[at + 1] >> 4:
            (place,) = struct.unpack_from("=I", done, at + 4)
            struct.pack_into("=i", done, at + 4, fds[place])
        at += 16 if wide else 8
    return bytes(done)


def load(file: str, function: str, maps: Mapping[str, int]) -> int:
    """A program's fd. Programs that tail-call one another must agree on the multi-buffer flag."""
    tc = function.endswith(("tc", "tc4"))
    kind, flags = (bpf.PROG_SCHED_CLS, 0) if tc else (bpf.PROG_XDP, bpf.F_XDP_HAS_FRAGS)
    return bpf.prog_load(kind, placed(compiled(file)[function], maps), function, flags=flags).fd


def fill(fd: int, keys: NDArray[np.uint32], values: NDArray[np.uint32]) -> None:
    """Many elements at once. ``keys``: one row each."""
    from bcc.libbcc import lib

    keys, values = np.ascontiguousarray(keys), np.ascontiguousarray(values)
    count = ctypes.c_uint32(len(keys))
    done = lib.bpf_update_batch(fd, keys.ctypes.data, values.ctypes.data, ctypes.byref(count))
    if done:
        raise OSError(-done if done < -1 else ctypes.get_errno(), "BPF_MAP_UPDATE_BATCH")
