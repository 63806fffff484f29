"""Counts of what XDP was told to send and did not: programs on the kernel's xdp tracepoints, pinned.

Owns one folder beside an interface's sets of maps, /sys/fs/bpf/xdpguard/INODE-IFINDEX/delivery, with the
counters and the links of the tracepoints; the pins keep them at work after the command has ended. Observation
is no part of a verdict: whatever is wrong with it, counts are missing and nothing else. Which event tells
what is said in bpf/trace/xdp_delivery.c.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from mmap import mmap
from pathlib import Path

from xdpguard.abi import abi
from xdpguard.errors import KernelError
from xdpguard.kernel import bpf, btf, objects, pins, program
from xdpguard.kernel.compile import Source

_ABI = abi()
_NAME = "delivery"
_MAP_NAME = "xg_delivery"
_BYTES = _ABI.structs["xg_delivery"].size

_EVENTS = {
    "redirect_err": ("xdp",),
    "devmap_xmit": ("from_dev", "drops"),
    "bulk_tx": ("dev", "drops"),
    "exception": ("dev", "xdp", "act"),
}
"""Event of include/trace/events/xdp.h, without "xdp_" -> the arguments that its program reads."""

_OFFSETS = {
    "XG_NUMBER_PROG_AUX": ("bpf_prog", "aux"),
    "XG_NUMBER_AUX_ID": ("bpf_prog_aux", "id"),
    "XG_NUMBER_DEVICE_IFINDEX": ("net_device", "ifindex"),
    "XG_NUMBER_DEVICE_NET": ("net_device", "nd_net.net"),
    "XG_NUMBER_NET_INODE": ("net", "ns.inum"),
}
_COUNTS = "counts"
_PINS = (_COUNTS, *_EVENTS)


@dataclass(frozen=True, slots=True)
class Lost:
    """Frames with the verdict that were not delivered. None: not known."""

    tx: int | None = None
    redirect: int | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """Of one interface: ``inode`` of its network namespace, ``ifindex``."""

    inode: int
    ifindex: int

    @property
    def folder(self) -> Path:
        return pins.FOLDER / f"{self.inode}-{self.ifindex}" / _NAME

    def attach(self, xdp_program: int, *, exact: bool) -> None:
        """Begin to count, from zero. ``exact``: the device's xdp_bulk_tx tells exactly what was lost.

        Fails with XdpguardError or OSError, and leaves nothing behind, where the kernel has no BTF, no raw
        tracepoints that can be pinned (Linux 5.7), or does not let us.
        """
        numbers, sources = _described()
        numbers |= {
            "XG_NUMBER_IFINDEX": self.ifindex,
            "XG_NUMBER_NETNS": self.inode,
            "XG_NUMBER_BULK_TX_EXACT": int(exact),
        }
        with ExitStack() as opened:
            counts = _create(xdp_program)
            opened.callback(os.close, counts)
            fds = {_COUNTS: counts}
            for event, source in sources.items():
                loaded = program.load(source, bpf.PROG_RAW_TRACEPOINT, {"XG_MAP_DELIVERY": counts}, numbers)
                opened.callback(os.close, loaded.fd)
                fds[event] = objects.raw_tracepoint_open(f"xdp_{event}", loaded.fd)
                opened.callback(os.close, fds[event])
            self._pin(fds)

    def _pin(self, fds: dict[str, int]) -> None:
        try:
            pins.make_folders(self.folder)
            for name, fd in fds.items():
                objects.obj_pin(fd, self.folder / name)
                (self.folder / name).chmod(0o600)
        except BaseException:
            self.remove()
            raise

    def expect(self, xdp_program: int, former: int) -> None:
        """Say which XDP program's frames to count from now on, before it is attached; 0: there is no former.

        Where that fails the observation ends, so that no count is wrong.
        """
        try:
            with self._open() as memory:
                if memory is not None:
                    _store(memory, "former", former)
                    _store(memory, "program", xdp_program)
        except OSError:
            self.remove()

    def read(self, xdp_program: int) -> Lost | None:
        """The counts; None where the frames of this XDP program are not observed."""
        try:
            with self._open() as memory:
                if memory is None or not self.whole():
                    return None
                if xdp_program not in (_get(memory, "program"), _get(memory, "former")):
                    return None
                tx = None if _sum(memory, "unclear") else _sum(memory, "tx")
                return Lost(tx, _sum(memory, "redirect"))
        except OSError:
            return None

    @contextmanager
    def _open(self) -> Iterator[mmap | None]:
        """The counters of every CPU as shared memory; None if there are none of this version."""
        try:
            fd = objects.obj_get(self.folder / _COUNTS)
        except FileNotFoundError:
            yield None
            return
        try:
            info, entries = objects.map_info(fd), bpf.possible_cpus()
            if (info.name, info.value_bytes, info.entries) != (_MAP_NAME, _BYTES, entries):
                yield None
                return
            with bpf.map_memory(fd, entries * _BYTES) as memory:
                ours = _get(memory, "abi_version") == _ABI.numbers["XG_ABI_VERSION"]
                yield memory if ours else None
        finally:
            os.close(fd)

    def exists(self) -> bool:
        return self.folder.is_dir()

    def whole(self) -> bool:
        """Is every pin there? A command that is killed may leave some."""
        return all((self.folder / name).exists() for name in _PINS)

    def remove(self) -> None:
        """End it. What is already gone is fine."""
        for name in _PINS:
            (self.folder / name).unlink(missing_ok=True)
        for folder in (self.folder, self.folder.parent):
            try:
                folder.rmdir()
            except OSError:
                return  # missing, or a set of maps is pinned beside it


def observations() -> Iterator[Observation]:
    """All that are pinned, also in part. Folders that are not named like ours are passed over."""
    for folder in (outer / _NAME for outer in pins.listed(pins.FOLDER)):
        if not folder.exists():
            continue
        inode, _, ifindex = folder.parent.name.partition("-")
        try:
            found = Observation(int(inode), int(ifindex))
        except ValueError:
            continue
        if found.folder == folder:
            yield found


def _described() -> tuple[dict[str, int], dict[str, Source]]:
    """What the programs must know of this kernel, and their sources."""
    defines: list[str] = []
    with btf.kernel() as kernel:
        numbers = {name: kernel.offset(*field) for name, field in _OFFSETS.items()}
        for event, wanted in _EVENTS.items():
            # The function that calls the programs of a tracepoint (Linux 5.10): void *, then the event's own.
            names = kernel.arguments(f"__traceiter_xdp_{event}")[1:]
            for name in wanted:
                if name not in names:
                    raise KernelError(
                        f"xdp_{event} has no argument called {name} on this kernel; nothing changed"
                    )
                defines.append(f"XG_ARG_{event}_{name}".upper() + f"={names.index(name)}")
    source = "trace/xdp_delivery.c"
    return numbers, {event: Source(source, f"xdpguard_{event}", tuple(defines)) for event in _EVENTS}


def _create(xdp_program: int) -> int:
    entries = bpf.possible_cpus()
    fd = bpf.map_create(bpf.MAP_ARRAY, 4, _BYTES, entries, flags=bpf.F_MMAPABLE, name=_MAP_NAME)
    try:
        with bpf.map_memory(fd, entries * _BYTES) as memory:
            _store(memory, "abi_version", _ABI.numbers["XG_ABI_VERSION"])
            _store(memory, "program", xdp_program)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _get(memory: mmap, field: str, cpu: int = 0) -> int:
    return _ABI.get(memory, f"xg_delivery.{field}", cpu * _BYTES)


def _sum(memory: mmap, field: str) -> int:
    return sum(_get(memory, field, cpu) for cpu in range(bpf.possible_cpus()))


def _store(memory: mmap, field: str, value: int) -> None:
    """One aligned store, since programs read it meanwhile; struct.pack_into would write byte by byte."""
    ctypes.c_uint32.from_buffer(memory, _ABI.offset(f"xg_delivery.{field}")).value = value
