"""What the figures were measured on, as far as it matters and no further."""

from __future__ import annotations

import ctypes.util
import os
import platform
import re
from pathlib import Path

import peers

_JIT = {"0": "off", "1": "on", "2": "on, with debugging"}


def describe() -> list[tuple[str, str]]:
    """(what, which) pairs; nothing that names the machine."""
    return [
        ("CPU", f"{_cpu('model name')}, {os.cpu_count()} in all, measured on number {_pinned()}"),
        ("caches", _caches()),
        ("virtual machine", "yes" if "hypervisor" in _cpu("flags") else "no sign of one"),
        ("kernel", platform.release()),
        ("JIT", _JIT.get(_read("/proc/sys/net/core/bpf_jit_enable"), "not told")),
        ("mitigations", _mitigations()),
        ("BCC / LLVM", f"{_bcc()} / {_llvm()}"),
        ("Python", platform.python_version()),
        *((tool, peers.version(tool)) for tool in peers.PACKAGES),
    ]  # fmt: skip


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _cpu(field: str) -> str:
    found = re.search(rf"^{field}\s*: (.*)$", _read("/proc/cpuinfo"), re.MULTILINE)
    return found.group(1) if found else "not told"


def _pinned() -> str:
    return ", ".join(str(one) for one in sorted(os.sched_getaffinity(0)))


def _caches() -> str:
    found = []
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        kind, level, size = (_read(index / name) for name in ("type", "level", "size"))
        if kind != "Instruction":
            found.append(f"L{level} {size}")
    return ", ".join(found) or "not told"


def _mitigations() -> str:
    folder = Path("/sys/devices/system/cpu/vulnerabilities")
    found = {one.name: _read(one) for one in folder.glob("*")} if folder.is_dir() else {}
    said = [f"{name}: {text}" for name, text in sorted(found.items()) if text and text != "Not affected"]
    return "; ".join(said) or "none told"


def _bcc() -> str:
    import bcc

    return str(getattr(bcc, "__version__", "unknown"))


def _llvm() -> str:
    """BCC links it: the library's name carries its version."""
    found = re.search(
        r"libLLVM[-.](?:so\.)?(\d+[\w.]*?)(?:\.so\S*)?$", _read("/proc/self/maps"), re.MULTILINE
    )
    return found.group(1) if found else ctypes.util.find_library("LLVM") or "unknown"
