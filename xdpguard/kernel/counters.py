"""One slot's counters, summed over CPUs. Only reads and zeroes; knows nothing of rules' names.

The programs add to the protocol x action matrix and to one decider with two separate stores. So that the
sums agree, a CPU's part is copied again until its matrix and its deciders do (at most _ATTEMPTS times: under
a flood and with tens of thousands of rules the last copy is taken as it is, and differs by the packets in
between).
"""

from __future__ import annotations

from array import array
from mmap import mmap

from xdpguard.abi import abi
from xdpguard.classify.tables import first_counter
from xdpguard.kernel.maps import MapSet
from xdpguard.kernel.sizes import COUNT_BYTES

_NUMBERS = abi().numbers
_HOOKS = _NUMBERS["XG_HOOKS"]
_MATRIX = _NUMBERS["XG_PROTOS"] * _NUMBERS["XG_ACTIONS"]
_RULES = _NUMBERS["XG_COUNT_RULES"]
_ATTEMPTS = 100
_CHUNK = 1 << 20


def read(found: MapSet, slot: int, rules: tuple[int, int]) -> list[list[list[int]]]:
    """``[hook][index]`` -> [packets, bytes], laid out as XG_COUNT_*; ``rules``: rules of either hook."""
    memory = found.counters(slot)
    try:
        return [
            _hook(memory, found, first_counter(hook, rules), _RULES + rules[hook]) for hook in range(_HOOKS)
        ]
    finally:
        memory.close()


def _hook(memory: mmap, found: MapSet, first: int, length: int) -> list[list[int]]:
    size = found.size
    packets, sizes = [0] * length, [0] * length
    for cpu in range(found.get("cpus")):
        start = size.counter_at(cpu, first)
        values = _consistent(memory, start, length)
        packets = [total + more for total, more in zip(packets, values[0::2], strict=True)]
        sizes = [total + more for total, more in zip(sizes, values[1::2], strict=True)]
    return [list(pair) for pair in zip(packets, sizes, strict=True)]


def _consistent(memory: mmap, start: int, length: int) -> array[int]:
    for _ in range(_ATTEMPTS):
        values = array("Q", memory[start : start + length * COUNT_BYTES])
        if sum(values[0 : 2 * _MATRIX : 2]) == sum(values[2 * _MATRIX :: 2]):
            break
    return values


def zero(found: MapSet, slot: int) -> None:
    memory = found.counters(slot)
    blank = bytes(min(len(memory), _CHUNK))
    for start in range(0, len(memory), _CHUNK):
        memory[start : start + _CHUNK] = blank[: len(memory) - start]
    memory.close()
