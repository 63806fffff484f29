"""What a trace cost: CPU and memory of this process, and of the programs in the kernel if that is counted."""

from __future__ import annotations

import resource
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from xdpguard.ui.text import exact, size

if TYPE_CHECKING:
    from xdpguard.kernel.tracing import Cost


def _cpu() -> float:
    """Seconds, of this process and of its children that have ended (a compiler)."""
    return sum(
        usage.ru_utime + usage.ru_stime
        for usage in map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    )


@dataclass(slots=True)
class Meter:
    """Made when the watching begins: what came before is the cost of starting."""

    start_cpu: float = field(default_factory=_cpu)
    start: float = field(default_factory=time.monotonic)

    def lines(self, events: int, cost: Cost, late: int) -> list[str]:
        """``events``: lines written; ``late``: those of them that are out of order."""
        passed = max(time.monotonic() - self.start, 1e-6)
        used = _cpu() - self.start_cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes, getrusage(2)
        return [
            f"events: {exact(events)} written, {events / passed:,.1f} a second, {exact(late)} out of order",
            f"cost: {used:.2f} s of CPU in {passed:.1f} s ({used / passed:.1%}),"
            f" {self.start_cpu:.2f} s to start;"
            f" memory at most {size(peak)}, in the kernel {size(cost.map_bytes)}",
            _programs(cost),
        ]


def _programs(cost: Cost) -> str:
    runs = sum(program.runs for program in cost.programs)
    if not runs:
        return (
            f"programs in the kernel: {len(cost.programs)}, time not counted"
            " (sysctl kernel.bpf_stats_enabled=1 counts it)"
        )
    seconds = sum(program.seconds for program in cost.programs)
    return (
        f"programs in the kernel: {len(cost.programs)}, {exact(runs)} runs, {seconds:.3f} s"
        f" ({seconds / runs * 1e9:.0f} ns each)"
    )
