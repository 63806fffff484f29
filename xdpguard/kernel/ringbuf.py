"""The reader's side of a BPF ring buffer (Documentation/bpf/ringbuf.rst).

Owns its two mappings: the consumer's position, which only we write, and the producer's position with the
data, mapped twice in a row so that no record is cut. A record is 8 bytes of header (length with two flags)
and its data, rounded up to 8.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
import select
import threading
import time

_BUSY, _DISCARDED = 1 << 31, 1 << 30
_LENGTH = _DISCARDED - 1
_HEADER = 8
_DATA = mmap.PAGESIZE + _HEADER  # of the first record, after the page with the producer's position
_GATHER = 0.05
"""Seconds between two readings that wait: the kernel wakes a reader for the first record after it had read
all, and no more, so that a stream of events costs 20 wakeups a second. What comes after a pause is read at
once: its process may not be there for long."""
_CROWDED = 16  # no more is waited for when that part of the ring is full

_ordered = platform.machine() in ("x86_64", "i686")
_lock = threading.Lock()


def _fence() -> None:
    """No load before it is done after it. Loads keep their order on x86; elsewhere a lock's own fences do it.

    What is before the first release stays there, what is after the second acquire too, and the two keep
    their order.
    """
    if not _ordered:
        for _ in range(2):
            _lock.acquire()
            _lock.release()


class Ring:
    """Reads the ring ``fd`` of ``size`` bytes, a power of two of pages. It does not own the fd.

    ``crowded``: the last reading found it more than half full. Else nothing since the one before lacked room.
    """

    def __init__(self, fd: int, size: int) -> None:
        self._size = size
        self.crowded = False
        self._consumer = mmap.mmap(fd, mmap.PAGESIZE, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
        try:
            self._producer = mmap.mmap(
                fd, mmap.PAGESIZE + 2 * size, mmap.MAP_SHARED, mmap.PROT_READ, offset=mmap.PAGESIZE
            )
        except BaseException:
            self._consumer.close()
            raise
        # Aligned accesses of 8 and 4 bytes at once, which struct.pack_into does not promise.
        self._position: ctypes.c_uint64 | None = ctypes.c_uint64.from_buffer(self._consumer)
        self._whole = memoryview(self._producer)
        self._produced = self._whole[:8].cast("Q")
        self._data = self._whole[mmap.PAGESIZE :]
        self._lengths = self._data.cast("I")
        self._ready = select.poll()
        self._ready.register(fd, select.POLLIN)
        self._rested = float("-inf")  # until when records are let gather: time.monotonic()

    def read(self, most: int) -> list[bytes]:
        """Up to ``most`` records that are there, oldest first."""
        found: list[bytes] = []
        if self._position is None:
            return found
        at = self._position.value
        end = self._produced[0]
        self.crowded = end - at > self._size // 2
        _fence()
        mask, lengths, whole = self._size - 1, self._lengths, self._producer
        while at < end and len(found) < most:
            start = at & mask
            header = lengths[start >> 2]
            if header & _BUSY:
                break  # reserved by a program that is still writing
            if not _ordered:
                _fence()
            length = header & _LENGTH
            if not header & _DISCARDED:
                first = start + _DATA
                found.append(whole[first : first + length])
            at += (_HEADER + length + 7) & ~7
        self._position.value = at
        return found

    def wait(self, timeout: float, most: int) -> list[bytes]:
        """The same, after at most ``timeout`` seconds of waiting for records and then for more of them."""
        if self._position is None:
            return []
        if self._produced[0] - self._position.value < self._size // _CROWDED:
            rest = min(self._rested - time.monotonic(), timeout)
            if rest > 0:
                time.sleep(rest)
                timeout -= rest
            # poll(2) asks the ring itself, so that no wakeup is lost between the last read() and here.
            if self._ready.poll(max(0, int(timeout * 1000))):
                self._rested = time.monotonic() + _GATHER
        return self.read(most)

    def close(self) -> None:
        """A second call does nothing."""
        if self._position is None:
            return
        self._position = None
        for view in (self._lengths, self._data, self._produced, self._whole):
            view.release()
        self._producer.close()
        self._consumer.close()
