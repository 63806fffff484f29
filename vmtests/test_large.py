"""On every kernel: 100,000 rules, or where maps are too small for them a clear refusal and what fits.

Each kernel boots once for this, the smoke test and the trace test; large_run.py says what is run.
"""

from __future__ import annotations

from large_run import FITS, TOO_MANY, LargeRun
from vmlab.kernels import Kernel

_LIMIT = 100_000  # of the project: a tenth of the kernel's


def _is_small(kernel: Kernel) -> bool:
    return "large-tables" in kernel.lacks


def test_of_100000_rules_the_right_one_decides(kernel: Kernel, large: LargeRun) -> None:
    """First, middle and last, of every group; on a kernel with small maps none can."""
    wanted = {} if _is_small(kernel) else dict(zip(large.asked, large.expected, strict=True))
    assert dict(zip(large.asked, large.decided, strict=not _is_small(kernel))) == wanted
    assert len(large.asked) >= 20


def test_large_tables_cost_the_verifier_no_more(kernel: Kernel, large: LargeRun) -> None:
    assert len(large.instructions) == (0 if _is_small(kernel) else 2)
    assert all(count <= _LIMIT for count in large.instructions)


def test_a_kernel_with_small_maps_refuses_them_in_one_line(kernel: Kernel, large: LargeRun) -> None:
    assert large.refused.endswith("use fewer rules") == _is_small(kernel)
    assert len(large.refused.splitlines()) == _is_small(kernel)


def test_what_fits_into_small_maps_loads_and_more_is_refused_with_nothing_changed(
    kernel: Kernel, large: LargeRun
) -> None:
    """The figure of docs/limitations.md. With large maps there is nothing to refuse."""
    codes = {rules: bool(result.code) for rules, result in large.loads.items()}
    assert codes == ({FITS: False, TOO_MANY: True} if _is_small(kernel) else {})
    if codes:
        refusal = large.loads[TOO_MANY].err.splitlines()[-1]
        assert f"load /tmp/rules-{TOO_MANY}.yaml: these rules need map values of" in refusal
        assert refusal.endswith("use fewer rules (E2BIG); nothing changed")
        assert large.status["generation"]["file"].endswith(f"rules-{FITS}.yaml")
