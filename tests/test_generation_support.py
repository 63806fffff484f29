"""A MapSet over memory files, so that generations can be tested without a kernel; and what loads do to it."""

from __future__ import annotations

import os
from dataclasses import asdict
from functools import cache

import pytest

from xdpguard.abi import abi
from xdpguard.classify.compile import build
from xdpguard.generation import manifest, slots
from xdpguard.kernel.maps import SLOTS, MapSet, Word
from xdpguard.kernel.sizes import Size
from xdpguard.rules.model import Action, Hook, Match, Rule, RuleSet

ABI = abi()
NUMBERS = ABI.numbers
CPUS = 2
SIZE = Size(32 << 10, 32 << 10, 256, 64 << 10)


class Crashed(Exception):
    """The process died here."""


class Memory(MapSet):
    """A MapSet whose maps are memory files. With ``dies`` set it raises before its ``dies``-th access."""

    def __init__(self, size: Size = SIZE, epoch: int = 1) -> None:
        self.dies, self.graces = 0, 0
        lengths = {"blobs": size.blob_bytes, "counters": CPUS * size.cpu_bytes}
        self.inner = {
            (outer, slot): self._file(length) for outer, length in lengths.items() for slot in range(SLOTS)
        }
        control = self._file(NUMBERS["XG_CONTROL_BYTES"])
        page = bytearray(NUMBERS["XG_CONTROL_BYTES"])
        for name, value in {
            "magic": NUMBERS["XG_MAGIC"],
            "epoch": epoch,
            **asdict(size),
            "cpus": CPUS,
            "next_serial": 1,
        }.items():
            ABI.put(page, f"xg_control.{name}", value)
        os.pwrite(control, page, 0)
        super().__init__({"control": control, "totals": self._file(2 * size.bank_bytes)})

    @staticmethod
    def _file(length: int) -> int:
        fd = os.memfd_create("map")
        os.ftruncate(fd, -(-length // 4096) * 4096)
        return fd

    def _step(self) -> None:
        if self.dies:
            self.dies -= 1
            if not self.dies:
                raise Crashed

    def _inner(self, outer: str, slot: int) -> int:
        self._step()
        return os.dup(self.inner[outer, slot])

    def _store(self, field: str, value: int) -> None:
        self._step()
        super()._store(field, value)
        self._step()

    def grace(self) -> None:
        self._step()
        self.graces += 1

    def close(self) -> None:
        super().close()
        for fd in self.inner.values():
            os.close(fd)


KEYS = (("a", "b"), ("b", "c"), ("d",), ())
"""Keys of the ingress rules of the rule sets that are loaded; two of them share a rule."""


@cache
def body(keys: tuple[str, ...]) -> bytes:
    rules = tuple(Rule(f"rule-{key}", Action.DROP, Match(), None, key, 1, 1) for key in keys)
    ruleset = RuleSet("t.yaml", Hook(Action.PASS, rules), Hook(Action.PASS))
    names = manifest.encode(manifest.describe(ruleset, 0.0, {}))
    return build(ruleset, 0, {}, names).blob.tobytes()


def generation(keys: tuple[str, ...], serial: int) -> bytes:
    data = bytearray(body(keys))
    ABI.put(data, "xg_blob.serial", serial)
    return bytes(data)


def load(found: MapSet, keys: tuple[str, ...]) -> None:
    """What guard/stage.py does, without programs."""
    word = slots.normalise(found)
    serial = slots.take_serial(found)
    slot = slots.free_slot(word)
    slots.fold(found, slot)
    slots.write(found, slot, generation(keys, serial))
    found.word = Word(slot, word.active)


def roll_back(found: MapSet) -> None:
    word = found.word
    found.word = Word(word.previous, word.active)


def expire(found: MapSet) -> None:
    """A deadline passed, and a command stored what the programs do already."""
    previous = found.word.previous
    found.word = Word(previous, previous)


CHANGES = {"rollback": roll_back, "expire": expire}


def traffic(found: Memory, packets: int) -> list[str]:
    """Count packets of 60 bytes as the programs would: in the matrix, and at each rule of the active slot."""
    slot = found.word.active
    names = slots.describe(found, slot)
    keys = [rule.key for rule in names.rules[0]] if names else []
    memory = found.counters(slot)
    for cpu in range(CPUS):
        for index in (0, *(NUMBERS["XG_COUNT_RULES"] + at for at in range(len(keys)))):
            at = found.size.counter_at(cpu, index)
            ABI.put(memory, "xg_count.packets", ABI.get(memory, "xg_count.packets", at) + packets, at)
            ABI.put(memory, "xg_count.bytes", ABI.get(memory, "xg_count.bytes", at) + 60 * packets, at)
    memory.close()
    return keys


def counted(found: MapSet) -> dict[str, int]:
    """Packets by rule, over all that the maps ever counted."""
    rules = slots.sum_of(found).hooks[0].rules
    assert all(rule.count[1] == 60 * rule.count[0] for rule in rules.values())
    return {key: rule.count[0] for key, rule in rules.items() if rule.count[0]}


# ---- the stand-in itself ----------------------------------------------------------------------------------
@pytest.mark.parametrize("dies", [1, 3])
def test_the_process_dies_before_the_access_that_was_named(dies: int) -> None:
    found = Memory()
    found.dies = dies
    for _ in range(dies - 1):
        found.blob(1).close()
    with pytest.raises(Crashed):
        found.blob(1)
    found.blob(1).close()
    found.close()


def test_what_is_stored_is_seen_by_the_next_who_opens_it() -> None:
    found = Memory()
    for opened in (found.blob, found.counters):
        memory = opened(3)
        memory[:4] = b"data"
        memory.close()
        assert opened(3)[:4] == b"data"
        assert opened(2)[:4] == bytes(4)
    found.close()
