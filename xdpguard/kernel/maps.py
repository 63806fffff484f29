"""The maps of one interface: made, found again, read and written.

Owns what the maps are (types, sizes, names) and the one store that makes a generation live. What must never
break: the control word is written in one 8-byte store, and no slot is written while a packet may still read
it (``grace``). Knows nothing of rules; paths are in ``kernel/pins.py``.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from contextlib import ExitStack
from dataclasses import asdict, dataclass

from xdpguard.abi import abi
from xdpguard.errors import ForeignError
from xdpguard.kernel import bpf, netlink, objects
from xdpguard.kernel.sizes import SIZES, Size

_ABI = abi()
_NUMBERS = _ABI.numbers
SLOTS = _NUMBERS["XG_SLOTS"]
_CONTROL_BYTES = _NUMBERS["XG_CONTROL_BYTES"]
_NAME = slice(_ABI.offset("xg_control.name"), _ABI.offset("xg_control.name") + _NUMBERS["XG_NAME_BYTES"])
NAMES = ("control", "blobs", "counters", "targets", "totals")
ACCOUNTS, OWNERS, CHANGES = "accounts", "owners", "changes"
"""Of an interface loaded with --account-owners; the map of owners and that of its changes are the host's."""
_PREFIX = "xg_"


@dataclass(frozen=True, slots=True)
class Word:
    """The control word. ``deadline_ms``: CLOCK_BOOTTIME, 0 = none."""

    active: int
    previous: int
    deadline_ms: int = 0

    def pack(self) -> int:
        return (
            self.active
            | self.previous << _NUMBERS["XG_WORD_PREVIOUS_SHIFT"]
            | self.deadline_ms << _NUMBERS["XG_WORD_DEADLINE_SHIFT"]
        )

    @classmethod
    def unpack(cls, value: int) -> Word:
        mask = _NUMBERS["XG_WORD_SLOT_MASK"]
        previous = value >> _NUMBERS["XG_WORD_PREVIOUS_SHIFT"] & mask
        return cls(value & mask, previous, value >> _NUMBERS["XG_WORD_DEADLINE_SHIFT"])


class Control:
    """One control page (struct xg_control) as shared memory."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._page = bpf.map_memory(fd, _CONTROL_BYTES)
        self._words: dict[str, ctypes.c_uint64] = {}

    def get(self, field: str) -> int:
        return _ABI.get(self._page, f"xg_control.{field}")

    def put(self, field: str, value: int) -> None:
        """Set a field that no packet reads."""
        _ABI.put(self._page, f"xg_control.{field}", value)

    def _store(self, field: str, value: int) -> None:
        """One aligned 8-byte store; struct.pack_into would write byte by byte."""
        word = self._words.get(field)
        if word is None:
            word = ctypes.c_uint64.from_buffer(self._page, _ABI.offset(f"xg_control.{field}"))
            self._words[field] = word
        word.value = value

    @property
    def word(self) -> Word:
        return Word.unpack(self.get("word"))

    @word.setter
    def word(self, word: Word) -> None:
        self._store("word", word.pack())

    @property
    def interface(self) -> str:
        """The name that the interface had at its last load."""
        return os.fsdecode(netlink.text(self._page[_NAME]))

    @interface.setter
    def interface(self, name: str) -> None:
        encoded = os.fsencode(name)[: _NUMBERS["XG_NAME_BYTES"] - 1]
        self._page[_NAME] = encoded.ljust(_NUMBERS["XG_NAME_BYTES"], b"\0")

    def switch_bank(self, bank: int) -> None:
        self._store("bank", bank)

    @property
    def size(self) -> Size:
        return Size(*(self.get(name) for name in SIZES))

    @property
    def current_abi(self) -> bool:
        return self.get("abi_version") == _NUMBERS["XG_ABI_VERSION"]

    def close(self) -> None:
        self._words.clear()
        self._page.close()
        os.close(self.fd)


class MapSet(Control):
    """One interface's maps. Owns the fds (by name, see NAMES): they are closed with it, or if it fails."""

    def __init__(self, fds: dict[str, int]) -> None:
        self.fds = fds
        try:
            super().__init__(fds["control"])
            self._check()
        except BaseException:
            for fd in fds.values():
                os.close(fd)
            raise

    def _check(self) -> None:
        if self.get("magic") != _NUMBERS["XG_MAGIC"]:
            raise ForeignError(
                "a map called xg_control is not xdpguard's: its magic is wrong; nothing changed"
            )

    # ---- slots --------------------------------------------------------------------------------------------

    def _inner(self, outer: str, slot: int) -> int:
        number = int.from_bytes(bpf.map_lookup(self.fds[outer], slot.to_bytes(4, "little"), 4), "little")
        return objects.map_by_id(number)

    def blob(self, slot: int) -> mmap.mmap:
        fd = self._inner("blobs", slot)
        try:
            return bpf.map_memory(fd, self.size.blob_bytes)
        finally:
            os.close(fd)

    def counters(self, slot: int) -> mmap.mmap:
        """All CPUs' counters of a slot; see ``Size.counter_at``."""
        fd = self._inner("counters", slot)
        try:
            return bpf.map_memory(fd, self.get("cpus") * self.size.cpu_bytes)
        finally:
            os.close(fd)

    def totals(self) -> mmap.mmap:
        return bpf.map_memory(self.fds["totals"], 2 * self.size.bank_bytes)

    def grace(self) -> None:
        """Return after every packet that was in flight at the call is done.

        Putting an inner map into an outer one waits for that (Linux commit 1ae80cf31938).
        """
        fd = self._inner("blobs", 0)
        bpf.map_update(self.fds["blobs"], bytes(4), fd.to_bytes(4, "little"))
        os.close(fd)

    def close(self) -> None:
        super().close()
        for name, fd in self.fds.items():
            if name != "control":
                os.close(fd)


def create_control(found: MapSet) -> Control:
    """A private control page beside a set of maps, for a preflight."""
    fields = {name: found.get(name) for name in (*SIZES, "cpus")}
    return Control(_control_map(fields))


def create(size: Size, fields: dict[str, int]) -> MapSet:
    """Make the maps of one interface, all slots empty. ``fields``: more fields of struct xg_control.

    OSError: the kernel's; E2BIG, which says why: it takes no map value that large.
    """
    try:
        return _create(size, fields)
    except OSError as error:
        if error.errno != errno.E2BIG:
            raise
        needed = max(size.blob_bytes, size.bank_bytes, size.cpu_bytes)
        raise OSError(
            errno.E2BIG,
            f"these rules need map values of {needed} bytes, and this kernel takes less (4 MiB on Linux "
            "5.10, about 24,000 rules): use fewer rules",
        ) from error


def _create(size: Size, fields: dict[str, int]) -> MapSet:
    cpus = bpf.possible_cpus()
    fds = {
        "control": _control_map(
            {
                "epoch": int.from_bytes(os.urandom(8), "little"),
                **asdict(size),
                "cpus": cpus,
                "next_serial": 1,
                **fields,
            }
        )
    }
    most = _NUMBERS["XG_MAX_TARGETS"] * _NUMBERS["XG_HOOKS"] * SLOTS
    try:
        fds["blobs"] = _outer("blob", size.blob_bytes, 1)
        fds["counters"] = _outer("counter", size.cpu_bytes, cpus)
        fds["targets"] = bpf.map_create(bpf.MAP_DEVMAP_HASH, 4, 4, most, name=f"{_PREFIX}targets")
        fds["totals"] = bpf.map_create(
            bpf.MAP_ARRAY, 4, size.bank_bytes, 2, flags=bpf.F_MMAPABLE, name=f"{_PREFIX}totals"
        )
    except OSError:
        for fd in fds.values():
            os.close(fd)
        raise
    return MapSet(fds)


def _control_map(fields: dict[str, int]) -> int:
    fd = bpf.map_create(bpf.MAP_ARRAY, 4, _CONTROL_BYTES, 1, flags=bpf.F_MMAPABLE, name=f"{_PREFIX}control")
    page = bpf.map_memory(fd, _CONTROL_BYTES)
    marks = {"magic": _NUMBERS["XG_MAGIC"], "abi_version": _NUMBERS["XG_ABI_VERSION"]}
    for name, value in (marks | fields).items():
        _ABI.put(page, f"xg_control.{name}", value)
    page.close()
    return fd


def _outer(name: str, value_bytes: int, entries: int) -> int:
    """A map of SLOTS arrays, all made here once and with one shape: inlined lookups check the template's."""
    with ExitStack() as inner:  # the outer map keeps them
        fds: list[int] = []
        for slot in range(SLOTS):
            label = f"{_PREFIX}{name}{slot}"
            fd = bpf.map_create(bpf.MAP_ARRAY, 4, value_bytes, entries, flags=bpf.F_MMAPABLE, name=label)
            inner.callback(os.close, fd)
            fds.append(fd)
        outer = bpf.map_create(bpf.MAP_ARRAY_OF_MAPS, 4, 4, SLOTS, inner=fds[0], name=f"{_PREFIX}{name}s")
        for slot, fd in enumerate(fds):
            bpf.map_update(outer, slot.to_bytes(4, "little"), fd.to_bytes(4, "little"))
    return outer


def from_program(number: int) -> MapSet | None:
    """The maps of a loaded program, by its id; None if it is not one of ours or is gone."""
    try:
        program = objects.prog_by_id(number)
    except FileNotFoundError:
        return None
    found: dict[str, int] = {}
    for map_id in objects.prog_info(program).map_ids:
        fd = objects.map_by_id(map_id)
        name = objects.map_info(fd).name.removeprefix(_PREFIX)
        if name in (*NAMES, ACCOUNTS, OWNERS, CHANGES) and name not in found:
            found[name] = fd
        else:
            os.close(fd)
    os.close(program)
    if not found.keys() >= set(NAMES):
        for fd in found.values():
            os.close(fd)
        return None
    try:
        return MapSet(found)
    except (ForeignError, OSError, ValueError):
        return None
