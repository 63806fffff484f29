"""Verbs and a parser that tests of the command line put in the place of the real ones."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from xdpguard.errors import (
    Problem,
    RulesError,
    XdpguardError,
)
from xdpguard.rules.model import Action, Hook, Match, Rule, RuleSet

Install = Callable[..., None]
Output = pytest.CaptureFixture[str]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Install:
    """``install("guard.load", load=function)`` puts a module in the place of xdpguard.guard.load."""

    def put(name: str, **functions: Any) -> None:
        module = ModuleType(f"xdpguard.{name}")
        for key, function in functions.items():
            setattr(module, key, function)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return put


def ruleset(file: str, rules: int = 2, notes: tuple[str, ...] = ()) -> RuleSet:
    rule = Rule("r", Action.DROP, Match(), None, "0" * 32, 1, 1)
    return RuleSet(file, Hook(Action.PASS, (rule,) * rules), Hook(Action.PASS), notes=notes)


def problem(file: str) -> RulesError:
    return RulesError([Problem(file, 3, 7, "error", "port 70000: 0 to 65535 are allowed")])


@pytest.fixture
def parser(install: Install) -> dict[str, RuleSet | XdpguardError]:
    """A parser of files by name, and a compiler that takes them all."""
    files: dict[str, RuleSet | XdpguardError] = {"good": ruleset("good")}

    def parse(path: str) -> RuleSet:
        found = files[str(path)]
        if isinstance(found, XdpguardError):
            raise found
        return found

    def read(path: str, say: Callable[[str], None], *, verbose: bool) -> SimpleNamespace:
        return SimpleNamespace(outline=parse(path), verbose=verbose)

    install("rules.parse", load_file=parse)
    install("generation.compiled", read=read)
    install("classify.compile", build=lambda ruleset: SimpleNamespace(summary=("2 rules in 1 list",)))
    return files


Files = dict[str, RuleSet | XdpguardError]


@pytest.fixture
def no_verb_is_real(install: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that forgets to replace a verb must fail here, never touch the machine nor ask about it."""
    monkeypatch.setattr("xdpguard.kernel.owners.needed", lambda: False)
    for name in ("guard.load", "guard.verbs", "guard.restore", "guard.status", "stats.read"):
        install(name)


def raising(error: BaseException) -> Callable[..., None]:
    """A verb that ends with this error."""

    def fail(*arguments: Any, **options: Any) -> None:
        raise error

    return fail
