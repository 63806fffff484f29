"""Offsets and argument names out of BTF: of a small one written here, and of this machine's kernel."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpguard.errors import KernelError
from xdpguard.kernel import btf
from xdpguard.kernel.btf import Btf


def has_libbpf() -> bool:
    try:
        ctypes.CDLL("libbpf.so.1")
    except OSError:
        return False
    return True


pytestmark = pytest.mark.skipif(not has_libbpf(), reason="no libbpf.so.1: python3-bpfcc is not installed")
INT, PTR, STRUCT, UNION, ENUM, TYPEDEF, CONST, FUNC, FUNC_PROTO = 1, 2, 4, 5, 6, 8, 10, 12, 13


class Writer:
    """A BTF section (Documentation/bpf/btf.rst). Types are numbered from 1 in the order of their calls."""

    def __init__(self) -> None:
        self._names = b"\0"
        self._types = b""
        self._count = 0

    def name(self, text: str) -> int:
        if not text:
            return 0
        at = len(self._names)
        self._names += text.encode() + b"\0"
        return at

    def type(self, kind: int, name: str, size_or_type: int, rest: bytes = b"", *, many: int = 0) -> int:
        """``many``: number of entries in ``rest``, and bit 31 if members hold the widths of bit fields."""
        self._types += struct.pack("=III", self.name(name), kind << 24 | many, size_or_type) + rest
        self._count += 1
        return self._count

    def compound(self, kind: int, name: str, *members: tuple[str, int, int], size: int = 64) -> int:
        """Members: name, type, offset in bits."""
        rest = b"".join(struct.pack("=III", self.name(one), of, at) for one, of, at in members)
        return self.type(kind, name, size, rest, many=len(members))

    def section(self) -> bytes:
        header = struct.pack(
            "=HBBIIIII", 0xEB9F, 1, 0, 24, 0, len(self._types), len(self._types), len(self._names)
        )
        return header + self._types + self._names


def sample() -> bytes:
    """A struct with what a path can meet: anonymous members, typedef, qualifier, bit fields, pointer."""
    out = Writer()
    number = out.type(INT, "int", 4, struct.pack("=I", 1 << 24 | 32))
    pointer = out.type(PTR, "", 0)
    inner = out.compound(STRUCT, "inner", ("here", number, 0), ("there", number, 32), size=8)
    alias = out.type(TYPEDEF, "inner_t", inner)
    constant = out.type(CONST, "", alias)
    union = out.compound(UNION, "", ("left", number, 0), ("right", constant, 0), size=8)
    nameless = out.compound(STRUCT, "", ("pad", number, 0), ("", union, 64), size=16)
    fields = struct.pack("=III", out.name("whole"), number, 0)
    fields += struct.pack("=III", out.name("bit"), number, 1 << 24 | 32)
    flags = out.type(STRUCT, "flags", 8, fields, many=1 << 31 | 2)
    out.compound(
        STRUCT, "outer",
        ("first", number, 0), ("", nameless, 64), ("flags", flags, 192), ("next", pointer, 256), size=40,
    )  # fmt: skip
    letters = b"".join(
        struct.pack("=Ii", out.name(one), value) for one, value in (("alpha", -1), ("beta", 7))
    )
    out.type(ENUM, "letters", 4, letters, many=2)
    arguments = ((out.name("__data"), pointer), (out.name("dev"), pointer), (out.name("act"), number))
    proto = out.type(FUNC_PROTO, "", number, b"".join(struct.pack("=II", *one) for one in arguments), many=3)
    out.type(FUNC, "__traceiter_event", proto)
    return out.section()


@pytest.fixture
def types() -> Iterator[Btf]:
    with Btf(sample()) as found:
        yield found


@pytest.mark.parametrize(
    ("path", "offset"),
    [
        ("first", 0),
        ("pad", 8),
        ("left", 16),
        ("right", 16),
        ("right.here", 16),
        ("right.there", 20),
        ("flags", 24),
        ("flags.whole", 24),
        ("next", 32),
    ],
)
def test_a_path_goes_through_nested_anonymous_and_renamed_types(types: Btf, path: str, offset: int) -> None:
    assert types.offset("outer", path) == offset


@pytest.mark.parametrize("path", ["second", "right.nowhere", "first.here", "next.first", ""])
def test_a_field_that_is_not_there_is_named(types: Btf, path: str) -> None:
    with pytest.raises(KernelError, match=f"this kernel has no outer.{path} .*nothing changed"):
        types.offset("outer", path)


def test_a_struct_that_is_not_there_is_named(types: Btf) -> None:
    for name in ("nosuch", "inner_t"):
        with pytest.raises(KernelError, match=f"does not know {name}; nothing changed"):
            types.offset(name, "here")


def test_a_bit_field_has_no_offset_in_bytes(types: Btf) -> None:
    with pytest.raises(KernelError, match=r"outer\.flags\.bit is a bit field on this kernel"):
        types.offset("outer", "flags.bit")


def test_a_bit_has_the_offset_of_its_byte_and_a_mask(types: Btf) -> None:
    assert types.bit("outer", "flags.bit") == (28, 1)
    for path in ("first", "flags.whole"):
        with pytest.raises(KernelError, match="is not one bit on this kernel"):
            types.bit("outer", path)


def test_the_value_of_an_enumerator_is_told(types: Btf) -> None:
    assert types.enumerator("letters", "beta") == 7
    assert types.enumerator("letters", "gamma") is None
    with pytest.raises(KernelError, match="does not know numbers"):
        types.enumerator("numbers", "beta")


def test_arguments_are_told_in_order(types: Btf) -> None:
    assert types.arguments("__traceiter_event") == ("__data", "dev", "act")
    with pytest.raises(KernelError, match="does not know __traceiter_none"):
        types.arguments("__traceiter_none")


def test_what_is_no_btf_is_refused() -> None:
    for data in (b"", bytes(64), sample()[:40]):
        with pytest.raises(KernelError, match="BTF cannot be read"):
            Btf(data)


def test_a_kernel_without_btf_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(btf, "VMLINUX", tmp_path / "vmlinux")
    with pytest.raises(
        KernelError, match=r"no BTF of the kernel: .*/vmlinux: No such file or directory; nothing"
    ):
        btf.kernel()


@pytest.mark.skipif(not btf.VMLINUX.exists(), reason="this kernel has no BTF")
def test_this_kernels_own_fields_are_found() -> None:
    with btf.kernel() as kernel:
        assert kernel.offset("iphdr", "daddr") == 16  # RFC 791
        # struct sock_common is the first member of struct sock.
        assert kernel.offset("sock", "__sk_common.skc_family") == kernel.offset("sock_common", "skc_family")
        assert kernel.offset("net_device", "nd_net.net") == kernel.offset("net_device", "nd_net")
