"""The maps of one tracing session: made, filled and read. Nothing is pinned; they end with the session."""

from __future__ import annotations

import ctypes
import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from xdpguard.abi import abi
from xdpguard.kernel import bpf
from xdpguard.kernel.owners import Owners, create
from xdpguard.kernel.tracefilter import KernelFilter

_ABI = abi()
_KINDS = _ABI.numbers["XG_EV_KINDS"]
_SOCKETS, _CALLS, _FLOWS = 65536, 8192, 16384
_KEY, _FLOW = _ABI.structs["xg_flow_key"].size, _ABI.structs["xg_flow"].size
_LEDGER = struct.Struct(f"={len(_ABI.structs['xg_ledger'].fields)}Q")
_TAKE_BATCH = 25  # BPF_MAP_LOOKUP_AND_DELETE_BATCH, Linux 5.6
_BATCH = 1024


def ring_size(wanted: int) -> int:
    """A power of two of pages, at least one."""
    return max(mmap.PAGESIZE, 1 << (wanted - 1).bit_length())


class TraceMaps:
    """``fds``: XG_MAP_ names -> fds. ``close`` ends them; they are closed if making one fails (OSError)."""

    def __init__(self, wanted: KernelFilter, ring_bytes: int, owners: Owners | None = None) -> None:
        """``owners``: the map of socket owners that is kept; it stays the caller's."""
        self._stack = ExitStack()
        self._cpus = bpf.possible_cpus()
        self.fds: dict[str, int] = {}
        self._spare = -1
        self._active = -1
        try:
            self._create(wanted, ring_bytes)
            # Without one the programs do not come to use theirs.
            kept = create(entries=1) if owners is None else owners.duplicate()
            self._own("OWNERS", kept.fd)
            self._own("CHANGES", kept.changes)
        except BaseException:
            self.close()
            raise

    def _create(self, wanted: KernelFilter, ring_bytes: int) -> None:
        socket, call = _ABI.structs["xg_socket"].size, _ABI.structs["xg_call"].size
        ledger = _ABI.structs["xg_ledger"].size
        self._own("RING", bpf.map_create(bpf.MAP_RINGBUF, 0, 0, ring_bytes, name="xg_ring"))
        self._own("SOCKETS", bpf.map_create(bpf.MAP_LRU_HASH, 8, socket, _SOCKETS, name="xg_sockets"))
        self._own("CALLS", bpf.map_create(bpf.MAP_LRU_HASH, 8, call, _CALLS, name="xg_calls"))
        self._own("LEDGER", bpf.map_create(bpf.MAP_PERCPU_ARRAY, 4, ledger, _KINDS, name="xg_ledger"))
        self._own("SETS", wanted.create_sets())
        self._own("NETWORKS", wanted.create_networks())
        self._active, self._spare = (
            self._own(name, bpf.map_create(bpf.MAP_HASH, _KEY, _FLOW, _FLOWS, name=f"xg_{name}"))
            for name in ("flows0", "flows1")
        )
        outer = bpf.map_create(bpf.MAP_ARRAY_OF_MAPS, 4, 4, 1, inner=self._active, name="xg_flows")
        self._own("FLOWS", outer)
        self._switch(self._active)

    def _own(self, name: str, fd: int) -> int:
        self._stack.callback(os.close, fd)
        self.fds[f"XG_MAP_{name}"] = fd
        return fd

    def _switch(self, table: int) -> None:
        """Which flow table the programs use. Returns after the last program left the other (1ae80cf31938)."""
        bpf.map_update(self.fds["XG_MAP_FLOWS"], bytes(4), table.to_bytes(4, "little"))

    def linked(self) -> dict[str, int]:
        """For the linker: the maps that programs name."""
        return {name: fd for name, fd in self.fds.items() if name in _ABI.numbers}

    def take_flows(self) -> list[tuple[bytes, bytes]]:
        """Everything counted since the last call, with no datagram lost or counted twice."""
        self._switch(self._spare)
        self._active, self._spare = self._spare, self._active
        return list(_taken(self._spare, _KEY, _FLOW))

    def ledger(self) -> dict[int, tuple[int, ...]]:
        """Kind -> fields of struct xg_ledger, summed over CPUs."""
        return {kind: self.books(kind) for kind in range(1, _KINDS)}

    def books(self, kind: int) -> tuple[int, ...]:
        """Of one kind, the fields of struct xg_ledger, summed over CPUs."""
        size = _LEDGER.size * self._cpus
        data = bpf.map_lookup(self.fds["XG_MAP_LEDGER"], kind.to_bytes(4, "little"), size)
        return tuple(map(sum, zip(*_LEDGER.iter_unpack(data), strict=True)))

    def kernel_bytes(self) -> int:
        """Memory of all maps, as the kernel accounts it."""
        total = 0
        for fd in self.fds.values():
            lines = Path(f"/proc/self/fdinfo/{fd}").read_text().splitlines()
            total += next((int(line.split()[1]) for line in lines if line.startswith("memlock:")), 0)
        return total

    def close(self) -> None:
        """A second call does nothing."""
        self._stack.close()
        self.fds = {}


def _taken(fd: int, key_bytes: int, value_bytes: int) -> Iterator[tuple[bytes, bytes]]:
    """Empty a hash map that nobody writes meanwhile."""
    keys, values = (ctypes.create_string_buffer(_BATCH * size) for size in (key_bytes, value_bytes))
    place = ctypes.create_string_buffer(8)
    attributes = bytearray(56)
    start, more = 0, True
    while more:
        struct.pack_into(
            "=QQQQIIQQ", attributes, 0,
            start, ctypes.addressof(place), ctypes.addressof(keys), ctypes.addressof(values),
            _BATCH, fd, 0, 0,
        )  # fmt: skip
        try:
            bpf.call(_TAKE_BATCH, attributes)
        except FileNotFoundError:
            more = False  # these were the last
        start = ctypes.addressof(place)
        (count,) = struct.unpack_from("=I", attributes, 32)
        found = (memoryview(keys).cast("B"), memoryview(values).cast("B"))
        for index in range(count):
            key = bytes(found[0][index * key_bytes : (index + 1) * key_bytes])
            yield key, bytes(found[1][index * value_bytes : (index + 1) * value_bytes])
