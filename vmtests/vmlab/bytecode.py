"""Programs compiled on the host for the guests: clang takes ten times as long under emulation.

The filter's bytecode does not depend on the kernel; which programs a trace needs only the guest can say. What
is not compiled here the first guest that needs it compiles; all guests share the folder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vmlab import kernels
from vmlab.errors import LabError

_SECONDS = 120
_CHILD = """
import json, sys
from pathlib import Path
from xdpguard.kernel import compile, kept

kept.FOLDER = Path(sys.argv[1])
sources = [compile.INGRESS, compile.INGRESS_FRAGS, compile.EGRESS, compile.PASS]
sources += [compile.INGRESS_OWNERS, compile.INGRESS_FRAGS_OWNERS, compile.EGRESS_OWNERS]
if wanted := sys.stdin.read():
    words = [(one["file"], one["function"], tuple(one["defines"])) for one in json.loads(wanted)]
    sources = [compile.Source(*one) for one in words]
compile.bytecode_by_child(sources)
"""


def folder() -> Path:
    """Where kept bytecode lies, with the filter's programs. LabError: one does not compile."""
    path = kernels.cache() / "bytecode"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    _compile(path, "")
    return path


def keep(sources: str) -> None:
    """These too: a JSON list of kernel/compile.py's Source, as guest/trace_sources.py prints it."""
    _compile(kernels.cache() / "bytecode", sources)


def _compile(path: Path, sources: str) -> None:
    argv = [sys.executable, "-c", _CHILD, str(path)]
    try:
        done = subprocess.run(
            argv, input=sources, capture_output=True, text=True, timeout=_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"programs were not compiled within {_SECONDS} s") from None
    if done.returncode:
        raise LabError(f"programs cannot be compiled:\n{done.stderr[-2000:]}")
