"""Which kept bytecode is trusted, and when it is stale. No compiler runs here."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpguard import abi
from xdpguard.errors import KernelError
from xdpguard.kernel import compile as compiler
from xdpguard.kernel import kept
from xdpguard.kernel.compile import EGRESS, INGRESS, INGRESS_FRAGS, PASS, bytecode

CODE = bytes(range(64))
NOTHING = hashlib.sha256(b"").digest()


class Compiler:
    """Stands for BCC: counts its runs."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, source: compiler.Source) -> bytes:
        self.runs += 1
        return CODE


@pytest.fixture
def bcc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """A compiler, a cache folder, sources and a BCC folder of this test's own."""
    sources, library = tmp_path / "bpf", tmp_path / "bcc"
    shutil.copytree(abi.folder(), sources)
    library.mkdir()
    (library / "version.py").write_text("__version__ = '1'\n")
    made = Compiler()
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "cache" / "xdpguard")
    monkeypatch.setattr(compiler, "_bcc_folder", lambda: library)
    monkeypatch.setattr(compiler, "compile_source", made)
    monkeypatch.setattr(abi, "folder", lambda: sources)
    return made


def kept_file(tmp_path: Path) -> Path:
    (file,) = (tmp_path / "cache" / "xdpguard").iterdir()
    return file


def test_bytecode_is_compiled_once_and_then_kept(bcc: Compiler) -> None:
    assert [bytecode(INGRESS) for _ in range(3)] == [CODE] * 3
    assert bcc.runs == 1


@pytest.mark.parametrize("mask", [0o000, 0o022, 0o077])
def test_nobody_else_may_write_what_is_kept(mask: int, bcc: Compiler, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        bytecode(INGRESS)
    finally:
        os.umask(before)
    file = kept_file(tmp_path)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


def flip(file: Path) -> None:
    data = bytearray(file.read_bytes())
    data[3] ^= 1
    file.write_bytes(data)


SPOILED: dict[str, Callable[[Path], object]] = {
    "a byte changed": flip,
    "cut": lambda file: file.write_bytes(file.read_bytes()[:-1]),
    "cut below its digest": lambda file: file.write_bytes(b"short"),
    "empty": lambda file: file.write_bytes(b""),
    "longer": lambda file: file.write_bytes(bytes(8) + file.read_bytes()),
    "a digest of nothing": lambda file: file.write_bytes(NOTHING),
    "writable by the group": lambda file: file.chmod(0o620),
    "writable by others": lambda file: file.chmod(0o602),
    "in a folder writable by the group": lambda file: file.parent.chmod(0o730),
    "in a folder writable by others": lambda file: file.parent.chmod(0o703),
    "gone": lambda file: file.unlink(),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_kept_file_that_cannot_be_trusted_is_compiled_again(
    what: str, bcc: Compiler, tmp_path: Path
) -> None:
    bytecode(INGRESS)
    SPOILED[what](kept_file(tmp_path))
    assert bytecode(INGRESS) == CODE
    assert bcc.runs == 2


@pytest.mark.parametrize("what", [name for name in SPOILED if "folder" not in name])
def test_what_was_compiled_again_is_kept_again(what: str, bcc: Compiler, tmp_path: Path) -> None:
    bytecode(INGRESS)
    SPOILED[what](kept_file(tmp_path))
    bytecode(INGRESS)
    bytecode(INGRESS)
    assert bcc.runs == 2


def test_a_file_of_another_user_is_not_trusted(bcc: Compiler, monkeypatch: pytest.MonkeyPatch) -> None:
    bytecode(INGRESS)
    other = os.geteuid() + 1
    monkeypatch.setattr(os, "geteuid", lambda: other)
    bytecode(INGRESS)
    assert bcc.runs == 2


def test_without_a_cache_folder_every_load_compiles(bcc: Compiler, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert [bytecode(INGRESS), bytecode(INGRESS)] == [CODE, CODE]
    assert bcc.runs == 2


@pytest.mark.parametrize("name", ["include/abi.h", "include/parse.h", "xdp/ingress.c", "tc/egress.c"])
def test_a_changed_byte_in_any_source_is_compiled(name: str, bcc: Compiler, tmp_path: Path) -> None:
    bytecode(INGRESS)
    flip(tmp_path / "bpf" / name)
    bytecode(INGRESS)
    assert bcc.runs == 2


def test_a_new_header_is_compiled(bcc: Compiler, tmp_path: Path) -> None:
    bytecode(INGRESS)
    (tmp_path / "bpf" / "include" / "new.h").write_text("")
    bytecode(INGRESS)
    assert bcc.runs == 2


def test_another_compiler_compiles_anew(bcc: Compiler, tmp_path: Path) -> None:
    bytecode(INGRESS)
    (tmp_path / "bcc" / "version.py").write_text("__version__ = '2'\n")
    bytecode(INGRESS)
    assert bcc.runs == 2


def test_every_program_is_kept_apart(bcc: Compiler, tmp_path: Path) -> None:
    for source in (INGRESS, INGRESS_FRAGS, EGRESS, PASS):
        bytecode(source)
    assert bcc.runs == 4
    assert len(list((tmp_path / "cache" / "xdpguard").iterdir())) == 4


@pytest.mark.parametrize("found", [None, "lattice"])
def test_a_missing_bcc_is_named_with_its_package(
    found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bcc of PyPI is another library: it has no libbcc.py."""
    (tmp_path / "__init__.py").write_text("")
    spec = importlib.util.spec_from_file_location("bcc", tmp_path / "__init__.py")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec if found else None)
    with pytest.raises(KernelError, match="python3-bpfcc"):
        compiler._bcc_folder()
