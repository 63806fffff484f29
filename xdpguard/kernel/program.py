"""Bytecode with placeholders -> loaded programs bound to one interface's maps.

A placeholder is a 64-bit load (``ld_imm64``) whose immediate is one of the XG_MAP_* or XG_NUMBER_* numbers of
memory.h; replacing those is all the relocation there is.
"""

from __future__ import annotations

import errno
import re
import struct
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from xdpguard.abi import abi
from xdpguard.errors import KernelError, PrivilegeError, XdpguardError
from xdpguard.kernel import bpf, compile, objects

_LD_IMM64 = 0x18
_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE = 1, 2
_LOG_STATISTICS = 4


@dataclass(frozen=True, slots=True)
class Loaded:
    """A loaded program. ``instructions``: the verifier's "processed N insns"; None if not asked for."""

    fd: int
    id: int
    instructions: int | None


def link(code: bytes, maps: Mapping[str, int], numbers: Mapping[str, int]) -> bytes:
    """Replace placeholders. Keys are names of memory.h: XG_MAP_CONTROL -> fd, XG_NUMBER_FLAGS -> value."""
    defined = abi().numbers
    fds = {defined[name]: fd for name, fd in maps.items()}
    values = {defined[name]: value for name, value in numbers.items()}
    linked = bytearray(code)
    offset = 0
    while offset < len(linked):
        opcode, registers = linked[offset], linked[offset + 1]
        if opcode != _LD_IMM64:
            offset += 8
            continue
        (immediate,) = struct.unpack_from("=I", linked, offset + 4)
        if registers >> 4 in (_PSEUDO_MAP_FD, _PSEUDO_MAP_VALUE):
            struct.pack_into("=i", linked, offset + 4, fds[immediate])
        elif immediate in values:
            value = values[immediate]
            struct.pack_into("=I", linked, offset + 4, value & 0xFFFFFFFF)
            struct.pack_into("=I", linked, offset + 12, value >> 32)
        elif not immediate and not struct.unpack_from("=I", linked, offset + 12)[0]:
            # The compiler put a table of constants into a section that BCC does not relocate.
            raise KernelError(f"link: instruction {offset // 8} reads unrelocated data; nothing changed")
        offset += 16
    return bytes(linked)


def load(
    source: compile.Source,
    kind: int,
    maps: Mapping[str, int],
    numbers: Mapping[str, int],
    *,
    flags: int = 0,
    statistics: bool = False,
) -> Loaded:
    """Compile or fetch, link, verify, load. The name in the kernel is the function's, cut at 15 bytes."""
    code = compile.bytecode(source)
    return load_code(code, source, kind, maps, numbers, flags=flags, statistics=statistics)


def load_code(
    code: bytes,
    source: compile.Source,
    kind: int,
    maps: Mapping[str, int],
    numbers: Mapping[str, int],
    *,
    flags: int = 0,
    statistics: bool = False,
) -> Loaded:
    """The same for bytecode at hand; ``source`` only names it."""
    if sys.byteorder != "little":
        raise KernelError("big-endian machines are not supported yet; nothing changed")
    linked = link(code, maps, numbers)
    try:
        loaded = bpf.prog_load(
            kind, linked, source.function, flags=flags, log_level=_LOG_STATISTICS if statistics else 0
        )
    except OSError as error:
        raise _refused(source, error) from error
    processed = re.search(r"processed (\d+) insns", loaded.log)
    return Loaded(loaded.fd, objects.prog_info(loaded.fd).id, int(processed.group(1)) if processed else None)


def _refused(source: compile.Source, error: OSError) -> XdpguardError:
    if error.errno == errno.EPERM:
        return PrivilegeError(
            f"load {source.file}: not permitted: needs root (CAP_BPF, CAP_NET_ADMIN); nothing changed"
        )
    if error.errno == errno.ENOMEM:
        return KernelError(
            f"load {source.file}: no memory for it (limit of the cgroup or RLIMIT_MEMLOCK); nothing changed"
        )
    log = error.log if isinstance(error, bpf.VerifierError) else ""
    lines = [line for line in log.splitlines() if line and not line.startswith("processed ")]
    reason = lines[-1] if lines else error.strerror
    return KernelError(f"load {source.file}: the verifier refused it: {reason}; nothing changed")
