"""The accounts of one interface: packets, bytes and drops by hook and owner. account.h writes them.

Owns the map: it is made once for an interface, belongs to its set of maps, and is never reset. What must
never break: an account, once there, stays, so that the accounts always add up.
"""

from __future__ import annotations

import errno
import os
import struct
from dataclasses import dataclass

from xdpguard.abi import abi
from xdpguard.kernel import bpf

_ABI = abi()
_NUMBERS = _ABI.numbers
_MAP_PERCPU_HASH = 5
_BYTES = 16 << 20  # about what one map takes at most
_FEWEST, _MOST = 1024, 16384
_KEY_BYTES, _VALUE_BYTES = _ABI.structs["xg_account_key"].size, _ABI.structs["xg_account"].size
_KEY = struct.Struct("=QQ4I")
_VALUE = struct.Struct("=4Q16s")
_NOBODY = _NUMBERS["XG_NO_UID"]
_OWNER = _NUMBERS["XG_ACCOUNT_OWNER"]
KINDS = {
    _NUMBERS[f"XG_ACCOUNT_{name.upper()}"]: name
    for name in ("owner", "kernel", "no_owner", "no_ports", "no_room")
}


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
    """How many accounts an interface has room for on this machine."""
    return max(_FEWEST, min(_MOST, _BYTES // (_VALUE_BYTES * bpf.possible_cpus())))


def create(room: int = 0) -> int:
    """A map with the accounts of nobody in particular, at zero. ``room``: for how many others."""
    fd = bpf.map_create(_MAP_PERCPU_HASH, _KEY_BYTES, _VALUE_BYTES, room or entries(), name="xg_accounts")
    try:
        for hook in range(_NUMBERS["XG_HOOKS"]):
            for kind in KINDS:
                if kind != _OWNER:
                    bpf.map_update(fd, _KEY.pack(0, 0, 0, _NOBODY, hook, kind), bytes(_all_cpus()))
    except BaseException:
        os.close(fd)
        raise
    return fd


def read(fd: int) -> list[Account]:
    """All of them, summed over CPUs. Takes no lock: those that are opened meanwhile may be missing."""
    found = []
    for key in bpf.map_keys(fd, _KEY_BYTES):
        try:
            data = bpf.map_lookup(fd, key, _all_cpus())
        except OSError as error:
            if error.errno != errno.ENOENT:
                raise
            continue
        found.append(_account(key, data))
    return found


def _all_cpus() -> int:
    return _VALUE_BYTES * bpf.possible_cpus()


def _account(key: bytes, data: bytes) -> Account:
    start_time, cgroup, pid, uid, hook, kind = _KEY.unpack(key)
    values = list(_VALUE.iter_unpack(data))
    names = (value[4].rstrip(b"\0") for value in values)
    comm = next(filter(None, names), b"").decode("utf-8", "surrogateescape")
    packets, size, dropped_packets, dropped_bytes = (sum(value[at] for value in values) for at in range(4))
    return Account(
        hook, KINDS[kind], pid or None, start_time, None if uid == _NOBODY else uid, cgroup or None, comm,
        packets, size, dropped_packets, dropped_bytes,
    )  # fmt: skip
