"""Runs in the guest as its only service: does what the host asks for over a virtio port, in JSON lines.

Ends, and with it the machine, when the host closes the port: no machine outlives its test. ``xdpguard``
commands run in a fork of this process, which has imported the package once: a Python import takes seconds
under emulation. They are otherwise what the installed command runs.
"""

from __future__ import annotations

import base64
import io
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

_PROJECT = Path(__file__).resolve().parents[3]

Request = dict[str, Any]
Answer = dict[str, Any]


class Process:
    """A child with its output in files. ``target`` None: run ``argv``; else call it in a fork."""

    def __init__(
        self, argv: list[str], target: Callable[[list[str]], int] | None = None, stdin: bytes = b""
    ) -> None:
        self._out = os.memfd_create("stdout")
        self._err = os.memfd_create("stderr")
        given = os.memfd_create("stdin")
        os.pwrite(given, stdin, 0)
        self.pid = os.fork()
        if self.pid:
            os.close(given)
            return
        os.setsid()
        for number, file in ((0, given), (1, self._out), (2, self._err)):
            os.dup2(file, number)
        try:
            if target is None:
                os.execvp(argv[0], argv)
            os._exit(target(argv))
        except OSError as error:
            os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
            os._exit(127)

    def finish(self, timeout: float) -> Answer:
        """Wait for its end; past ``timeout`` seconds its whole session is killed and ``rc`` is null."""
        ended = self.ends_within(timeout)
        if not ended:
            os.killpg(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        output = self.output()
        os.close(self._out)
        os.close(self._err)
        return {"rc": os.waitstatus_to_exitcode(status) if ended else None, **output}

    def ends_within(self, timeout: float) -> bool:
        descriptor = os.pidfd_open(self.pid)
        try:
            return bool(select.select([descriptor], [], [], timeout)[0])
        finally:
            os.close(descriptor)

    def output(self) -> Answer:
        texts = {}
        for name, file in (("out", self._out), ("err", self._err)):
            texts[name] = os.pread(file, os.fstat(file).st_size, 0).decode(errors="replace")
        return texts


def _xdpguard(argv: list[str]) -> int:
    from xdpguard.cli.main import entry

    sys.argv = argv
    # Text layers over the descriptors that this fork was given.
    sys.stdin = io.TextIOWrapper(os.fdopen(0, "rb"))
    sys.stdout = io.TextIOWrapper(os.fdopen(1, "wb"), line_buffering=True)
    sys.stderr = io.TextIOWrapper(os.fdopen(2, "wb"), line_buffering=True)
    code = 0
    try:
        entry()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    sys.stdout.flush()
    sys.stderr.flush()
    return code


class Agent:
    def __init__(self, port: io.BufferedRWPair) -> None:
        self._port = port
        self._started: dict[int, Process] = {}

    def serve(self) -> None:
        self._say({"ready": os.uname().release})
        while line := self._port.readline():
            request = json.loads(line)
            try:
                answer = getattr(self, f"do_{request['do']}")(request)
            except Exception as error:  # the host must learn of it, whatever it is
                answer = {"error": f"{type(error).__name__}: {error}"}
            self._say(answer)

    def _say(self, answer: Answer) -> None:
        self._port.write(json.dumps(answer).encode() + b"\n")
        self._port.flush()

    def _process(self, request: Request) -> Process:
        argv = request["argv"]
        target = _xdpguard if argv[0] == "xdpguard" else None
        return Process(argv, target, base64.b64decode(request.get("stdin", "")))

    def do_run(self, request: Request) -> Answer:
        return self._process(request).finish(request["timeout"])

    def do_start(self, request: Request) -> Answer:
        """Start in the background; answers once ``ready`` stands in its output or among its errors."""
        process = self._process(request)
        self._started[process.pid] = process
        until = time.monotonic() + request["timeout"]
        while request.get("ready") and not any(
            request["ready"] in text for text in process.output().values()
        ):
            if process.ends_within(0.05) or time.monotonic() > until:
                os.kill(process.pid, signal.SIGKILL)
                return {"error": f"not ready: {process.finish(5)}"}
        return {"pid": process.pid}

    def do_finish(self, request: Request) -> Answer:
        """Send the signal, wait for the end."""
        process = self._started.pop(request["pid"])
        if request.get("signal"):
            os.kill(process.pid, request["signal"])
        return process.finish(request["timeout"])

    def do_put(self, request: Request) -> Answer:
        path = Path(request["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(base64.b64decode(request["data"]))
        return {}

    def do_warm(self, _: Request) -> Answer:
        """Import what xdpguard commands need."""
        import numpy  # noqa: F401
        import pyroute2  # noqa: F401

        import xdpguard.cli.main
        import xdpguard.guard.load
        import xdpguard.stats.read  # noqa: F401

        return {}

    def do_shell(self, request: Request) -> Answer:
        """A shell on the second serial line, with job control, in the project's folder."""
        environment = {**os.environ, "TERM": "xterm", "PS1": f"{os.uname().nodename}# "}
        environment["PATH"] = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        size = f"stty rows {request['rows']} cols {request['columns']}"
        argv = ["setsid", "-c", "bash", "-c", f"{size}; exec bash --norc -i"]
        with Path("/dev/ttyS1").open("r+b", buffering=0) as line:
            child = subprocess.Popen(
                argv, stdin=line, stdout=line, stderr=line, env=environment, cwd=_PROJECT
            )
        return {"pid": child.pid}


def _port() -> io.BufferedRWPair:
    """The virtio port that the host listens on: there is no udev here that would name it."""
    for name in Path("/sys/class/virtio-ports").glob("*/name"):
        if name.read_text().strip() == "xdpguard.lab":
            line = os.open(f"/dev/{name.parent.name}", os.O_RDWR)  # can be opened once
            return io.BufferedRWPair(io.FileIO(line, "r", closefd=False), io.FileIO(line, "w"))
    raise SystemExit("no virtio port called xdpguard.lab")


if __name__ == "__main__":
    Agent(_port()).serve()
