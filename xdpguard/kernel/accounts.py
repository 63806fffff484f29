"""The accounts of one interface: packets, bytes and drops by hook and owner. accounts.h writes them.

Owns the map: it is made once for an interface, belongs to its set of maps, and is never reset. What must
never break: an account, once there, stays, so that the accounts always add up.
"""

from __future__ import annotations

import struct
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from xdpguard.abi import abi
from xdpguard.kernel import bpf, objects

_ABI = abi()
_NUMBERS = _ABI.numbers
_BYTES = 16 << 20  # about what one map takes at most
_FEWEST, _MOST = 1024, 16384  # powers of two
_ACCOUNT, _COMM = _ABI.structs["xg_account"].size, _NUMBERS["XG_COMM_BYTES"]
_HEAD, _NOBODY_AT = _ABI.structs["xg_accounts"].size, _ABI.offset("xg_accounts.nobody")
_FIELDS = struct.Struct("=QQ4I4Q")  # struct xg_account
_FREE, _NO_UID, _NOBODY_KINDS = (
    _NUMBERS[name] for name in ("XG_ACCOUNT_FREE", "XG_NO_UID", "XG_NOBODY_KINDS")
)
KINDS = {
    _NUMBERS[f"XG_ACCOUNT_{name.upper()}"]: name
    for name in ("owner", "kernel", "no_owner", "no_ports", "no_room")
}
_Key = tuple[int, ...]
"""start_time, cgroup, pid, uid, hook, kind"""


@dataclass(frozen=True, slots=True)
class Account:
    """``kind``: "owner", "kernel", "no_owner", "no_ports", "no_room". None: not known.

    ``start_time``: ns, CLOCK_BOOTTIME. ``comm``: the name of the process when its first packet came.
    ``dropped_*``: of these packets and bytes, those with the verdict drop, or aborted.
    """

    hook: int
    kind: str
    pid: int | None
    start_time: int
    uid: int | None
    cgroup: int | None
    comm: str
    packets: int
    bytes: int
    dropped_packets: int
    dropped_bytes: int


def entries() -> int:
    """How many accounts an interface has room for on each CPU of this machine; a power of two."""
    room = max(_FEWEST, min(_MOST, _BYTES // ((_ACCOUNT + _COMM) * bpf.possible_cpus())))
    return 1 << (room.bit_length() - 1)


def create(room: int = 0) -> int:
    """A map without accounts. ``room``: for how many beside those of nobody in particular; a power of two."""
    size = _HEAD + (room or entries()) * (_ACCOUNT + _COMM)
    cpus = bpf.possible_cpus()
    return bpf.map_create(bpf.MAP_ARRAY, 4, size, cpus, flags=bpf.F_MMAPABLE, name="xg_accounts")


def mask(fd: int) -> int:
    """XG_NUMBER_ACCOUNT_MASK of a map."""
    return (_room(objects.map_info(fd).value_bytes) - 1) * _ACCOUNT


def _room(value_bytes: int) -> int:
    return (value_bytes - _HEAD) // (_ACCOUNT + _COMM)


def read(fd: int) -> list[Account]:
    """All of them, summed over CPUs. Takes no lock: those that are opened meanwhile may be missing."""
    size, cpus = objects.map_info(fd).value_bytes, bpf.possible_cpus()
    sums: dict[_Key, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    names: dict[_Key, bytes] = {}
    memory = bpf.map_memory(fd, size * cpus, writable=False)
    try:
        for cpu in range(cpus):
            for key, comm, counts in _of_cpu(memory[cpu * size : (cpu + 1) * size]):
                sums[key] = [total + more for total, more in zip(sums[key], counts, strict=True)]
                if comm or key not in names:
                    names[key] = comm
    finally:
        memory.close()
    return [_account(key, names[key], counts) for key, counts in sums.items()]


def _of_cpu(data: bytes) -> Iterator[tuple[_Key, bytes, tuple[int, ...]]]:
    """(key, name or nothing, counts) of each account that is open."""
    for index, fields in enumerate(_FIELDS.iter_unpack(data[_NOBODY_AT:_HEAD])):
        hook, kind = divmod(index, _NOBODY_KINDS)
        if kind in KINDS and KINDS[kind] != "owner":
            yield (0, 0, 0, _NO_UID, hook, kind), b"", fields[6:]
    comms = _HEAD + _room(len(data)) * _ACCOUNT
    for index, fields in enumerate(_FIELDS.iter_unpack(data[_HEAD:comms])):
        if fields[5] != _FREE:
            start = comms + index * _COMM
            yield fields[:6], data[start : start + _COMM].rstrip(b"\0"), fields[6:]


def _account(key: _Key, name: bytes, counts: list[int]) -> Account:
    start_time, cgroup, pid, uid, hook, kind = key
    comm = name.decode("utf-8", "surrogateescape")
    return Account(
        hook, KINDS[kind], pid or None, start_time, None if uid == _NO_UID else uid, cgroup or None, comm,
        *counts,
    )  # fmt: skip
