"""Commands that get a signal at a chosen step, each in a fork (``forking``).

Owns the list of steps: every call that changes the kernel or the maps.
"""

from __future__ import annotations

import io
import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import forking
from test_lifecycle_support import Done

_BPF = {0: "create map", 2: "update map", 3: "delete", 5: "load program", 6: "pin", 7: "open pin", 35: "bind"}


@dataclass(frozen=True, slots=True)
class Step:
    """The ``number``-th call (from 1), and whether the signal comes ``before`` or after it."""

    number: int
    name: str
    before: bool


class Forks(forking.Forks):
    def __init__(self) -> None:
        super().__init__(__file__)

    def steps(self, words: list[str]) -> list[str]:
        """Run a command unharmed; the names of its steps in order."""
        answer = self._ask(words, 0, False, 0)
        assert answer["code"] == 0, answer["err"]
        steps: list[str] = answer["steps"]
        return steps

    def run(self, words: list[str], step: Step, number: signal.Signals) -> Done:
        """Run a command that sends itself a signal at one of its steps."""
        answer = self._ask(words, step.number, step.before, number)
        return Done(answer["code"], "", answer["err"])

    def _ask(self, words: list[str], at: int, before: bool, number: int) -> dict[str, Any]:
        answer: dict[str, Any] = self.ask({"words": words, "at": at, "before": before, "signal": number})
        return answer


def chosen(names: list[str]) -> list[Step]:
    """Before the first and after the last step of each name."""
    found: dict[tuple[int, bool], Step] = {}
    for place, name in enumerate(names, 1):
        if names.index(name) == place - 1:
            found[place, True] = Step(place, name, before=True)
        if name not in names[place:]:
            found[place, False] = Step(place, name, before=False)
    return [found[key] for key in sorted(found, key=lambda key: (key[0], not key[1]))]


# ---- the process -------------------------------------------------------------------------------------------


def _hook(at: int, before: bool, number: int) -> list[str]:
    """Wrap every call that changes something; return the list in which their names appear."""
    from xdpguard.generation import slots
    from xdpguard.kernel import bpf, maps, pins, tc, xdp

    names: list[str] = []

    def wrap(owner: Any, attribute: str, name: Callable[..., str | None]) -> None:
        original = getattr(owner, attribute)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            called = name(*arguments)
            if called is None:
                return original(*arguments, **options)
            names.append(called)
            mine = len(names) == at
            if mine and before:
                os.kill(os.getpid(), number)
            result = original(*arguments, **options)
            if mine and not before:
                os.kill(os.getpid(), number)
            return result

        setattr(owner, attribute, wrapped)

    wrap(bpf, "call", lambda command, _: _BPF.get(command))
    wrap(xdp, "_set", lambda *_: "xdp")
    wrap(tc, "_change", lambda command, *_: command)
    wrap(tc, "add_clsact", lambda *_: "add clsact")
    wrap(tc, "remove_clsact_if_empty", lambda *_: "remove clsact")
    wrap(maps.Control, "_store", lambda _, field, value: f"store {field}")
    wrap(maps.Control, "put", lambda _, field, value: f"put {field}")
    wrap(slots, "clear", lambda *_: "clear slot")
    wrap(slots, "write", lambda *_: "write slot")
    wrap(pins, "remove", lambda *_: "unpin")
    return names


def _child(request: dict[str, Any], out: int) -> None:
    from xdpguard.cli import main

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, main._terminate)
    sys.stdout, sys.stderr = io.StringIO(), io.StringIO()
    names = _hook(request["at"], request["before"], request["signal"])
    code = main.main(request["words"])
    os.write(out, json.dumps({"code": code, "err": sys.stderr.getvalue(), "steps": names}).encode())


def _answer(told: str, code: int) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(told) if told else {"code": code, "err": "", "steps": []}
    return answer


if __name__ == "__main__":
    forking.serve(_child, _answer)
