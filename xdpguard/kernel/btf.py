"""Where fields are in the running kernel's structs, and what functions' arguments are called: its BTF.

Owns libbpf's btf__* functions and the type records (Documentation/bpf/btf.rst). Only reads. With these
offsets a program that was compiled without kernel headers follows pointers on any kernel.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from xdpguard.errors import KernelError

VMLINUX = Path("/sys/kernel/btf/vmlinux")

# uapi/linux/btf.h
_STRUCT, _UNION, _ENUM, _TYPEDEF, _FUNC = 4, 5, 6, 8, 12
_TRANSPARENT = (_TYPEDEF, 9, 10, 11, 18)  # typedef, volatile, const, restrict, type tag
_BITFIELDS = 1 << 31  # info.kind_flag: the upper 8 bits of a member's offset are the width of a bit field
_RECORD, _MEMBER, _PARAMETER = struct.Struct("=III"), struct.Struct("=III"), struct.Struct("=II")
_ENUMERATOR = struct.Struct("=Ii")


@cache
def _library() -> ctypes.CDLL:
    """libbpf, which the distribution's python3-bpfcc brings."""
    try:
        library = ctypes.CDLL("libbpf.so.1")
    except OSError as error:
        raise KernelError(f"no libbpf.so.1: {error}; nothing changed") from error
    library.btf__new.restype = ctypes.c_void_p
    library.btf__new.argtypes = [ctypes.c_char_p, ctypes.c_uint32]
    library.btf__free.argtypes = [ctypes.c_void_p]
    library.btf__find_by_name_kind.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint32]
    library.btf__type_by_id.restype = ctypes.c_void_p
    library.btf__type_by_id.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    library.btf__name_by_offset.restype = ctypes.c_char_p
    library.btf__name_by_offset.argtypes = [ctypes.c_void_p, ctypes.c_uint32]
    return library


class Btf:
    """The types of one kernel. ``data``: a whole BTF section. Use in a ``with`` block, which frees it."""

    def __init__(self, data: bytes) -> None:
        self._library = _library()
        self._btf = self._library.btf__new(data, len(data))
        if not self._btf:
            raise KernelError("the kernel's BTF cannot be read; nothing changed")

    def __enter__(self) -> Btf:
        return self

    def __exit__(self, *_: object) -> None:
        self._library.btf__free(self._btf)

    def offset(self, name: str, path: str) -> int:
        """Bytes from the start of ``struct name`` to a field: ``offset("sock", "__sk_common.skc_family")``.

        The path may go through nested structs, unions and typedefs, not through pointers or arrays; members
        of anonymous structs and unions count as their parent's. KernelError: there is no such field, or it is
        a bit field.
        """
        bits, width = self._place(name, path)
        if width or bits % 8:
            raise KernelError(f"{name}.{path} is a bit field on this kernel; nothing changed")
        return bits // 8

    def bit(self, name: str, path: str) -> tuple[int, int]:
        """(offset of its byte, mask) of a field of one bit. KernelError: there is no such field."""
        bits, width = self._place(name, path)
        if width != 1:
            raise KernelError(f"{name}.{path} is not one bit on this kernel; nothing changed")
        return bits // 8, 1 << bits % 8

    def enumerator(self, enumeration: str, name: str) -> int | None:
        """The value of ``name`` in ``enum enumeration``; None: it has none of that name."""
        number = self._find(enumeration, _ENUM)
        _, info, _ = self._record(number)
        for entry, value in self._rows(number, _ENUMERATOR, info & 0xFFFF):
            if self._name(entry) == name:
                return value
        return None

    def _place(self, name: str, path: str) -> tuple[int, int]:
        """(offset, width) in bits; width 0: no bit field."""
        bits, width, kind = 0, 0, self._find(name, _STRUCT)
        for part in path.split("."):
            found = self._member(self._resolved(kind), part)
            if found is None:
                raise KernelError(f"this kernel has no {name}.{path} (BTF has no {part}); nothing changed")
            more, width, kind = found
            bits += more
        return bits, width

    def arguments(self, function: str) -> tuple[str, ...]:
        """The names of a kernel function's arguments, in order. KernelError: no such function."""
        _, _, prototype = self._record(self._find(function, _FUNC))
        _, info, _ = self._record(prototype)
        rows = self._rows(prototype, _PARAMETER, info & 0xFFFF)
        return tuple(self._name(name) for name, _ in rows)

    def _find(self, name: str, kind: int) -> int:
        number: int = self._library.btf__find_by_name_kind(self._btf, name.encode(), kind)
        if number < 0:
            raise KernelError(f"the kernel's BTF does not know {name}; nothing changed")
        return number

    def _record(self, number: int) -> tuple[int, int, int]:
        """struct btf_type: name, info, and size or type."""
        found: tuple[int, int, int] = _RECORD.unpack(self._bytes(number, 0, _RECORD.size))
        return found

    def _rows(self, number: int, layout: struct.Struct, count: int) -> Iterator[tuple[int, ...]]:
        """What follows a struct btf_type."""
        return layout.iter_unpack(self._bytes(number, _RECORD.size, layout.size * count))

    def _bytes(self, number: int, start: int, size: int) -> bytes:
        address = self._library.btf__type_by_id(self._btf, number)
        if not address:
            raise KernelError(f"the kernel's BTF has no type {number}; nothing changed")
        return ctypes.string_at(address + start, size)

    def _name(self, offset: int) -> str:
        text: bytes = self._library.btf__name_by_offset(self._btf, offset) or b""
        return text.decode(errors="replace")

    def _resolved(self, number: int) -> int:
        """The type behind typedefs and qualifiers."""
        while True:
            _, info, other = self._record(number)
            if info >> 24 & 0x1F not in _TRANSPARENT:
                return number
            number = other

    def _member(self, number: int, wanted: str) -> tuple[int, int, int] | None:
        """(offset in bits, width in bits, type) of a member, also of anonymous members.

        Width 0: no bit field. None: it has none of that name.
        """
        _, info, _ = self._record(number)
        if info >> 24 & 0x1F not in (_STRUCT, _UNION):
            return None
        for name, kind, place in self._rows(number, _MEMBER, info & 0xFFFF):
            width, bits = (place >> 24, place & 0xFFFFFF) if info & _BITFIELDS else (0, place)
            if name and self._name(name) == wanted:
                return bits, width, kind
            inner = None if name else self._member(self._resolved(kind), wanted)
            if inner is not None:
                return bits + inner[0], inner[1], inner[2]
        return None


def kernel() -> Btf:
    """Of the running kernel. KernelError: it has none (CONFIG_DEBUG_INFO_BTF), or no libbpf."""
    try:
        return Btf(VMLINUX.read_bytes())
    except OSError as error:
        raise KernelError(f"no BTF of the kernel: {VMLINUX}: {error.strerror}; nothing changed") from error
