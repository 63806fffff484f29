"""The two programs of an interface, bound to its maps; and the pass-only helper.

Owns which variant is loaded with which numbers. Attaching is done elsewhere.
"""

from __future__ import annotations

import errno
import os
import platform
from contextlib import ExitStack
from dataclasses import dataclass

from xdpguard.abi import abi
from xdpguard.errors import KernelError
from xdpguard.kernel import accounts, bpf, compile, netns, objects, offsets, program
from xdpguard.kernel.maps import ACCOUNTS, MapSet
from xdpguard.kernel.program import Loaded

_NUMBERS = abi().numbers


@dataclass(frozen=True, slots=True)
class Programs:
    """``frags``: the XDP program takes multi-buffer frames (jumbo MTU)."""

    ingress: Loaded
    egress: Loaded
    frags: bool

    def describe(self) -> str:
        """What the verifier said, for ``--verbose``."""
        kind = "multi-buffer" if self.frags else "single-buffer"
        return (
            f"verifier processed {self.ingress.instructions} insns of the XDP program ({kind}), "
            f"{self.egress.instructions} of the TC program"
        )

    def close(self) -> None:
        os.close(self.ingress.fd)
        os.close(self.egress.fd)


def load(found: MapSet, *, control: int | None = None, statistics: bool = False) -> Programs:
    """Load both programs on these maps, with owner accounting if accounts are among them.

    ``control``: fd of another control page, for a preflight, whose frames are in nobody's account.
    """
    bound = {f"XG_MAP_{name.upper()}": fd for name, fd in found.fds.items() if name != "totals"}
    numbers = {
        "XG_NUMBER_BLOB_MASK": found.size.table_bytes - 8,
        "XG_NUMBER_COUNTER_MASK": found.size.counters - 1,
        "XG_NUMBER_FLAGS": found.get("flags") & _NUMBERS["XG_FLAG_L3_DEVICE"],
    }
    with ExitStack() as private:
        if ACCOUNTS in found.fds:
            numbers["XG_NUMBER_NETNS_KEY"] = netns.identity().key
            numbers["XG_NUMBER_CGROUP_V1"] = int(bool(offsets.cgroup_controller()))
            numbers["XG_NUMBER_KNOWN"] = int(platform.machine() == "x86_64")  # see changes.h
        if control is not None:
            bound["XG_MAP_CONTROL"] = control
            if ACCOUNTS in found.fds:
                bound["XG_MAP_ACCOUNTS"] = accounts.create(room=16)
                private.callback(os.close, bound["XG_MAP_ACCOUNTS"])
        if ACCOUNTS in found.fds:
            numbers["XG_NUMBER_ACCOUNT_MASK"] = accounts.mask(bound["XG_MAP_ACCOUNTS"])
        ingress, egress, frags = _load_both(bound, numbers, statistics, ACCOUNTS in found.fds)
    for loaded in (ingress, egress):
        # No instruction of both uses these; bound, they live, and are found again, with either program.
        for name in ("targets", "totals"):
            objects.prog_bind_map(loaded.fd, found.fds[name])
    return Programs(ingress, egress, frags)


def _load_both(
    bound: dict[str, int], numbers: dict[str, int], statistics: bool, accounts: bool
) -> tuple[Loaded, Loaded, bool]:
    ingress, frags = _load_ingress(bound, numbers, statistics, accounts)
    source = compile.EGRESS_OWNERS if accounts else compile.EGRESS
    try:
        egress = program.load(source, bpf.PROG_SCHED_CLS, bound, numbers, statistics=statistics)
    except BaseException:
        os.close(ingress.fd)
        raise
    return ingress, egress, frags


def _load_ingress(
    bound: dict[str, int], numbers: dict[str, int], statistics: bool, accounts: bool
) -> tuple[Loaded, bool]:
    """With multi-buffer support where the kernel has it (Linux 5.18), else without."""
    source = compile.INGRESS_FRAGS_OWNERS if accounts else compile.INGRESS_FRAGS
    try:
        flags = bpf.F_XDP_HAS_FRAGS
        return program.load(source, bpf.PROG_XDP, bound, numbers, flags=flags, statistics=statistics), True
    except KernelError as error:
        if not _unknown_flag(error):
            raise
    source = compile.INGRESS_OWNERS if accounts else compile.INGRESS
    return program.load(source, bpf.PROG_XDP, bound, numbers, statistics=statistics), False


def _unknown_flag(error: KernelError) -> bool:
    """Before Linux 5.18: EINVAL to the multi-buffer flag, without a word of the verifier."""
    cause = error.__cause__
    return isinstance(cause, bpf.VerifierError) and cause.errno == errno.EINVAL and not cause.log


def load_pass() -> Loaded:
    """The pass-only program for redirect targets."""
    try:
        return program.load(compile.PASS, bpf.PROG_XDP, {}, {}, flags=bpf.F_XDP_HAS_FRAGS)
    except KernelError as error:
        if not _unknown_flag(error):
            raise
        return program.load(compile.PASS, bpf.PROG_XDP, {}, {})
