"""Whether /proc counts processes as the kernel's programs do, and which capabilities this process has.

The programs tell of processes by their numbers in the first pid namespace. A /proc of another pid namespace
knows the same numbers as other processes: whoever joins the two names the wrong one.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from xdpguard.errors import PrivilegeError

PROC = Path("/proc")
_FIRST_PID_NAMESPACE = 0xEFFFFFFC  # PID_NS_INIT_INO, uapi/linux/nsfs.h
_PF_KTHREAD = 0x00200000  # include/linux/sched.h
_KTHREADD = 2
_CAPABILITIES = {
    "CAP_DAC_READ_SEARCH": 2,
    "CAP_NET_ADMIN": 12,
    "CAP_SYS_PTRACE": 19,
    "CAP_SYS_ADMIN": 21,
    "CAP_PERFMON": 38,
    "CAP_BPF": 39,
}
"""uapi/linux/capability.h"""
# Whoever has CAP_SYS_ADMIN has these: perfmon_capable(), bpf_capable().
_OF_ADMIN = ("CAP_PERFMON", "CAP_BPF")


def require_hosts(proc: Path = PROC) -> None:
    """PrivilegeError: ``proc`` is there, but not of the first pid namespace, or it is not there."""
    if not is_hosts(proc):
        raise PrivilegeError(
            f"{proc} is not the host's: its process numbers are not the kernel's, and a wrong process would "
            "be named; run it in the host's pid namespace (docker run --pid=host); nothing changed"
        )


def is_hosts(proc: Path = PROC) -> bool:
    """Either we are in the first pid namespace and are to be found there, or it shows the kernel's threads.

    Those are in no other pid namespace. The first is asked too since it needs no look at others.
    """
    try:
        if (proc / "self/ns/pid").stat().st_ino == _FIRST_PID_NAMESPACE:
            return (proc / "self").readlink().name == str(os.getpid())
        fields = (proc / str(_KTHREADD) / "stat").read_bytes().rpartition(b")")[2].split()
        return bool(int(fields[6]) & _PF_KTHREAD)
    except (OSError, ValueError, IndexError):
        return False


def lacking(*wanted: str, proc: Path = PROC) -> tuple[str, ...]:
    """Those of the capabilities that this process does not have in force.

    None is lacking where /proc does not tell: then the kernel refuses.
    """
    try:
        found = re.search(r"^CapEff:\s*([0-9a-f]+)$", (proc / "self/status").read_text(), re.M)
    except OSError:
        return ()
    if found is None:
        return ()
    have = int(found[1], 16)
    held = {name for name, number in _CAPABILITIES.items() if have >> number & 1}
    if "CAP_SYS_ADMIN" in held:
        held.update(_OF_ADMIN)
    return tuple(name for name in wanted if name not in held)


def require(step: str, *wanted: str) -> None:
    """PrivilegeError: refused by name, and before anything is done."""
    if lacking(*wanted):
        raise PrivilegeError(f"{step}: not permitted: {needs(*wanted)}; nothing changed")


def needs(*wanted: str) -> str:
    """For a message: which of them it takes; all of them where none is known to be lacking."""
    return f"needs root ({', '.join(lacking(*wanted) or wanted)})"


def denied(*wanted: str) -> str:
    """For a note on what may not be seen: permission denied, and by which of them if they are lacking."""
    names = lacking(*wanted)
    return f"permission denied (lacking {', '.join(names)})" if names else "permission denied"
