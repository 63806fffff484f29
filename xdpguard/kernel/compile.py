"""C sources -> bytecode, by BCC without kernel headers; kept, so that a later load runs no compiler.

Owns the cache folder and the compiler's settings. No map exists at compile time: the bytecode holds the
placeholders of ``bpf/include/memory.h``, which ``kernel/program.py`` replaces. The cache is trusted only
where its owner and mode say that nobody else can have written it.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from xdpguard import abi
from xdpguard.errors import KernelError
from xdpguard.kernel import loops

CACHE = Path("/var/cache/xdpguard")
_DIGEST_BYTES = 16


@dataclass(frozen=True, slots=True)
class Source:
    """One program: file below ``bpf/``, function, and preprocessor definitions."""

    file: str
    function: str
    defines: tuple[str, ...] = ()


INGRESS = Source("xdp/ingress.c", "xdpguard_ingress")
INGRESS_FRAGS = Source("xdp/ingress.c", "xdpguard_ingress", ("XG_FRAGS",))
EGRESS = Source("tc/egress.c", "xdpguard_egress")
PASS = Source("xdp/pass.c", "xdpguard_pass")


def bytecode(source: Source) -> bytes:
    """The program's instructions, 8 bytes each, from the cache or from the compiler."""
    path = CACHE / f"{source.function}-{_fingerprint(source)}.bpf"
    kept = _read(path)
    if kept is None:
        kept = compile_source(source)
        _write(path, kept)
    return kept


def _fingerprint(source: Source) -> str:
    """Changes with any source file, the definitions, the compiler or what is done to its output."""
    digest = hashlib.blake2s(digest_size=16)
    folder = abi.folder()
    for file in sorted([*folder.rglob("*.h"), *folder.rglob("*.c")]):
        digest.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    digest.update(repr((source.file, source.function, source.defines)).encode())
    digest.update((_bcc_folder() / "version.py").read_bytes())
    digest.update(Path(loops.__file__).read_bytes())
    return digest.hexdigest()


def _bcc_folder() -> Path:
    found = importlib.util.find_spec("bcc")
    if found is None or found.origin is None or not (Path(found.origin).parent / "libbcc.py").is_file():
        raise KernelError(
            "compile: no BCC: install the distribution's python3-bpfcc and use a virtual environment made "
            "with --system-site-packages (the package called bcc on PyPI is another one); nothing changed"
        )
    return Path(found.origin).parent


def compile_source(source: Source) -> bytes:
    """Run clang through BCC. Its complaints go to standard error."""
    folder = abi.folder()
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "include" / "kbuild")
    _bcc_folder()
    from bcc import BPF  # type: ignore[import-untyped,unused-ignore]

    flags = [f"-I{folder / 'include'}", "-DPAGE_SIZE=4096", "-Wall", "-Wno-unused-function"]
    flags += [f"-D{name}" for name in source.defines]
    try:
        module = BPF(src_file=os.fsencode(folder / source.file), cflags=flags)
        code = loops.jump_back(module.dump_func(source.function.encode()))
        module.cleanup()
    except Exception as error:
        raise KernelError(f"compile bpf/{source.file}: {error}; nothing changed") from None
    return code


def _read(path: Path) -> bytes | None:
    """The kept bytecode, or None if it is missing, damaged, or may have been written by someone else."""
    try:
        folder, file = path.parent.stat(), path.stat()
        data = path.read_bytes()
    except OSError:
        return None
    if any(found.st_uid != os.geteuid() or found.st_mode & 0o022 for found in (folder, file)):
        return None
    code, digest = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    return code if code and hashlib.blake2s(code, digest_size=_DIGEST_BYTES).digest() == digest else None


def _write(path: Path, code: bytes) -> None:
    """Keep the bytecode if the folder can be had; without it every load compiles, which is only slower."""
    digest = hashlib.blake2s(code, digest_size=_DIGEST_BYTES).digest()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            file.write(code + digest)
        Path(file.name).rename(path)
    except OSError:
        return
