"""The filter's programs, compiled on the host: clang takes ten times as long under emulation.

Bytecode does not depend on the kernel. What is not compiled here the first guest that needs it compiles; all
guests share the folder.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from vmlab import kernels
from vmlab.errors import LabError

_SECONDS = 120
_CHILD = """
import sys
from pathlib import Path
from xdpguard.kernel import compile

compile.CACHE = Path(sys.argv[1])
for source in (compile.INGRESS, compile.INGRESS_FRAGS, compile.EGRESS, compile.PASS):
    compile.bytecode(source)
"""


def folder() -> Path:
    """Where kept bytecode lies, filled. LabError: a program does not compile."""
    path = kernels.cache() / "bytecode"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    argv = [sys.executable, "-c", _CHILD, str(path)]
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=_SECONDS, check=False)
    except subprocess.TimeoutExpired:
        raise LabError(f"the filter's programs were not compiled within {_SECONDS} s") from None
    if done.returncode:
        raise LabError(f"the filter's programs cannot be compiled:\n{done.stderr[-2000:]}")
    return path
