"""A process that has imported all, and forks a child for each command that it is asked to run.

The fork saves the imports, so that hundreds of commands are affordable; the process has no threads of its
own that a fork could break.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any


class Forks:
    """``file``: the program, which ends in ``serve``."""

    def __init__(self, file: str) -> None:
        clean = {name: value for name, value in os.environ.items() if name != "SSH_CONNECTION"}
        # NumPy would start threads for its linear algebra, of which nothing is used.
        self._process = subprocess.Popen(
            [sys.executable, file], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=clean | {"OPENBLAS_NUM_THREADS": "1"},
        )  # fmt: skip

    def close(self) -> None:
        self._process.communicate(timeout=60)

    def ask(self, request: dict[str, Any]) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


def serve(child: Callable[[dict[str, Any], int], None], answer: Callable[[str, int], dict[str, Any]]) -> None:
    """``child``: runs in each fork; the file number is where it tells. ``answer``: of what it told and its
    exit code (a negative signal number if it was killed).
    """
    for line in sys.stdin:
        back, out = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                child(json.loads(line), out)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        os.close(out)
        with os.fdopen(back) as told:
            text = told.read()
        _, status = os.waitpid(pid, 0)
        print(json.dumps(answer(text, os.waitstatus_to_exitcode(status))), flush=True)
