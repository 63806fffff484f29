"""Runs in the guest: which rule decides, by programs that are loaded on tables built elsewhere.

    large_tables.py TABLES FRAMES

TABLES: one generation's bytes, compressed. FRAMES: JSON, sizes of maps and a list of [hook, frame in hex];
each goes once through its hook's program by BPF_PROG_TEST_RUN. Prints JSON: {"decided": [[decider...] of each
frame], "instructions": [XDP, TC]}, a decider being a counter's index in its hook. Attaches nothing.
"""

from __future__ import annotations

import json
import sys
import zlib
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

import numpy as np

from xdpguard.abi import abi
from xdpguard.classify.tables import counters_needed, first_counter
from xdpguard.generation import slots
from xdpguard.guard import programs
from xdpguard.kernel import maps, testrun
from xdpguard.kernel.maps import MapSet
from xdpguard.kernel.sizes import Size, size_class

_DECIDERS = abi().numbers["XG_COUNT_REASONS"]


def _deciders(found: MapSet, hook: int, rules: tuple[int, int]) -> list[int]:
    """Indices of the deciders that have counted in this hook, on any CPU. All counters are then zero."""
    size = found.size
    last = counters_needed(rules) if hook else first_counter(1, rules)
    first = first_counter(hook, rules) + _DECIDERS
    memory = found.counters(1)
    moved: set[int] = set()
    for cpu in range(found.get("cpus")):
        counts = np.frombuffer(memory, np.uint64, size.counters * 2, size.counter_at(cpu, 0))[::2]
        moved |= set((np.nonzero(counts[first:last])[0] + _DECIDERS).tolist())
        counts[:] = 0
    return sorted(moved)


def main(tables: str, frames: str) -> None:
    stored = json.loads(Path(frames).read_text())
    data = zlib.decompress(Path(tables).read_bytes())
    found = maps.create(size_class(Size(**stored["size"])), {"next_serial": 3})
    slots.write(found, 1, data)
    found.word = maps.Word(1, 0)
    loaded = programs.load(found, statistics=True)
    rules = (stored["rules"][0], stored["rules"][1])
    decided = []
    for hook, frame in stored["frames"]:
        program = (loaded.ingress, loaded.egress)[hook]
        testrun.prog_test_run(program.fd, bytes.fromhex(frame))
        decided.append(_deciders(found, hook, rules))
    numbers = [loaded.ingress.instructions, loaded.egress.instructions]
    print(json.dumps({"decided": decided, "instructions": numbers}))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except OSError as error:
        sys.exit(error.strerror)
