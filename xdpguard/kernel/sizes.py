"""How large the maps of one interface are. Pure."""

from __future__ import annotations

from dataclasses import dataclass, fields

from xdpguard.abi import abi

_ABI = abi()
COUNT_BYTES = _ABI.structs["xg_count"].size
CPU_BYTES = _ABI.structs["xg_cpu"].size


@dataclass(frozen=True, slots=True)
class Size:
    """Sizes of the maps of one interface: of a blob, of what the programs reach of it, of a CPU's counters in
    a slot, of a bank of totals.
    """

    blob_bytes: int
    table_bytes: int
    counters: int
    bank_bytes: int

    @property
    def cpu_bytes(self) -> int:
        """Of one CPU's element in the array of counters of a slot: struct xg_cpu, then the counters."""
        return CPU_BYTES + self.counters * COUNT_BYTES

    def counter_at(self, cpu: int, index: int) -> int:
        """Where a counter lies in that array, in bytes."""
        return cpu * self.cpu_bytes + CPU_BYTES + index * COUNT_BYTES

    def holds(self, need: Size) -> bool:
        return self.joined(need) == self

    def joined(self, other: Size) -> Size:
        """The smallest that holds both."""
        return Size(
            max(self.blob_bytes, other.blob_bytes),
            max(self.table_bytes, other.table_bytes),
            max(self.counters, other.counters),
            max(self.bank_bytes, other.bank_bytes),
        )


SIZES = tuple(one.name for one in fields(Size))
"""Also fields of struct xg_control."""


def size_class(need: Size) -> Size:
    """Rounded up, with a floor: few loads then need larger maps and so new programs.

    What the programs reach by a mask goes to a power of two, the rest to an eighth of one.
    """
    floor = Size(256 << 10, 256 << 10, 1 << 10, 64 << 10)
    need = need.joined(floor)
    tables = _power(need.table_bytes)
    blob = max(tables, _rounded(need.blob_bytes, tables // 8))
    bank = _rounded(need.bank_bytes, _power(need.bank_bytes) // 8)
    return Size(blob, tables, _power(need.counters), bank)


def _power(value: int) -> int:
    """The next power of two."""
    return 1 << (value - 1).bit_length()


def _rounded(value: int, step: int) -> int:
    return -(-value // step) * step
