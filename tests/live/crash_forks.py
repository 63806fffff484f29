"""A process that has imported all, and forks a child for each command that is to be killed or refused a
call.

The fork saves the imports, so that hundreds of commands are affordable; the process has no threads of its
own that a fork could break. A child tells each call before it makes it: what a killed one had done is
known.
"""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from crash_calls import Calls, Harm

from xdpguard.kernel import owners

BPFFS = "/sys/fs/bpf/"
_OWNERS = ("NAME", "_KEPT", "_USED")


@dataclass(frozen=True, slots=True)
class Ended:
    """A command that ended or was killed. ``calls``: those that it began, in order."""

    code: int
    err: str
    calls: list[str]

    def places(self) -> Iterator[tuple[str, int]]:
        """The name of each call, and the how-manieth of its name it is."""
        seen: Counter[str] = Counter()
        for name in self.calls:
            seen[name] += 1
            yield name, seen[name]

    def errors(self) -> list[str]:
        return [line for line in self.err.splitlines() if "error: " in line]


class Forks:
    def __init__(self) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
        # NumPy would start threads for its linear algebra, of which nothing is used.
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=clean | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def run(self, words: list[str], harm: Harm | None = None, *, cache: Path | None = None) -> Ended:
        """Run a command with this harm. ``cache``: in the place of the folder of compiled programs."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        names = {name: getattr(owners, name) for name in _OWNERS}
        request = {"words": words, "cache": str(cache or ""), "owners": names, **asdict(harm or Harm())}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(**json.loads(self._process.stdout.readline()))


# ---- the process -------------------------------------------------------------------------------------------


def _warm() -> None:
    """Import what a command imports as it needs it, and read the programs into the cache's memory."""
    import pyroute2  # noqa: F401

    import xdpguard.cli.commands
    import xdpguard.guard.load
    import xdpguard.guard.status
    import xdpguard.guard.verbs
    import xdpguard.rules.parse
    import xdpguard.ui.status  # noqa: F401


def _child(request: dict[str, Any], out: int) -> None:
    from xdpguard.cli import main
    from xdpguard.kernel import compile

    for name, value in request["owners"].items():
        setattr(owners, name, value)
    folders: tuple[str, ...] = (BPFFS,)
    if request["cache"]:
        _other_cache(compile, Path(request["cache"]))
        folders += (request["cache"],)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    calls = Calls(
        Harm(request["name"], request["at"], request["act"], request["error"]),
        lambda name: _ignored(os.write(out, name.encode() + b"\n")),
    )
    calls.install(folders)
    code = main.main(request["words"])
    end = {"code": code, "err": sys.stderr.getvalue()}
    with os.fdopen(out, "w") as last:
        last.write("=" + json.dumps(end) + "\n")


def _ignored(_: int) -> None:
    return None


def _other_cache(compile: Any, folder: Path) -> None:
    """An empty one, filled without the compiler: with what the usual one holds."""
    from xdpguard.kernel import kept

    known = {source: compile.bytecode(source) for source in (compile.INGRESS_FRAGS, compile.EGRESS)}
    kept.FOLDER = folder
    compile._ask_child = lambda sources: [known[source] for source in sources]


def _serve() -> None:
    _warm()
    for line in sys.stdin:
        back, out = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                _child(json.loads(line), out)
            finally:
                os._exit(0)
        os.close(out)
        with os.fdopen(back) as answers:
            lines = answers.read().splitlines()
        _, status = os.waitpid(pid, 0)
        end = {"code": os.waitstatus_to_exitcode(status), "err": ""}
        if lines and lines[-1].startswith("="):
            end = json.loads(lines.pop()[1:])
        print(json.dumps(end | {"calls": lines}), flush=True)


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the test run's; its end closes our input
    _serve()
