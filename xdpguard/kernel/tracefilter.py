"""What a trace wants, and the kernel's tables that say it."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from socket import AF_INET, AF_INET6

from xdpguard.abi import abi
from xdpguard.kernel import bpf

_ABI = abi()
_NUMBERS = _ABI.numbers
_CGROUPS = _NUMBERS["XG_MAX_CGROUPS"]  # rejected at a time
_PRESENT = b"\1"


@dataclass(frozen=True, slots=True)
class KernelFilter:
    """What the kernel is to pass on. Empty = all; alternatives inside one field, AND between fields.

    An event whose owner is not known passes ``pids``, ``uids`` and ``by_cgroup``: user space decides on it.
    Fork, exec and exit are filtered by ``kinds`` only, since every event's ancestry needs them. Ports and
    networks match the local or the remote end; ``pids`` are processes (thread groups) as the host counts.
    ``by_cgroup``: not what ``Tracing.select_cgroup`` has rejected. A cgroup that nobody has judged passes.
    """

    kinds: frozenset[int] = frozenset()  # enum xg_event_kind
    pids: frozenset[int] = frozenset()
    uids: frozenset[int] = frozenset()
    ports: frozenset[int] = frozenset()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()
    netns: frozenset[int] = frozenset()  # inode numbers
    by_cgroup: bool = False

    def wants(self, kind: int) -> bool:
        return not self.kinds or kind in self.kinds

    def numbers(self) -> dict[str, int]:
        """What the programs are linked with."""
        kinds = sum(1 << kind for kind in range(_NUMBERS["XG_EV_KINDS"]) if self.wants(kind))
        fields = {name: bool(values) for name, values in self._sets().items()}
        fields |= {"XG_SET_NETWORK": bool(self.networks), "XG_SET_CGROUP": self.by_cgroup}
        used = sum(1 << _NUMBERS[name] for name, wanted in fields.items() if wanted)
        return {"XG_NUMBER_KINDS": kinds, "XG_NUMBER_FILTERS": used}

    def _sets(self) -> dict[str, frozenset[int]]:
        return {
            "XG_SET_PID": self.pids,
            "XG_SET_UID": self.uids,
            "XG_SET_PORT": self.ports,
            "XG_SET_NETNS": self.netns,
        }

    def create_sets(self) -> int:
        """A new map of what is wanted; its fd."""
        sets = self._sets()
        entries = sum(map(len, sets.values())) + (_CGROUPS if self.by_cgroup else 1)
        size = _ABI.structs["xg_set_key"].size
        fd = bpf.map_create(bpf.MAP_HASH, size, len(_PRESENT), entries, name="xg_sets")
        for name, values in sets.items():
            for value in values:
                bpf.map_update(fd, _set_key(name, value), _PRESENT)
        return fd

    def create_networks(self) -> int:
        """A new map of the networks; its fd."""
        size, entries = _ABI.structs["xg_network_key"].size, max(1, len(self.networks))
        flags = bpf.F_NO_PREALLOC
        fd = bpf.map_create(bpf.MAP_LPM_TRIE, size, len(_PRESENT), entries, flags=flags, name="xg_networks")
        for network in self.networks:
            bpf.map_update(fd, _network_key(network), _PRESENT)
        return fd


def select_cgroup(sets: int, cgroup: int, wanted: bool) -> None:
    """In a map of ``create_sets``. OSError E2BIG: ``XG_MAX_CGROUPS`` are rejected already."""
    key = _set_key("XG_SET_CGROUP", cgroup)
    if not wanted:
        bpf.map_update(sets, key, _PRESENT)
        return
    try:
        bpf.map_delete(sets, key)
    except FileNotFoundError:
        return


def _set_key(field: str, value: int) -> bytes:
    return struct.pack("=QII", value, _NUMBERS[field], 0)


def _network_key(network: IPv4Network | IPv6Network) -> bytes:
    family = AF_INET if network.version == 4 else AF_INET6
    address = network.network_address.packed.ljust(16, b"\0")
    return struct.pack("=II16s", 32 + network.prefixlen, family, address)
