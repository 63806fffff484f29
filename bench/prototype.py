"""The throw-away classifier that the design began with, where it is at hand: a peer in the test runs,
nothing more."""

from __future__ import annotations

import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from filterset import ANY, Filters
from harness import Program

from xdpguard import abi
from xdpguard.kernel import bpf

# Two headers of the kernel that it includes and our own tree has not.
_ETHERNET = """#define PAGE_SIZE 4096
struct ethhdr { u8 h_dest[6]; u8 h_source[6]; __be16 h_proto; } __attribute__((packed));
"""
_IP = """struct iphdr {
	u8 ihl:4, version:4, tos;
	__be16 tot_len, id, frag_off;
	u8 ttl, protocol;
	__sum16 check;
	__be32 saddr, daddr;
};
"""
_MOST_BYTES = 3 << 30


def folder() -> Path | None:
    """Beside the checkout."""
    found = Path(__file__).resolve().parents[2] / "shared" / "prototype" / "classifier"
    return found if (found / "datapath.py").is_file() else None


class Prototype:
    """Its tables and its XDP program, which counts packets by rule."""

    def __init__(self, filters: Filters) -> None:
        found = folder()
        if found is None:
            raise FileNotFoundError("no ../shared/prototype")
        affinity = os.sched_getaffinity(0)
        with _headers(), _importable(found), _bounded(_MOST_BYTES):
            import compiler  # type: ignore[import-not-found]
            import datapath  # type: ignore[import-not-found]

            os.sched_setaffinity(0, affinity)  # importing it changes that
            blob, _ = compiler.compile_rules(_columns(filters))
            self._keep: list[Any] = self._load(datapath, blob)

    def _load(self, datapath: Any, blob: Any) -> list[Any]:
        inner = datapath.load_blob(blob)
        outer = bpf.map_create(bpf.MAP_ARRAY_OF_MAPS, 4, 4, 2, inner=inner)
        bpf.map_update(outer, bytes(4), inner.to_bytes(4, "little"))
        module = datapath.build(len(blob), outer, count=True)
        code = bytes(module.dump_func(b"cls"))
        self.xdp = Program("xdp", bpf.prog_load(bpf.PROG_XDP, code, "cls", flags=bpf.F_XDP_HAS_FRAGS).fd)
        return [inner, outer, module]

    def close(self) -> None:
        inner, outer, module = self._keep
        os.close(self.xdp.fd)
        module.cleanup()
        os.close(inner)
        os.close(outer)


def _columns(filters: Filters) -> np.ndarray[tuple[int, ...], np.dtype[np.int64]]:
    """As its reader makes them: src, len, dst, len, ports, protocol and mask, flags and mask."""
    rows = np.zeros((len(filters), 16), dtype=np.int64)
    rows[:, 0], rows[:, 2] = filters.ends[:, 0, 1], filters.ends[:, 1, 1]
    rows[:, 1], rows[:, 3] = filters.lengths[:, 0], filters.lengths[:, 1]
    rows[:, 4:8] = filters.ports.reshape(-1, 4)
    rows[:, 8] = np.where(filters.protocol == ANY, 0, filters.protocol)
    rows[:, 9] = np.where(filters.protocol == ANY, 0, 0xFF)
    return rows


@contextmanager
def _bounded(more: int) -> Iterator[None]:
    """MemoryError for what takes so many bytes more: on some filter sets its tables have no bound."""
    former = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + more, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, former)


@contextmanager
def _headers() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="xdpguard-bench-") as place:
        tree = Path(shutil.copytree(abi.folder() / "include" / "kbuild", Path(place) / "kbuild"))
        uapi = tree / "include" / "uapi" / "linux"
        (uapi / "if_ether.h").write_text(_ETHERNET)
        (uapi / "ip.h").write_text(_IP)
        os.environ["BCC_KERNEL_SOURCE"] = str(tree)
        yield


@contextmanager
def _importable(found: Path) -> Iterator[None]:
    sys.path.insert(0, str(found))
    try:
        yield
    finally:
        sys.path.remove(str(found))
