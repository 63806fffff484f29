"""The reader of a ring buffer, on a file laid out as the kernel lays the ring out. No kernel ring here."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xdpguard.kernel import ringbuf
from xdpguard.kernel.ringbuf import Ring

SIZE = mmap.PAGESIZE
BUSY, DISCARDED = 1 << 31, 1 << 30


class Kernel:
    """The producer's side: the consumer's position, the producer's, and the data, twice in a row."""

    def __init__(self) -> None:
        self.fd = os.memfd_create("ring")
        os.ftruncate(self.fd, 2 * mmap.PAGESIZE + 2 * SIZE)
        self.produced = 0

    def start(self, position: int) -> None:
        """As if that many bytes had been written and read before."""
        os.pwrite(self.fd, struct.pack("=Q", position), 0)
        self._move(position)

    def _move(self, position: int) -> None:
        self.produced = position
        os.pwrite(self.fd, struct.pack("=Q", position), mmap.PAGESIZE)

    def write(self, data: bytes, flags: int = 0) -> int:
        """One record; where it is."""
        at = self.produced
        record = (struct.pack("=II", len(data) | flags, 0) + data).ljust(8 + (len(data) + 7) // 8 * 8, b"\0")
        for place, byte in enumerate(record):
            start = 2 * mmap.PAGESIZE + (at + place) % SIZE
            os.pwrite(self.fd, bytes((byte,)), start)
            os.pwrite(self.fd, bytes((byte,)), start + SIZE)
        self._move(at + len(record))
        return at

    def commit(self, at: int, length: int, flags: int = 0) -> None:
        for copy in (0, SIZE):
            place = 2 * mmap.PAGESIZE + at % SIZE + copy
            os.pwrite(self.fd, struct.pack("=I", length | flags), place)

    @property
    def consumed(self) -> int:
        (found,) = struct.unpack("=Q", os.pread(self.fd, 8, 0))
        return int(found)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    made = Kernel()
    yield made
    os.close(made.fd)


@pytest.fixture
def ring(kernel: Kernel) -> Iterator[Ring]:
    made = Ring(kernel.fd, SIZE)
    yield made
    made.close()


def test_records_come_whole_and_in_order_and_their_room_is_given_back(kernel: Kernel, ring: Ring) -> None:
    records = [b"a" * 8, b"b" * 13, b"", b"c" * 160]
    for one in records:
        kernel.write(one)
    assert ring.read(10) == records
    assert kernel.consumed == kernel.produced
    assert ring.read(10) == []


@given(lengths=st.lists(st.integers(0, 300), max_size=8), start=st.integers(0, 1 << 40))
def test_records_are_whole_wherever_the_ring_begins_anew(lengths: list[int], start: int) -> None:
    kernel = Kernel()
    kernel.start(start * 8)
    ring = Ring(kernel.fd, SIZE)
    records = [bytes((length % 251,)) * length for length in lengths]
    for one in records:
        kernel.write(one)
    assert ring.read(100) == records
    ring.close()
    os.close(kernel.fd)


def test_no_more_than_asked_for_comes_at_a_time(kernel: Kernel, ring: Ring) -> None:
    for number in range(5):
        kernel.write(bytes((number,)) * 8)
    assert [one[0] for one in ring.read(2)] == [0, 1]
    assert kernel.consumed == 32
    assert [one[0] for one in ring.wait(0, 2)] == [2, 3]
    assert [one[0] for one in ring.read(2)] == [4]


def test_a_record_that_is_being_written_holds_those_behind_it_back(kernel: Kernel, ring: Ring) -> None:
    kernel.write(b"first...")
    at = kernel.write(b"second..", BUSY)
    kernel.write(b"third...")
    assert ring.read(10) == [b"first..."]
    assert kernel.consumed == at
    kernel.commit(at, 8)
    assert ring.read(10) == [b"second..", b"third..."]


def test_a_record_that_was_given_up_is_passed_over(kernel: Kernel, ring: Ring) -> None:
    kernel.write(b"not wanted", DISCARDED)
    kernel.write(b"wanted..")
    assert ring.read(10) == [b"wanted.."]
    assert kernel.consumed == kernel.produced


def test_a_record_may_lie_across_the_end(kernel: Kernel, ring: Ring) -> None:
    ring.close()
    kernel.start(SIZE - 16)
    again = Ring(kernel.fd, SIZE)
    kernel.write(bytes(range(64)))
    assert again.read(1) == [bytes(range(64))]
    again.close()


class Clock:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def monotonic(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(ringbuf, "time", made)
    return made


def test_what_comes_after_a_pause_is_read_at_once_and_what_follows_gathers(
    kernel: Kernel, ring: Ring, clock: Clock
) -> None:
    kernel.write(b"first...")
    assert ring.wait(1.0, 10) == [b"first..."]
    assert clock.slept == []
    kernel.write(b"second..")
    assert ring.wait(1.0, 10) == [b"second.."]
    assert clock.slept == [0.05]
    clock.now += 1.0
    kernel.write(b"third...")
    assert ring.wait(1.0, 10) == [b"third..."]
    assert clock.slept == [0.05]


def test_nobody_gathers_for_longer_than_was_asked_for_or_while_the_ring_fills(
    kernel: Kernel, ring: Ring, clock: Clock
) -> None:
    kernel.write(b"first...")
    ring.wait(1.0, 10)
    kernel.write(b"second..")
    ring.wait(0, 10)
    assert clock.slept == []
    kernel.write(b"x" * (SIZE // 8))
    ring.wait(1.0, 10)
    assert clock.slept == []


def test_a_ring_that_was_more_than_half_full_was_crowded(kernel: Kernel, ring: Ring) -> None:
    kernel.write(b"x" * (SIZE // 2 + 8))
    ring.read(10)
    assert ring.crowded
    kernel.write(b"x" * (SIZE // 4))
    ring.read(10)
    assert not ring.crowded


def test_a_ring_that_is_closed_has_nothing_and_may_be_closed_again(kernel: Kernel, ring: Ring) -> None:
    kernel.write(b"too late")
    ring.close()
    ring.close()
    assert ring.read(1) == []
    assert kernel.consumed == 0
