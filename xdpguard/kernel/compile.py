"""C sources -> bytecode, by BCC without kernel headers; kept, so that a later load runs no compiler.

Owns the compiler's settings. No map exists at compile time: the bytecode holds the
placeholders of ``bpf/include/memory.h``, which ``kernel/program.py`` replaces. Where it is
kept, and when that is trusted: ``kernel/kept.py``.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from xdpguard import abi
from xdpguard.errors import KernelError
from xdpguard.kernel import kept, loops

_MOST_BYTES = 1 << 20
"""Of a program; the kernel takes fewer."""
_SUFFIX = ".bpf"
_MOST_KEPT, _MOST_KEPT_BYTES = 256, 32 << 20
"""Of all programs: those of several versions, of which each has some 30."""


@dataclass(frozen=True, slots=True)
class Source:
    """One program: file below ``bpf/``, function, and preprocessor definitions."""

    file: str
    function: str
    defines: tuple[str, ...] = ()


INGRESS = Source("xdp/ingress.c", "xdpguard_ingress")
INGRESS_FRAGS = Source("xdp/ingress.c", "xdpguard_ingress", ("XG_FRAGS",))
EGRESS = Source("tc/egress.c", "xdpguard_egress")
# The same with owner accounting; what it costs, the others do not pay.
INGRESS_OWNERS = Source("xdp/ingress.c", "xdpguard_ingress", ("XG_ACCOUNT",))
INGRESS_FRAGS_OWNERS = Source("xdp/ingress.c", "xdpguard_ingress", ("XG_FRAGS", "XG_ACCOUNT"))
EGRESS_OWNERS = Source("tc/egress.c", "xdpguard_egress", ("XG_ACCOUNT",))
PASS = Source("xdp/pass.c", "xdpguard_pass")


def bytecode(source: Source) -> bytes:
    """The program's instructions, 8 bytes each, from the cache or from the compiler."""
    path = _paths([source])[source]
    code = _read(path)
    if code is None:
        code = compile_source(source)
        _keep({path: code})
    return code


def bytecode_by_child(sources: Iterable[Source]) -> dict[Source, bytes]:
    """The same of several programs, where none is compiled in this process: BCC takes 70 MB for good."""
    paths = _paths(sources)
    found = {source: _read(path) for source, path in paths.items()}
    missing = [source for source, code in found.items() if code is None]
    compiled = dict(zip(missing, _ask_child(missing), strict=True)) if missing else {}
    _keep({paths[source]: code for source, code in compiled.items()})
    return {source: code if code is not None else compiled[source] for source, code in found.items()}


def _keep(codes: dict[Path, bytes]) -> None:
    for path, code in codes.items():
        kept.write(path, code)
    if codes:
        kept.trim(_SUFFIX, _MOST_KEPT, _MOST_KEPT_BYTES)


def _ask_child(sources: Sequence[Source]) -> list[bytes]:
    child = "from xdpguard.kernel import compile; compile.child()"
    done = subprocess.run(
        [sys.executable, "-c", child],
        input=json.dumps([asdict(source) for source in sources]).encode(),
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        check=False,
    )
    if done.returncode:
        last = done.stdout.decode(errors="replace").strip() or f"exit code {done.returncode}"
        raise KernelError(last)
    return [bytes.fromhex(text) for text in json.loads(done.stdout)]


def child() -> None:
    """What the child runs: sources in on file 0, as JSON, their bytecode or one line of an error out on 1."""
    with os.fdopen(os.dup(1), "wb") as answer, os.fdopen(os.dup(0), "rb") as question:
        os.dup2(2, 1)  # what the compiler may print there is no answer
        wanted = [Source(one["file"], one["function"], tuple(one["defines"])) for one in json.load(question)]
        try:
            answer.write(json.dumps([code.hex() for code in _compile_all(wanted)]).encode())
        except KernelError as error:
            answer.write(str(error).encode())
            sys.exit(1)


def _compile_all(sources: Sequence[Source]) -> list[bytes]:
    """Each file once for all of its programs."""
    done: dict[Source, bytes] = {}
    for source in sources:
        if source not in done:
            same = [one for one in sources if (one.file, one.defines) == (source.file, source.defines)]
            codes = _compiled(source.file, source.defines, [one.function for one in same])
            done |= zip(same, codes, strict=True)
    return [done[source] for source in sources]


def _paths(sources: Iterable[Source]) -> dict[Source, Path]:
    """Where each is kept. The name changes with any file below ``bpf/``, the definitions, the compiler,
    what is done to its output or how it is kept. The files are read once, however many programs there are.
    """
    common = hashlib.blake2s(digest_size=16)
    folder = abi.folder()
    for file in sorted([*folder.rglob("*.h"), *folder.rglob("*.c")]):
        common.update(str(file.relative_to(folder)).encode() + b"\0" + file.read_bytes() + b"\0")
    common.update((_bcc_folder() / "version.py").read_bytes())
    for module in (loops.__file__, kept.__file__):
        common.update(Path(module).read_bytes())
    found = {}
    for source in sources:
        own = common.copy()
        own.update(repr((source.file, source.function, source.defines)).encode())
        found[source] = kept.FOLDER / f"{source.function}-{own.hexdigest()}{_SUFFIX}"
    return found


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
    return _compiled(source.file, source.defines, [source.function])[0]


def _compiled(file: str, defines: Sequence[str], functions: Sequence[str]) -> list[bytes]:
    folder = abi.folder()
    os.environ["BCC_KERNEL_SOURCE"] = str(folder / "include" / "kbuild")
    _bcc_folder()
    from bcc import BPF  # type: ignore[import-untyped,unused-ignore]

    flags = [f"-I{folder / 'include'}", "-DPAGE_SIZE=4096", "-Wall", "-Wno-unused-function"]
    flags += [f"-D{name}" for name in defines]
    try:
        module = BPF(src_file=os.fsencode(folder / file), cflags=flags)
        codes = [loops.jump_back(module.dump_func(function.encode())) for function in functions]
        module.cleanup()
    except Exception as error:
        raise KernelError(f"compile bpf/{file}: {error}; nothing changed") from None
    return codes


def _read(path: Path) -> bytes | None:
    """The kept bytecode, or None if it is missing or cannot be trusted."""
    try:
        return bytes(kept.read(path, _MOST_BYTES)) or None
    except kept.Distrusted:
        return None
