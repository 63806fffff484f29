"""What the tests of ``guard/`` share: one interface, its whole state, and frames that tell what decides.

A rule set is named by the UDP port that it drops: ``dropping(1000)``. Port DROPPED is dropped and port PASSED
passes in every one, so what is in force shows in which frames arrive. Must never count on the clock: it waits
for frames, signals and states, with a deadline that only a failing test reaches.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # packets

import lab as network
import pytest
from lab import End, Lab, Veth
from packets import eth, ipv4, udp

from xdpguard.errors import NotLoadedError
from xdpguard.generation import compiled
from xdpguard.generation.compiled import Compiled
from xdpguard.guard import preflight, status, verbs
from xdpguard.guard.load import load
from xdpguard.guard.model import InterfaceStatus
from xdpguard.guard.programs import Programs
from xdpguard.kernel import maps
from xdpguard.kernel.program import Loaded
from xdpguard.kernel.sizes import Size
from xdpguard.rules.parse import parse
from xdpguard.stats.model import InterfaceCounts
from xdpguard.stats.read import snapshot

CONSOLE = Path(sys.executable).parent / "xdpguard"
DROPPED, PASSED, LAST, UNNAMED = 9, 10, 11, 12
"""UDP ports: dropped by every rule set here, passed by every one, the mark of the end, in no rule."""
TOGGLED = (1000, 1001, 1002, 1003)


def frame(port: int, number: int = 0) -> bytes:
    """To a MAC that is nobody's, so that no stack answers it. ``number`` comes back with it."""
    return bytes(eth() / ipv4() / udp(dport=port) / number.to_bytes(8, "big").rjust(32, b"\0"))


SIZE = len(frame(LAST))


def port_of(data: bytes) -> int:
    return int.from_bytes(data[36:38], "big")


def dropping(*ports: int, filler: int = 0, addresses: int = 0, more: str = "") -> str:
    """Rules of both hooks that drop these ports. ``filler`` rules and ``addresses`` only need room.

    ``more``: one more ingress rule. Names of egress rules end in "-out". The rule of the first port is always
    called "toggle", so it keeps its name while its meaning changes.
    """
    text = "version: 1\n"
    if addresses:
        entries = ", ".join(f"10.{n >> 15}.{n >> 7 & 255}.{n << 1 & 255}" for n in range(addresses))
        text += f"sets: {{many: [{entries}]}}\n"
    for hook, suffix in (("ingress", ""), ("egress", "-out")):
        lines = [(f"never{suffix}", 9, "drop"), (f"always{suffix}", "[10, 11]", "pass")]
        lines += [(f"toggle{place or ''}{suffix}", port, "drop") for place, port in enumerate(ports)]
        lines += [(f"filler{n}{suffix}", 2000 + n, "drop") for n in range(filler)]
        text += f"{hook}:\n" + "".join(
            f"  - {{name: {name}, proto: udp, dport: {port}, action: {action}}}\n"
            for name, port, action in lines
        )
        if addresses:
            text += f'  - {{name: many{suffix}, src: "@many", action: drop}}\n'
        if more and hook == "ingress":
            text += f"  - {more}\n"
    return text


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ran."""

    code: int
    out: str
    err: str

    def refusal(self, code: int, *said: str) -> str:
        """The one line that tells why; fails unless it is the only one but for notes and ``said``."""
        lines = self.err.splitlines()
        errors = [line for line in lines if "error: " in line]
        notes = [line for line in lines if line not in errors]
        assert (self.code, len(errors)) == (code, 1), (self.code, self.err)
        assert all(line.startswith(NOTES) or line in said for line in notes), self.err
        assert "Traceback" not in self.err
        assert self.out == ""
        return errors[0]


NOTES = ("preflight: no SSH session found", "mounted the bpf file system", "warning: ")


def run(*command: object, env: dict[str, str] | None = None, **options: object) -> Done:
    """Run a command without an SSH session in its environment, but for what ``env`` adds."""
    clean = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
    done = subprocess.run(  # type: ignore[call-overload]
        [str(part) for part in command],
        check=False, capture_output=True, text=True, errors="replace", timeout=60, env=clean | (env or {}),
        **options,
    )  # fmt: skip
    return Done(done.returncode, done.stdout, done.stderr)


def patched(patch: str, words: list[str]) -> Done:
    """The command in a process of its own in which ``patch`` has run."""
    script = f"import sys\n{patch}\nfrom xdpguard.cli import main\nsys.exit(main.main(sys.argv[1:]))"
    return run(sys.executable, "-c", script, *words)


def compiled_of(text: str, file: str, folder: Path) -> Compiled:
    """Rules that are in no file, as if they were."""
    made = compiled.of(parse(text.encode(), file, folder))
    return replace(made, files={file: text.encode()})


@dataclass(slots=True)
class Site:
    """The interface under test (``end``), its peer, and a folder for rule files."""

    end: End
    peer: End
    folder: Path
    said: list[str] = field(default_factory=list)

    @classmethod
    def of(cls, veth: Veth, folder: Path) -> Site:
        return cls(veth.server, veth.client, folder)

    def write(self, text: str, name: str = "rules.yaml") -> Path:
        path = self.folder / name
        path.write_text(text)
        path.chmod(0o644)
        return path

    def console(self, command: str, *arguments: object, env: dict[str, str] | None = None) -> Done:
        return run(CONSOLE, *self.words(command, *arguments), env=env)

    def words(self, command: str, *arguments: object) -> list[str]:
        return [command, "-i", self.end.dev, "--netns", self.end.name, *map(str, arguments)]

    def load(
        self,
        text: str,
        *,
        confirm: int | None = None,
        mode: str = "auto",
        force: bool = False,
        account_owners: bool | None = None,
    ) -> None:
        """In this process."""
        load(
            [self.end.dev], compiled_of(text, "rules.yaml", self.folder), mode=mode, netns=self.end.name,
            confirm=confirm, force=force, say=self.said.append, verbose=False, account_owners=account_owners,
        )  # fmt: skip

    def confirm(self) -> None:
        verbs.confirm([self.end.dev], self.end.name, self.said.append)

    def rollback(self) -> None:
        verbs.rollback([self.end.dev], self.end.name, self.said.append)

    def unload(self) -> None:
        verbs.unload([self.end.dev], self.end.name, self.said.append)

    def status(self) -> InterfaceStatus:
        (found,) = status.status(self.end.dev, self.end.name)
        return found

    def counts(self) -> InterfaceCounts:
        (found,) = snapshot(self.end.dev, self.end.name).interfaces
        return found

    def delivered(self, *ports: int, hook: str = "ingress") -> list[int]:
        """Send a frame to each port; the ports whose frames arrive."""
        source, target = (self.peer, self.end) if hook == "ingress" else (self.end, self.peer)
        with network.capture(target.name, target.dev) as seen:
            network.send(source.name, source.dev, [frame(port) for port in (*ports, LAST)])
            return [port_of(data) for data in seen.until(frame(LAST))]

    def in_force(self, *, hook: str = "ingress") -> set[int]:
        """The toggled ports that are dropped; the constant ones must be as always, if rules are there."""
        arrived = self.delivered(DROPPED, PASSED, *TOGGLED, hook=hook)
        assert PASSED in arrived
        dropped = set(TOGGLED) - set(arrived)
        assert (DROPPED in arrived) == (not dropped), arrived
        return dropped

    def await_fallback(self, ports: set[int]) -> None:
        """Until frames are judged by the rules before: nobody but the kernel side makes it so.

        It may be so from the middle of a look on, so a look is no whole rule set before that.
        """
        wanted = {PASSED, *TOGGLED} - ports | (set() if ports else {DROPPED})
        deadline = time.monotonic() + network.PATIENCE
        while set(self.delivered(DROPPED, PASSED, *TOGGLED)) != wanted:
            assert time.monotonic() < deadline

    def verdicts(self) -> set[int]:
        """``in_force`` of both hooks, which must agree."""
        ingress, egress = self.in_force(), self.in_force(hook="egress")
        assert ingress == egress
        return ingress


_JUDGES: dict[tuple[Size, bool], Programs] = {}


def keep_judges(monkeypatch: pytest.MonkeyPatch) -> None:
    """Skip the preflight of loads in this process: to verify its programs takes longer than all the rest.

    A load then gets programs of an earlier one, which tell it what its own would be (the same code).
    """
    run = preflight.run

    def again(loaded: Loaded) -> Loaded:
        return replace(loaded, fd=os.dup(loaded.fd))

    def kept(found: maps.MapSet, *arguments: Any, **options: Any) -> Programs:
        kind = found.size, maps.ACCOUNTS in found.fds
        if kind not in _JUDGES:
            _JUDGES[kind] = run(found, *arguments, **options)
        judge = _JUDGES[kind]
        return replace(judge, ingress=again(judge.ingress), egress=again(judge.egress))

    monkeypatch.setattr(preflight, "run", kept)


def made(lab: Lab, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """For a fixture: a pair of interfaces of which one is under test; unloaded at the end."""
    keep_judges(monkeypatch)
    one = Site.of(lab.veth(ipv6=False), folder)
    yield one
    try:
        one.unload()
    except NotLoadedError:
        pass  # the test unloaded, or loaded nothing
