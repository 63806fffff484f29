"""Numbered frames at kernel speed through both hooks of an interface, and the time at which each one
arrives.

A small program numbers frames and sends them (BPF_PROG_TEST_RUN with live frames): into the interface from
its peer by redirect, out of it by way of the namespace's lo. Another marks what gets through behind the
filter. Both note the time (CLOCK_MONOTONIC) in one array element a frame, so nothing is sampled and no
capture can lose any. The port of a frame is PORT + number % 8. The programs are written by hand: eBPF
instructions, uapi/linux/bpf.h.
"""

from __future__ import annotations

import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from lab import End, inside
from numpy.typing import NDArray
from test_lifecycle_support import frame

from xdpguard.kernel import bpf, netlink
from xdpguard.kernel.testrun import prog_test_run

Times = NDArray[np.uint64]
PORT, KINDS = 5000, 8
SIZE = len(frame(PORT))
_BATCH = 64  # frames of one queue; a veth's ring has room for 256
_LEAST, _MOST = 8 * _BATCH, 64 * _BATCH  # frames a call: each call sets up its pages anew
_LIVE_FRAMES = 1 << 1  # BPF_F_TEST_XDP_LIVE_FRAMES
_PORT_AT, _CHECKSUM_AT, _NUMBER_AT, _MARK_AT = 36, 40, 42, 50
_MARK = 0x5AFE0E5
_XDP_PASS, _TC_SHOT = 2, 2
_LOOKUP, _NOW, _REDIRECT = 1, 5, 23  # helpers


def _op(code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> bytes:
    return struct.pack("=BBhi", code, source << 4 | to, offset, value)


def _map(to: int, fd: int) -> bytes:
    return _op(0x18, to, 1, value=fd) + _op(0)  # ld_imm64, BPF_PSEUDO_MAP_FD


def _frame_or(skip: int, data_at: int, end_at: int) -> bytes:
    """r6 = the frame; past ``skip`` instructions if it is shorter than ours."""
    return (
        _op(0x61, 6, 1, data_at) + _op(0x61, 7, 1, end_at)
        + _op(0xBF, 8, 6) + _op(0x07, 8, value=SIZE) + _op(0x2D, 8, 7, skip)
    )  # fmt: skip


def _element(fd: int, skip: int) -> bytes:
    """r0 = the element of a map whose key is r8; past ``skip`` more instructions if there is none."""
    return (
        _op(0x63, 10, 8, -4) + _map(1, fd) + _op(0xBF, 2, 10) + _op(0x07, 2, value=-4)
        + _op(0x85, value=_LOOKUP) + _op(0x15, 0, 0, skip)
    )  # fmt: skip


def _returning(value: int) -> bytes:
    return _op(0xB7, 0, value=value) + _op(0x95)


def _source(counter: int, sent: int, ending: bytes) -> bytes:
    """XDP: number a frame, note the time, send it. It stops at the end of the array."""
    note = _op(0x7B, 0, 9)  # *r0 = r9
    number = (
        _op(0x79, 8, 9) + _op(0xBF, 0, 8) + _op(0x07, 0, value=1) + _op(0x7B, 9, 0)  # r8 = (*r9)++
        + _op(0x7B, 6, 8, _NUMBER_AT)
        + _op(0xBF, 0, 8) + _op(0x57, 0, value=KINDS - 1) + _op(0x07, 0, value=PORT)
        + _op(0xDC, 0, value=16) + _op(0x6B, 6, 0, _PORT_AT)
    )  # fmt: skip
    now = _op(0x85, value=_NOW) + _op(0xBF, 9, 0)
    tail = note + ending
    body = (
        _op(0xB7, 8) + _element(counter, (len(number + now) + len(_element(sent, 0)) + len(tail)) // 8 + 1)
        + _op(0xBF, 9, 0) + number + now + _element(sent, len(tail) // 8) + tail
    )  # fmt: skip
    return _frame_or(len(body) // 8, 0, 4) + body + _returning(1)


def _sink(arrived: int) -> bytes:
    """TC: note when a frame of ours comes by, and take it away; others pass."""
    note = _op(0x85, value=_NOW) + _op(0x7B, 9, 0) + _returning(_TC_SHOT)
    body = (
        _op(0x61, 0, 6, _MARK_AT)
        + _op(0x55, 0, 0, (len(_element(arrived, 0)) + 16 + len(note)) // 8, _MARK)
        + _op(0x79, 8, 6, _NUMBER_AT) + _element(arrived, len(note) // 8 + 1) + _op(0xBF, 9, 0) + note
    )  # fmt: skip
    return _frame_or(len(body) // 8, 76, 80) + body + _returning(0)


def _redirect(ifindex: int) -> bytes:
    return _op(0xB7, 1, value=ifindex) + _op(0xB7, 2) + _op(0x85, value=_REDIRECT) + _op(0x95)


def template() -> bytes:
    """A frame of ours; its UDP checksum is "none"."""
    data = bytearray(frame(PORT))
    data[_CHECKSUM_AT : _CHECKSUM_AT + 2] = bytes(2)
    data[_MARK_AT : _MARK_AT + 4] = _MARK.to_bytes(4, "little")
    return bytes(data)


@dataclass(frozen=True, slots=True)
class Seen:
    """Of each frame sent, in order: when it was sent and when it arrived (ns); 0: it did not."""

    sent: Times
    arrived: Times


class Stream:
    """Frames through one hook of ``end``: ``hook`` "ingress" from ``peer``, "egress" towards it."""

    def __init__(self, end: End, peer: End, hook: str, room: int) -> None:
        self._room = room
        self._fds = [self._array(entries) for entries in (1, room, room)]
        self._counter, self._sent, self._arrived = (
            np.frombuffer(bpf.map_memory(fd, 8 * entries), np.uint64, entries)
            for fd, entries in zip(self._fds, (1, room, room), strict=True)
        )
        counter, sent, arrived = self._fds
        into = hook == "ingress"
        self._namespace = (peer if into else end).name
        ending = _redirect(peer.ifindex) if into else _returning(_XDP_PASS)
        self._program = bpf.prog_load(bpf.PROG_XDP, _source(counter, sent, ending), "source").fd
        sink = bpf.prog_load(bpf.PROG_SCHED_CLS, _sink(arrived), "sink").fd
        target = end if into else peer
        inside(target.name, _at_ingress, target.ifindex, sink)
        if not into:
            inside(
                end.name, _at_ingress, 1, bpf.prog_load(bpf.PROG_SCHED_CLS, _redirect(end.ifindex), "out").fd
            )

    @staticmethod
    def _array(entries: int) -> int:
        return bpf.map_create(bpf.MAP_ARRAY, 4, 8, entries, flags=bpf.F_MMAPABLE, name="stream")

    def start(self, per_second: int) -> subprocess.Popen[str]:
        """A process that sends as many frames as there is room for, then ends."""
        words = [self._namespace, self._program, self._room, per_second]
        return subprocess.Popen(
            [sys.executable, __file__, *map(str, words)], pass_fds=[self._program], text=True
        )

    @property
    def count(self) -> int:
        return int(self._counter[0])

    def take(self) -> Seen:
        """What was seen since the last time; then from number 0 on again. Nothing may be sent meanwhile."""
        count = min(self.count, self._room)
        seen = Seen(self._sent[:count].copy(), self._arrived[:count].copy())
        for array in (self._counter, self._sent, self._arrived):
            array[:] = 0
        return seen


def _at_ingress(ifindex: int, fd: int) -> None:
    with netlink.session() as session:
        if ifindex not in [
            one["index"] for one in session.get_qdiscs() if one.get_attr("TCA_KIND") == "clsact"
        ]:
            session.tc("add", "clsact", index=ifindex)
        session.tc(
            "add-filter", "bpf", index=ifindex, parent=0xFFFFFFF2, handle=1, prio=1, protocol=3,
            fd=fd, name="stream", direct_action=True,
        )  # fmt: skip


def _send(program: int, frames: int, per_second: int) -> None:
    """As many at a time as are due."""
    done, start, data = 0, time.monotonic(), template()
    while done < frames:
        due = min(int((time.monotonic() - start) * per_second) - done, _MOST, frames - done)
        if due < _LEAST and done + due < frames:
            time.sleep(_LEAST / per_second)
            continue
        prog_test_run(program, data, repeat=due, batch=_BATCH, flags=_LIVE_FRAMES, out_bytes=0)
        done += due


if __name__ == "__main__":
    inside(sys.argv[1], _send, *map(int, sys.argv[2:]))
