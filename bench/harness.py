"""Cost of a packet by BPF_PROG_TEST_RUN: all contenders in turn, in one process, on one trace.

Only differences from the floor (the driver before a program that does nothing) and ratios of one run mean
anything. The kernel tells whole nanoseconds; a median of rounds is therefore good to about 1 ns.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import native
import numpy as np
from filterset import Headers
from traces import PACKETS

from xdpguard.kernel import bpf, testrun

_ETHERNET = bytes.fromhex("020000000002020000000001")
FRAME4 = _ETHERNET + bytes.fromhex("0800 45000028 00010000 40060000".replace(" ", "")) + bytes(8) + bytes(4)
FRAME4 += bytes.fromhex("00140000 00000000 50100000 00000000".replace(" ", ""))
FRAME6 = _ETHERNET + bytes.fromhex("86dd 60000000 00140640".replace(" ", "")) + bytes(32) + bytes(4)
FRAME6 += bytes.fromhex("00140000 00000000 50100000 00000000".replace(" ", ""))
"""The bytes behind the ports are a whole TCP header and, read as UDP, a true length."""
_ROW_BYTES, _CURSOR_BYTES = 48, 16
_FAILED = {"xdp": 0, "tc": 7}
_CHECKSUM_BASE = 0x4500 + 0x0028 + 0x0001 + 0x4000


@dataclass(frozen=True, slots=True)
class Program:
    """``hook``: "xdp" or "tc"."""

    hook: str
    fd: int


def rows4(headers: Headers) -> bytes:
    """struct row4 of each header."""
    rows = np.zeros(len(headers), dtype="<u4, <u4, <u4, u1, u1, >u2")
    src, dst = headers.ends[:, 0, 1], headers.ends[:, 1, 1]
    rows["f0"], rows["f1"] = (side.astype(np.uint32).byteswap() for side in (src, dst))
    rows["f2"] = _ports(headers)
    rows["f3"] = headers.protocol
    total = np.full(len(headers), _CHECKSUM_BASE, dtype=np.uint64) + headers.protocol.astype(np.uint64)
    for side in (src, dst):
        total += (side >> np.uint64(16)) + (side & np.uint64(0xFFFF))
    for _ in range(2):
        total = (total & np.uint64(0xFFFF)) + (total >> np.uint64(16))
    rows["f5"] = ~total & np.uint64(0xFFFF)
    return rows.tobytes()


def rows6(headers: Headers) -> bytes:
    """struct row6 of each header."""
    rows = np.zeros((len(headers), 6), dtype=np.uint64)
    rows[:, :4] = headers.ends.reshape(-1, 4).byteswap()
    rows[:, 4] = _ports(headers) | headers.protocol.astype(np.uint64) << np.uint64(32)
    return rows.tobytes()


def _ports(headers: Headers) -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    wire = headers.ports.astype(np.uint16).byteswap().astype(np.uint64)
    return wire[:, 0] | wire[:, 1] << np.uint64(16)


def middle_mean(values: Sequence[float]) -> float:
    """Without the lowest and the highest quarter."""
    quarter = len(values) // 4
    return statistics.fmean(sorted(values)[quarter : len(values) - quarter])


class Harness:
    """The driver, its trace, and where the program under test is put."""

    def __init__(self, repeat: int = 300_000) -> None:
        self.repeat = repeat
        self.maps = {
            "CURSOR": bpf.map_create(bpf.MAP_ARRAY, 4, _CURSOR_BYTES, 1, flags=bpf.F_MMAPABLE),
            "TRACE": bpf.map_create(bpf.MAP_ARRAY, 4, PACKETS * _ROW_BYTES, 1, flags=bpf.F_MMAPABLE),
            "XDP_TEST": bpf.map_create(native.PROG_ARRAY, 4, 4, 1),
            "TC_TEST": bpf.map_create(native.PROG_ARRAY, 4, 4, 1),
        }
        self.trace = bpf.map_memory(self.maps["TRACE"], PACKETS * _ROW_BYTES)
        self.cursor = bpf.map_memory(self.maps["CURSOR"], _CURSOR_BYTES)
        self._drivers = {
            key: native.load("driver.c", f"driver_{key}", self.maps) for key in ("xdp4", "xdp6", "tc4")
        }
        self.floors = {hook: Program(hook, self.own(f"floor_{hook}")) for hook in ("xdp", "tc")}
        self._family = 4
        self.floor_range: dict[str, tuple[float, float]] = {}
        """Least and greatest median of a hook's floor so far: how still the machine was."""

    def own(self, function: str) -> int:
        """A program of driver.c."""
        return native.load("driver.c", function, self.maps)

    def send(self, headers: Headers) -> None:
        """From now on packets have these headers, in a circle."""
        if not len(headers):
            raise ValueError("a trace without packets")
        whole = headers.take(np.arange(PACKETS) % len(headers))
        data = rows4(whole) if headers.family == 4 else rows6(whole)
        self.trace[: len(data)] = data
        self.cursor[:8] = bytes(8)
        self._family = headers.family

    def once(self, program: Program, repeat: int = 0) -> int:
        """Mean ns of a packet, driver included."""
        bpf.map_update(self.maps[f"{program.hook.upper()}_TEST"], bytes(4), program.fd.to_bytes(4, "little"))
        frame = FRAME4 if self._family == 4 else FRAME6
        driver = self._drivers[f"{program.hook}{self._family}"]
        result = testrun.prog_test_run(driver, frame, repeat=repeat or self.repeat)
        if result.verdict == _FAILED[program.hook]:
            raise RuntimeError("the driver did not reach the program under test")
        return result.nanoseconds

    def verdicts(self, program: Program, count: int) -> list[int]:
        """What it returns for the first packets of the trace. Bytes of the frame are otherwise constant."""
        self.cursor[:8] = bytes(8)
        bpf.map_update(self.maps[f"{program.hook.upper()}_TEST"], bytes(4), program.fd.to_bytes(4, "little"))
        frame = FRAME4 if self._family == 4 else FRAME6
        driver = self._drivers[f"{program.hook}{self._family}"]
        return [testrun.prog_test_run(driver, frame).verdict for _ in range(count)]

    def added(self, programs: Mapping[str, Program], rounds: int, *, fine: bool = False) -> dict[str, float]:
        """Median ns that each adds to the floor of its hook, measured in turn.

        ``fine``: the mean of the middle half instead, for differences of less than a nanosecond.
        """
        hooks = {program.hook for program in programs.values()}
        everyone = {f"floor {hook}": self.floors[hook] for hook in hooks} | dict(programs)
        for program in everyone.values():  # tables into the caches, flows into their memory
            self.once(program, PACKETS)
        seen: dict[str, list[int]] = {name: [] for name in everyone}
        for _ in range(rounds):
            for name, program in everyone.items():
                seen[name].append(self.once(program))
        centre = middle_mean if fine else statistics.median
        middle = {name: centre(values) for name, values in seen.items()}
        for hook in hooks:
            floor = middle[f"floor {hook}"]
            least, most = self.floor_range.get(hook, (floor, floor))
            self.floor_range[hook] = (min(least, floor), max(most, floor))
        return {
            name: middle[name] - middle[f"floor {program.hook}"] for name, program in programs.items()
        } | {f"floor {hook}": middle[f"floor {hook}"] for hook in hooks}
