"""Commands that are to be killed or refused a call, each in a fork (``forking``).

A child tells each call before it makes it: what a killed one had done is known.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import forking
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
        said = (line for line in self.err.splitlines() if not line.startswith("warning: "))
        return [line for line in said if "error: " in line]


class Forks(forking.Forks):
    def __init__(self) -> None:
        super().__init__(__file__)

    def run(self, words: list[str], harm: Harm | None = None, *, cache: Path | None = None) -> Ended:
        """Run a command with this harm. ``cache``: in the place of the folder of compiled programs."""
        names = {name: getattr(owners, name) for name in _OWNERS}
        request = {"words": words, "cache": str(cache or ""), "owners": names, **asdict(harm or Harm())}
        return Ended(**self.ask(request))


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
    from xdpguard.guard import records
    from xdpguard.kernel import compile

    for name, value in request["owners"].items():
        setattr(owners, name, value)
    folders: tuple[str, ...] = (BPFFS, str(records.FOLDER))
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


def _answer(told: str, code: int) -> dict[str, Any]:
    lines = told.splitlines()
    end = {"code": code, "err": ""}
    if lines and lines[-1].startswith("="):
        end = json.loads(lines.pop()[1:])
    return end | {"calls": lines}


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the test run's; its end closes our input
    _warm()
    forking.serve(_child, _answer)
