"""Programs attached to kernel functions and tracepoints by perf_event_open(2).

Owns that system call. An attachment lives as long as its fd, so a killed process leaves none. Kprobes are
made by the PMU "kprobe" (Linux 4.17), never in tracefs, where they would outlive us: a kernel that has the
ring buffer and kprobes has that PMU.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import struct
from functools import cache
from pathlib import Path

_SYSCALL = {"x86_64": 298, "aarch64": 241, "riscv64": 241, "s390x": 331, "ppc64le": 319}
_PMU = Path("/sys/bus/event_source/devices/kprobe")
_TYPE_TRACEPOINT = 2  # PERF_TYPE_TRACEPOINT
_FLAG_CLOEXEC = 8
_ENABLE, _SET_BPF = 0x2400, 0x40042408  # PERF_EVENT_IOC_
_ATTRIBUTE_BYTES = 112  # struct perf_event_attr, version 5

_libc = ctypes.CDLL(None, use_errno=True)


@cache
def has_kprobes() -> bool:
    return (_PMU / "type").is_file()


def kprobe(function: str, program: int, *, at_return: bool) -> int:
    """Run a program (BPF_PROG_TYPE_KPROBE) at the entry or return of a kernel function; the fd to hold.

    OSError: ENOENT or EINVAL, there is no such function, or it cannot be probed.
    """
    kind = int((_PMU / "type").read_text())
    name = ctypes.create_string_buffer(function.encode())
    return _attach(kind, _return_bit() if at_return else 0, ctypes.addressof(name), program)


def tracepoint(number: int, program: int) -> int:
    """Run a program (BPF_PROG_TYPE_TRACEPOINT) at a tracepoint, by its number in tracefs; the fd to hold."""
    return _attach(_TYPE_TRACEPOINT, number, 0, program)


def _return_bit() -> int:
    text = (_PMU / "format" / "retprobe").read_text()  # "config:0"
    return 1 << int(text.strip().removeprefix("config:"))


def _attach(kind: int, config: int, config1: int, program: int) -> int:
    attributes = bytearray(_ATTRIBUTE_BYTES)
    struct.pack_into("=IIQQ", attributes, 0, kind, len(attributes), config, 1)
    struct.pack_into("=Q", attributes, 56, config1)
    fd = _open(attributes)
    try:
        fcntl.ioctl(fd, _SET_BPF, program)
        fcntl.ioctl(fd, _ENABLE, 0)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _open(attributes: bytearray) -> int:
    """For all processes; the CPU is a formality, since a program of an event runs on every CPU."""
    buffer = (ctypes.c_char * len(attributes)).from_buffer(attributes)
    number = _SYSCALL[platform.machine()]
    fd: int = _libc.syscall(
        ctypes.c_long(number), buffer, ctypes.c_int(-1), ctypes.c_int(_online()), ctypes.c_int(-1),
        ctypes.c_ulong(_FLAG_CLOEXEC),
    )  # fmt: skip
    if fd < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return fd


def _online() -> int:
    text = Path("/sys/devices/system/cpu/online").read_text()
    return int(text.split(",")[0].split("-")[0])
