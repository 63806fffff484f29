"""Generations in the slots of one interface's maps: write one, read one, choose a free one, fold one away.

Every function takes an open MapSet; the caller holds the interface's lock. What must never break: a slot
that a packet may still read is never written, and no count is lost or doubled (stats/totals.py).
"""

from __future__ import annotations

import time

from xdpguard.abi import abi
from xdpguard.classify.tables import Tables
from xdpguard.errors import KernelError, PrivilegeError
from xdpguard.generation import manifest, totals
from xdpguard.generation.manifest import Manifest
from xdpguard.generation.totals import Totals
from xdpguard.kernel import counters, lock
from xdpguard.kernel.link import Link
from xdpguard.kernel.maps import SLOTS, MapSet, Word
from xdpguard.kernel.sizes import Size, size_class
from xdpguard.rules.model import Action, Hook, RuleSet

_ABI = abi()
_FELL_BACK = _ABI.numbers["XG_FLAG_FELL_BACK"]
BUILTIN = 0
"""The slot of the built-in rule set: no rules, everything passes. Never reused."""
_SERIAL_AT = _ABI.offset("xg_blob.serial")  # a __u64
_HOOKS_AT = _ABI.offset("xg_blob.hook")
_LENGTH_BYTES = 8
_READ_ATTEMPTS = 50


def serial(found: MapSet, slot: int) -> int:
    """Of the generation in a slot; 0 = none."""
    memory = found.blob(slot)
    try:
        return _ABI.get(memory, "xg_blob.serial")
    finally:
        memory.close()


def describe(found: MapSet, slot: int) -> Manifest | None:
    """The names of the generation in a slot; None if it holds none."""
    data = _manifest(found, slot)
    return None if data is None else manifest.decode(data)


def loaded_at(found: MapSet, slot: int) -> float | None:
    """When the generation in a slot was loaded (seconds since the epoch), which names it; None: none is."""
    data = _manifest(found, slot)
    return None if data is None else manifest.loaded_at(data)


def targets(found: MapSet, slot: int) -> dict[str, int]:
    """The redirect targets of the generation in a slot: name -> ifindex."""
    data = _manifest(found, slot)
    return {} if data is None else manifest.targets(data)


def _manifest(found: MapSet, slot: int) -> bytes | None:
    memory = found.blob(slot)
    try:
        if not _ABI.get(memory, "xg_blob.serial"):
            return None
        start = _ABI.get(memory, "xg_blob.manifest")
        return memory[start : start + _ABI.get(memory, "xg_blob.manifest_bytes")]
    finally:
        memory.close()


def blob_bytes(found: MapSet, slot: int) -> bytes:
    """The used part of a slot's blob."""
    memory = found.blob(slot)
    try:
        return memory[: _ABI.get(memory, "xg_blob.bytes")]
    finally:
        memory.close()


def write(found: MapSet, slot: int, data: bytes | memoryview) -> None:
    """Fill a slot that no packet reads: marked empty first, valid last, counters zero in between."""
    clear(found, slot)
    counters.zero(found, slot)
    memory = found.blob(slot)
    try:
        memory[:_SERIAL_AT] = data[:_SERIAL_AT]
        memory[_SERIAL_AT + 8 : len(data)] = data[_SERIAL_AT + 8 :]
        _ABI.put(memory, "xg_blob.serial", _ABI.get(data, "xg_blob.serial"))
    finally:
        memory.close()


def clear(found: MapSet, slot: int) -> None:
    """Mark a slot empty."""
    memory = found.blob(slot)
    _ABI.put(memory, "xg_blob.serial", 0)
    memory.close()


def write_builtin(found: MapSet) -> None:
    """Slot 0: no rules, everything passes, nothing is malformed enough to drop."""
    from xdpguard.classify.compile import build  # NumPy, for the first load of an interface only

    ruleset = RuleSet("", Hook(Action.PASS), Hook(Action.PASS), malformed=Action.PASS)
    names = manifest.encode(manifest.describe(ruleset, time.time(), {}))
    write(found, BUILTIN, build(ruleset, take_serial(found), {}, names).blob)


def take_serial(found: MapSet) -> int:
    number = found.get("next_serial")
    found.put("next_serial", number + 1)
    return number


def free_slot(word: Word) -> int:
    """A slot that is neither active, nor the one to go back to, nor the built-in."""
    return next(slot for slot in range(1, SLOTS) if slot not in (word.active, word.previous))


def boot_ms() -> int:
    """Now, on the clock of the deadline (CLOCK_BOOTTIME)."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1_000_000


def expired(word: Word) -> bool:
    return bool(word.deadline_ms) and boot_ms() >= word.deadline_ms


def in_force(word: Word) -> int:
    """The slot that decides."""
    return word.previous if expired(word) else word.active


def fell_back(found: MapSet) -> bool:
    """Did a deadline pass, and nobody has chosen rules since? Who chooses leaves something to go back to."""
    word = found.word
    return bool(found.get("flags") & _FELL_BACK) and word.active == word.previous


def choose(found: MapSet, word: Word) -> None:
    """Put in force what somebody wants so. The mark of a fallback goes behind it: a kill in between would
    else leave no rules as if they had been chosen. Left there it marks nothing (``fell_back``).
    """
    found.word = word
    found.put("flags", found.get("flags") & ~_FELL_BACK)


def normalise(found: MapSet) -> Word:
    """If the deadline passed, make the fallback that the kernel side already took the plain state."""
    word = found.word
    if expired(word):
        found.put("flags", found.get("flags") | _FELL_BACK)
        word = Word(word.previous, word.previous)
        found.word = word
    return word


def settle(found: MapSet, where: Link) -> None:
    """Normalise on behalf of a command that only looks: an expired deadline costs every packet a clock read.

    Leaves it to the next one while another command is at work.
    """
    if not expired(found.word):
        return
    try:
        with lock.held([where], "xdpguard", wait=0):
            normalise(found)
    except (KernelError, PrivilegeError):
        return


# ---- totals -----------------------------------------------------------------------------------------------


def load_totals(found: MapSet) -> Totals:
    memory = found.totals()
    try:
        start = found.get("bank") * found.size.bank_bytes
        length = int.from_bytes(memory[start : start + _LENGTH_BYTES], "little")
        return totals.decode(memory[start + _LENGTH_BYTES : start + _LENGTH_BYTES + length])
    finally:
        memory.close()


def store_totals(found: MapSet, value: Totals) -> None:
    """Write the bank that is not in use, then switch to it in one store."""
    bank = 1 - found.get("bank")
    room = found.size.bank_bytes - _LENGTH_BYTES
    data = totals.packed(value)
    if len(data) > room:
        data = totals.encode(value, room, live_keys(found))
    memory = found.totals()
    start = bank * found.size.bank_bytes
    memory[start : start + _LENGTH_BYTES + len(data)] = len(data).to_bytes(_LENGTH_BYTES, "little") + data
    memory.close()
    found.switch_bank(bank)


def live_keys(found: MapSet) -> frozenset[str]:
    """Keys of every rule of every generation that is held."""
    held = (describe(found, slot) for slot in range(SLOTS))
    return frozenset(rule.key for one in held if one for hook in one.rules for rule in hook)


def _add_slot(found: MapSet, slot: int, value: Totals) -> None:
    """Add the counts of a generation."""
    memory = found.blob(slot)
    ingress, egress = (
        _ABI.get(memory, "xg_hook.rules", _HOOKS_AT + hook * _ABI.structs["xg_hook"].size) for hook in (0, 1)
    )
    memory.close()
    counts = counters.read(found, slot, (ingress, egress))
    totals.add_slot(value, lambda: describe(found, slot), counts)


def fold(found: MapSet, slot: int) -> None:
    """Move a slot's counts into the totals, so that it may be written. Waits for packets in flight."""
    found.grace()
    number = serial(found, slot)
    if not number:
        return
    value = load_totals(found)
    if number not in value.folded:
        _add_slot(found, slot, value)
        held = {serial(found, other) for other in range(SLOTS)}
        value.folded = (value.folded & held) | {number}
        store_totals(found, value)


def sum_of(found: MapSet) -> Totals:
    """Everything a set of maps ever counted: its totals and the slots that are not in them.

    Takes no lock: if a load moved counts meanwhile, it reads again.
    """
    for _ in range(_READ_ATTEMPTS):
        before = _marks(found)
        try:
            value = _sum_once(found)
        except ValueError:
            continue  # the bank was written while it was read
        if _marks(found) == before:
            return value
    raise KernelError("loads kept moving the counters while they were read: try again; nothing changed")


def _marks(found: MapSet) -> tuple[int, ...]:
    """What a load changes before it moves counts."""
    return (found.get("bank"), found.get("next_serial"), *(serial(found, slot) for slot in range(SLOTS)))


def _sum_once(found: MapSet) -> Totals:
    value = load_totals(found)
    for slot in range(SLOTS):
        number = serial(found, slot)
        if number and number not in value.folded:
            _add_slot(found, slot, value)
    return value


def absorb(found: MapSet, predecessor: MapSet) -> None:
    """Take over the counts of the set that this one replaced, once no packet uses that any more."""
    predecessor.grace()
    value = load_totals(found)
    epoch = predecessor.get("epoch")
    if epoch not in value.absorbed:
        totals.add_totals(value, sum_of(predecessor))
        value.absorbed.add(epoch)
        store_totals(found, value)
    found.put("predecessor", 0)


def size_for(tables: Tables, names: bytes) -> Size:
    """The size class for these tables; a bank has room for three such generations, all counted."""
    bank = 8192 + 3 * (len(names) + 32 * tables.counters)
    reached = _ABI.get(tables.blob, "xg_blob.manifest")
    return size_class(Size(len(tables.blob), reached, tables.counters, bank))
