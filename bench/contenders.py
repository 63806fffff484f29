"""What is measured by test runs: xdpguard's programs, as shipped and in variants, and bare LPM tries."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from ipaddress import IPv4Address
from pathlib import Path

import native
import numpy as np
from filterset import Filters, Headers
from harness import Program

from xdpguard import abi
from xdpguard.classify.compile import build
from xdpguard.generation import manifest, slots
from xdpguard.guard import programs
from xdpguard.kernel import accounts, bpf, compile, counters, loops, maps, netns, owners, program, sizes
from xdpguard.rules.model import RuleSet

_NUMBERS = abi.abi().numbers
_REASONS, _DEFAULT = _NUMBERS["XG_COUNT_REASONS"], _NUMBERS["XG_COUNT_DEFAULT"]
_ADDS = "\tcount->packets += packets;\n\tcount->bytes += bytes;\n"


class Ours:
    """A rule set in fresh maps, decided by the shipped programs. ``seconds``: of the table build.

    Bytes: ``table_bytes`` of what the classifier reads, ``generation_bytes`` with names and counters,
    ``slot_bytes`` as the kernel has them allocated.
    """

    def __init__(self, ruleset: RuleSet, *, account_owners: bool = False) -> None:
        self._ruleset = ruleset
        names = manifest.encode(manifest.describe(ruleset, 0.0, {}))
        began = time.perf_counter()
        tables = build(ruleset, 2, None, names)
        self.seconds = time.perf_counter() - began
        self.table_bytes = len(tables.blob) - len(names)
        self.generation_bytes = len(tables.blob) + bpf.possible_cpus() * (
            sizes.CPU_BYTES + tables.counters * sizes.COUNT_BYTES
        )
        self.maps = maps.create(slots.size_for(tables, names), {})
        self.slot_bytes = self.maps.size.blob_bytes + bpf.possible_cpus() * self.maps.size.cpu_bytes
        slots.write(self.maps, 1, tables.blob.tobytes())
        self.maps.word = maps.Word(1, 0)
        if account_owners:
            host = owners.create()
            self.maps.fds |= {
                maps.OWNERS: host.fd,
                maps.CHANGES: host.changes,
                maps.ACCOUNTS: accounts.create(),
            }
        self._loaded = programs.load(self.maps, statistics=True)
        self.xdp, self.tc = Program("xdp", self._loaded.ingress.fd), Program("tc", self._loaded.egress.fd)
        self.instructions = (self._loaded.ingress.instructions or 0, self._loaded.egress.instructions or 0)

    def without_counting(self) -> Program:
        """The XDP program of this checkout, compiled without its two additions to counters, on these maps."""
        with tempfile.TemporaryDirectory(prefix="xdpguard-bench-") as place:
            folder = Path(shutil.copytree(abi.folder(), Path(place) / "bpf"))
            header = folder / "include" / "count.h"
            text = header.read_text()
            if text.count(_ADDS) != 1:
                raise RuntimeError("count.h does not count as it did: what is to be left out?")
            header.write_text(text.replace(_ADDS, ""))
            code = _compiled(folder, compile.INGRESS_FRAGS)
        bound = {f"XG_MAP_{name.upper()}": fd for name, fd in self.maps.fds.items() if name != "totals"}
        numbers = {
            "XG_NUMBER_BLOB_MASK": self.maps.size.table_bytes - 8,
            "XG_NUMBER_COUNTER_MASK": self.maps.size.counters - 1,
            "XG_NUMBER_FLAGS": 0,
        }
        flags = bpf.F_XDP_HAS_FRAGS
        loaded = program.load_code(code, compile.INGRESS_FRAGS, bpf.PROG_XDP, bound, numbers, flags=flags)
        return Program("xdp", loaded.fd)

    def own(self, headers: Headers) -> None:
        """Make this process the owner of each flow: the local end is the destination."""
        key = netns.identity().key
        host = owners.Owners(self.maps.fds[maps.OWNERS], self.maps.fds[maps.CHANGES])
        value = owners.value(start_time=1, cgroup=1, pid=os.getpid(), uid=0, gid=0, comm="bench")
        for ends, ports, protocol in zip(
            headers.ends[:, :, 1].tolist(), headers.ports.tolist(), headers.protocol.tolist(), strict=True
        ):
            remote, local = IPv4Address(ends[0]), IPv4Address(ends[1])
            host.add(owners.key(key, protocol, local, ports[1], remote, ports[0]), value)

    def decided(self) -> tuple[int, int]:
        """(packets decided by the rules or the default, packets decided by neither) so far, both hooks."""
        rules = (len(self._ruleset.ingress.rules), len(self._ruleset.egress.rules))
        both = counters.read(self.maps, 1, rules)
        odd = sum(one[0] for hook in both for one in hook[_REASONS:_DEFAULT])
        return sum(one[0] for hook in both for one in hook[_DEFAULT:]), odd

    def accounted(self) -> int:
        """Packets in the account of a process."""
        found = accounts.read(self.maps.fds[maps.ACCOUNTS])
        return sum(one.packets for one in found if one.kind == "owner")

    def close(self) -> None:
        self._loaded.close()
        self.maps.close()


def _compiled(folder: Path, source: compile.Source) -> bytes:
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "include" / "kbuild")
    from bcc import BPF

    flags = [f"-I{folder / 'include'}", "-DPAGE_SIZE=4096", "-Wno-unused-function", "-Wno-unused-variable"]
    flags += [f"-D{name}" for name in source.defines]
    module = BPF(src_file=os.fsencode(folder / source.file), cflags=flags)
    code = loops.jump_back(module.dump_func(source.function.encode()))
    module.cleanup()
    return code


class Tries:
    """Two bare LPM tries of a filter set's prefixes; with ``sources`` one, of those sources alone (/32)."""

    def __init__(
        self, filters: Filters | None, sources: np.ndarray[tuple[int, ...], np.dtype[np.uint64]] | None = None
    ):
        if filters is None:
            assert sources is not None
            tables = {"SRC": (sources, np.full(len(sources), 32, dtype=np.int64))}
        else:
            tables = {
                name: (filters.ends[:, side, 1], filters.lengths[:, side])
                for side, name in enumerate(("SRC", "DST"))
            }
        self._fds = {f"{name}_TRIE": _trie(*table) for name, table in tables.items()}
        function = "one_trie" if filters is None else "two_tries"
        self.xdp = Program("xdp", native.load("tries.c", function, self._fds))

    def close(self) -> None:
        for fd in (self.xdp.fd, *self._fds.values()):
            os.close(fd)


def _trie(
    addresses: np.ndarray[tuple[int, ...], np.dtype[np.uint64]],
    lengths: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
) -> int:
    unique = np.unique(addresses << np.uint64(6) | lengths.astype(np.uint64))
    keys = np.empty((len(unique), 2), dtype=np.uint32)
    keys[:, 0] = unique & np.uint64(63)
    keys[:, 1] = (unique >> np.uint64(6)).astype(np.uint32).byteswap()
    fd = bpf.map_create(native.LPM_TRIE, 8, 4, len(unique), flags=bpf.F_NO_PREALLOC)
    native.fill(fd, keys, np.arange(len(unique), dtype=np.uint32))
    return fd
