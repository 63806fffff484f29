"""The kernel's side of ``xdpguard trace``: programs loaded and attached, what they tell handed out as bytes.

Owns the session: its maps, its programs and their attachment live exactly as long as the process that holds
it, so that a killed trace leaves nothing. Must never import BCC (70 MB): bytecode is kept, or made by a
child. Which probe gives which event is said in kernel/sources.py; what the bytes are in bpf/include/events.h.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from xdpguard.abi import abi
from xdpguard.errors import KernelError, PrivilegeError
from xdpguard.kernel import btf, netns, offsets, probes, processes, tracefilter, tracemaps
from xdpguard.kernel.attached import Attached
from xdpguard.kernel.owners import Owners
from xdpguard.kernel.ringbuf import Ring
from xdpguard.kernel.sources import wanted_ways
from xdpguard.kernel.tracefilter import KernelFilter
from xdpguard.kernel.tracemaps import TraceMaps

__all__ = ["Cost", "KernelFilter", "ProgramCost", "Tracing"]

_NUMBERS = abi().numbers
_MOST = 1024  # records in one answer of poll(): what is made of them is a megabyte of text
RING_BYTES = 8 << 20
_TASKS = tuple(_NUMBERS[f"XG_EV_{name}"] for name in ("FORK", "EXEC", "EXIT"))
_LOST = tuple(
    index for index, name in enumerate(abi().structs["xg_ledger"].fields) if name.startswith("lost_")
)


@dataclass(frozen=True, slots=True)
class ProgramCost:
    """Of one program. ``seconds``, ``runs``: only while kernel.bpf_stats_enabled is 1, else zero.

    ``missed``: events that the program did not see, since it was at work on the same CPU already, or since a
    kretprobe had no free instance. They are in no ledger: add them to ``seen`` and to what was lost.
    """

    name: str
    seconds: float
    runs: int
    missed: int


@dataclass(frozen=True, slots=True)
class Cost:
    programs: tuple[ProgramCost, ...]
    map_bytes: int  # kernel memory of all maps, as the kernel counts it


class Tracing:
    """One session. A context manager; attached when the constructor returns, gone after the block.

    ``sources``: event -> the probe that gives it, "kprobe tcp_v4_connect" or "raw tracepoint
    inet_sock_set_state"; for the user. ``missing``: one line for each thing that these sources do not give.
    ``cgroup_controller``: "" when owners' cgroup ids are of the v2 hierarchy, else the controller ("memory",
    "pids", ...) of the v1 hierarchy that they are of. ``cgroup_root``: where that hierarchy is mounted, whose
    directories' inodes are these ids; None: nowhere that we can see.
    """

    sources: dict[str, str]
    missing: tuple[str, ...]
    cgroup_controller: str
    cgroup_root: Path | None

    def __init__(
        self,
        wanted: KernelFilter,
        *,
        kprobes: bool | None = None,
        ring_bytes: int = RING_BYTES,
        owners: Owners | None = None,
    ) -> None:
        """``kprobes`` None: where the kernel has them. ``ring_bytes``: rounded up to a power of two of pages.
        ``owners``: the map of socket owners to keep (``kernel.owners``), whatever is wanted.

        KernelError: no BTF, no ring buffer (Linux 5.8), kprobes asked for and not there, ...;
        PrivilegeError: not permitted. Nothing is left attached.
        """
        _permit()
        kprobes = _choose(kprobes)
        self.cgroup_controller = offsets.cgroup_controller()
        self.cgroup_root = offsets.cgroup_root(self.cgroup_controller)
        size = tracemaps.ring_size(ring_bytes)
        with btf.kernel() as kernel:
            numbers = offsets.numbers(kernel, self.cgroup_controller, cookies=bool(netns.identity().cookie))
            numbers |= wanted.numbers()
            definitions = offsets.definitions(kernel)
        self._lost_tasks, self._books_due = 0, 0.0
        self._ring: Ring | None = None
        self._attached: Attached | None = None
        self._maps = _maps(wanted, size, owners)
        numbers["XG_NUMBER_OWNERS"] = int(owners is not None)
        try:
            self._ring = Ring(self._maps.fds["XG_MAP_RING"], size)
            self._attached = Attached(self._maps.linked(), numbers, definitions)
            self._attached.attach(wanted_ways(_names(wanted)), kprobes=kprobes)
        except BaseException:
            self.close()
            raise
        self.sources = self._attached.sources
        self.missing = tuple(self._attached.missing)

    def __enter__(self) -> Tracing:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Detach everything and free the maps. A second call does nothing."""
        for part in (self._attached, self._ring, self._maps):
            if part is not None:
                part.close()
        self._ring = None

    def fileno(self) -> int:
        """The ring's fd, for select.poll: readable when there are records."""
        return self._maps.fds["XG_MAP_RING"]

    def poll(self, timeout: float) -> list[bytes]:
        """Records of the ring: struct xg_event or xg_task_event; both begin with their kind, a u32.

        Waits at most ``timeout`` seconds for the first; [] when there was none. A bounded number at a time:
        call again until there is none. Events of several CPUs may come out of order.
        """
        return self._ring.wait(timeout, _MOST) if self._ring is not None else []

    def flows(self) -> list[tuple[bytes, bytes]]:
        """Drain the UDP table: (struct xg_flow_key, struct xg_flow), each packet in one call's answer only.

        Takes about 20 ms (it waits for the programs at work): call it once a second or so, and a last time
        before the ledger is read for the end.
        """
        return self._maps.take_flows()

    def ledger(self) -> dict[int, tuple[int, ...]]:
        """Kind -> the fields of struct xg_ledger in their order, summed over CPUs.

        Of UDP kinds the unit is a datagram (a send or receive call), of the others an event.
        """
        return self._maps.ledger()

    def lost_tasks(self) -> int:
        """Forks, execs and exits lost up to the last ``poll``: if more, lineages may be outdated.

        The kernel's books are read only when the ring was crowded, and once a second in case that anything
        else went wrong.
        """
        now = time.monotonic()
        if now >= self._books_due or (self._ring is not None and self._ring.crowded):
            self._books_due = now + 1.0
            self._lost_tasks = sum(sum(self._maps.books(kind)[index] for index in _LOST) for kind in _TASKS)
        return self._lost_tasks

    def select_cgroup(self, cgroup: int, wanted: bool) -> None:
        """With ``by_cgroup``: pass (as at first), or no longer pass, what this cgroup's processes do.

        ``XG_MAX_CGROUPS`` may be rejected at a time.
        """
        try:
            tracefilter.select_cgroup(self._maps.fds["XG_MAP_SETS"], cgroup, wanted)
        except OSError as error:
            raise KernelError(
                f"select cgroup {cgroup}: {error.strerror}; the trace goes on without it"
            ) from error

    def cost(self) -> Cost:
        """What the programs took so far."""
        runs = self._attached.runs() if self._attached is not None else ()
        programs = tuple(ProgramCost(one.name, one.run_ns / 1e9, one.runs, one.missed) for one in runs)
        return Cost(programs, self._maps.kernel_bytes())


def _permit() -> None:
    """PrivilegeError, before anything is made."""
    processes.require("trace", "CAP_BPF", "CAP_PERFMON")
    processes.require_hosts()


def _choose(wanted: bool | None) -> bool:
    usable = probes.has_kprobes() and offsets.has_registers()
    if wanted and not usable:
        reason = "CONFIG_KPROBE_EVENTS" if not probes.has_kprobes() else "not known for this machine"
        raise KernelError(f"trace: this kernel has no kprobes that we can use ({reason}); nothing changed")
    return usable if wanted is None else wanted


def _names(wanted: KernelFilter) -> frozenset[str]:
    """The wanted kinds, as kernel/sources.py calls them."""
    names = (name for name in _NUMBERS if name.startswith("XG_EV_") and name != "XG_EV_KINDS")
    return frozenset(name.removeprefix("XG_EV_") for name in names if wanted.wants(_NUMBERS[name]))


def _maps(wanted: KernelFilter, ring_bytes: int, owners: Owners | None) -> TraceMaps:
    try:
        return TraceMaps(wanted, ring_bytes, owners)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise PrivilegeError(
                "trace: not permitted: needs root (CAP_BPF, CAP_PERFMON); nothing changed"
            ) from error
        if error.errno == errno.EINVAL:
            raise KernelError(
                "trace: this kernel has no BPF ring buffer (Linux 5.8); nothing changed"
            ) from error
        raise KernelError(f"trace: cannot make the maps: {error.strerror}; nothing changed") from error
