"""One machine: a QEMU process that dies with its parent, and requests to the agent inside.

What must never break: every step ends within its own time limit, with an error that shows the console's last
lines, and no process is left when the machine is closed.
"""

from __future__ import annotations

import base64
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vmlab import topology
from vmlab.boot import Plan
from vmlab.errors import LabError

BOOT_SECONDS = 240
# All CPUs of a machine take turns on one thread. With a thread each, QEMU's default, a CPU can run stale code
# after another has changed it, and a kernel changes its own: one boot in some forty of the newest panicked.
# gitlab.com/qemu-project/qemu/-/work_items/4669 saw it on QEMU 10.2 and 11.1 too, and not with one thread.
# The price: two busy CPUs are no faster than one. In CPU time it is none: beside other work a boot of the
# newest took 14 to 16 s (10 boots), its traces 110 to 154 s (4 runs); two threads 13 to 35 s (4), 186 s (1).
_ACCELERATOR = "tcg,thread=single"
_CONSOLE_LINES = 25
_GRACE_SECONDS = 20  # what an answer may take beyond the guest's own limit


@dataclass(frozen=True, slots=True)
class Result:
    """Of a command in the guest. ``code``: its exit code, negative for a signal."""

    code: int
    out: str
    err: str


@dataclass(frozen=True, slots=True)
class Network:
    """How one interface is wired: QEMU arguments, made by ``lab.py``."""

    interface: topology.Interface
    arguments: tuple[str, ...]


class Machine:
    """Use as a context manager; ``wait_ready`` before the first request."""

    def __init__(self, spec: topology.Machine, plan: Plan, networks: Sequence[Network], folder: Path) -> None:
        self.spec = spec
        self.name = spec.name
        self.folder = folder
        self.console = folder / f"{spec.name}.console"
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(folder / f"{spec.name}.control"))
        self._listener.listen(1)
        self._socket: socket.socket | None = None
        self._buffer = b""
        self._failure: LabError | None = None
        with self.console.open("wb") as console:
            self._qemu = subprocess.Popen(
                ["setpriv", "--pdeathsig", "KILL", *self._arguments(plan, networks)],
                stdin=subprocess.DEVNULL, stdout=console, stderr=console, start_new_session=True,
            )  # fmt: skip

    def _arguments(self, plan: Plan, networks: Sequence[Network]) -> list[str]:
        control, shell = self.folder / f"{self.name}.control", self.folder / f"{self.name}.shell"
        arguments = [*plan.qemu, "-accel", _ACCELERATOR]
        arguments += ["-m", f"{self.spec.memory_mb}M", "-smp", str(self.spec.cpus)]
        arguments += ["-append", f"virtme_hostname={self.name} {plan.command_line}"]
        arguments += ["-chardev", f"socket,id=control,path={control}", "-device", "virtio-serial-pci"]
        arguments += ["-device", "virtserialport,name=xdpguard.lab,chardev=control"]
        arguments += ["-serial", f"unix:{shell},server=on,wait=off"]
        for network in networks:
            arguments += network.arguments
        return arguments

    @property
    def pid(self) -> int:
        return self._qemu.pid

    def wait_ready(self, timeout: float = BOOT_SECONDS) -> str:
        """Until the agent answers. Returns the kernel's release."""
        until = time.monotonic() + timeout
        self._listener.settimeout(0.5)
        while self._socket is None:
            try:
                self._socket, _ = self._listener.accept()
            except TimeoutError:
                if self._qemu.poll() is not None or time.monotonic() > until:
                    raise self._failed("boot", timeout) from None
        release: str = self._receive("boot", max(1.0, until - time.monotonic()))["ready"]
        return release

    def request(self, what: str, timeout: float, **fields: Any) -> dict[str, Any]:
        """One request to the agent; ``what`` names the step in an error.

        A machine that once did not answer is not asked again: its late answer would pass for the next one.
        """
        if self._failure is not None:
            raise self._failure
        if self._socket is None:
            raise LabError(f"{self.name}: not booted")
        line = json.dumps({**fields, "timeout": timeout}).encode() + b"\n"
        try:
            self._socket.settimeout(timeout + _GRACE_SECONDS)
            self._socket.sendall(line)
        except OSError:
            raise self._failed(what, timeout) from None
        answer = self._receive(what, timeout + _GRACE_SECONDS)
        if "error" in answer:
            raise LabError(f"{self.name}: {what}: {answer['error']}")
        return answer

    def _receive(self, what: str, timeout: float) -> dict[str, Any]:
        assert self._socket is not None
        until = time.monotonic() + timeout
        while b"\n" not in self._buffer:
            self._socket.settimeout(max(0.01, until - time.monotonic()))
            try:
                piece = self._socket.recv(1 << 20)
            except (TimeoutError, ConnectionError):
                piece = b""
            if not piece:
                raise self._failed(what, timeout)
            self._buffer += piece
        line, self._buffer = self._buffer.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        return answer

    def run(self, *argv: str, timeout: float = 60, stdin: bytes = b"") -> Result:
        """Run a command in the guest to its end. ``xdpguard`` as the first word is the package's command."""
        what = " ".join(argv)
        data = base64.b64encode(stdin).decode()
        answer = self.request(what, timeout, do="run", argv=argv, stdin=data)
        if answer["rc"] is None:
            raise LabError(f"{self.name}: {what}: no end within {timeout} s\n{answer['out']}{answer['err']}")
        return Result(answer["rc"], answer["out"], answer["err"])

    def check(self, *argv: str, timeout: float = 60, stdin: bytes = b"") -> str:
        """Run a command that must succeed; return its output."""
        result = self.run(*argv, timeout=timeout, stdin=stdin)
        if result.code:
            raise LabError(
                f"{self.name}: {' '.join(argv)}: exit code {result.code}\n{result.out}{result.err}"
            )
        return result.out

    def start(self, *argv: str, ready: str = "", timeout: float = 60) -> int:
        """Start in the background, wait for ``ready`` in its output or errors; a handle for ``finish``."""
        pid: int = self.request(" ".join(argv), timeout, do="start", argv=argv, ready=ready)["pid"]
        return pid

    def finish(self, pid: int, *, send: int = signal.SIGTERM, timeout: float = 60) -> Result:
        answer = self.request(f"end of process {pid}", timeout, do="finish", pid=pid, signal=send)
        if answer["rc"] is None:
            raise LabError(f"{self.name}: process {pid}: no end within {timeout} s\n{answer['err']}")
        return Result(answer["rc"], answer["out"], answer["err"])

    def put(self, path: str, data: bytes) -> None:
        self.request(f"put {path}", 30, do="put", path=path, data=base64.b64encode(data).decode())

    def _failed(self, what: str, timeout: float) -> LabError:
        """Names what happened: a panic, an end of QEMU, or silence."""
        try:
            self._qemu.wait(timeout=2)
        except subprocess.TimeoutExpired:
            pass
        lines = self.console.read_text(errors="replace").splitlines()
        panics = [line for line in lines if "Kernel panic" in line]
        if panics:
            cause = f"the machine panicked: {panics[0].strip()}"
        elif self._qemu.returncode is not None:
            cause = f"QEMU ended with exit code {self._qemu.returncode}"
        else:
            cause = f"no answer within {timeout:.0f} s: the machine hangs"
        tail = "\n".join(f"  | {line}" for line in lines[-_CONSOLE_LINES:])
        self._failure = LabError(f"{self.name}: {what}: {cause}; the console's last lines:\n{tail}")
        return self._failure

    def close(self) -> None:
        """Kill QEMU; nothing in the guest is worth a shutdown."""
        if self._qemu.poll() is None:
            os.killpg(self._qemu.pid, signal.SIGKILL)
        self._qemu.wait()
        if self._socket is not None:
            self._socket.close()
        self._listener.close()

    def __enter__(self) -> Machine:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
