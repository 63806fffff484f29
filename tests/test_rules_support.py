"""Short cuts for the tests of the rule language: one rule in, its Match or its errors out.

Owns nothing but the frame of a rule file around the line under test.
"""

from __future__ import annotations

from pathlib import Path

from xdpguard.errors import Problem, RulesError
from xdpguard.rules.model import Match, Rule, RuleSet
from xdpguard.rules.parse import parse

NOWHERE = Path("/nonexistent")


def file_of(*rules: str, head: str = "") -> str:
    """A rule file with these ingress rules; the first rule is in line 3, after one line of ``head``."""
    return f"version: 1\n{head}\ningress:\n" + "".join(f"- {rule}\n" for rule in rules)


def ruleset(text: str | bytes, base: Path = NOWHERE) -> RuleSet:
    return parse(text.encode() if isinstance(text, str) else text, "f.yaml", base)


def rule(conditions: str, head: str = "", action: str = "drop") -> Rule:
    """The only rule of a file: ``conditions`` are its keys but name and action."""
    comma = ", " if conditions else ""
    return ruleset(file_of(f"{{name: r, {conditions}{comma}action: {action}}}", head=head)).ingress.rules[0]


def match(conditions: str, head: str = "") -> Match:
    return rule(conditions, head).match


def problems(text: str | bytes, base: Path = NOWHERE) -> list[Problem]:
    """What is wrong with a refused file; fails if the file is accepted."""
    try:
        accepted = ruleset(text, base)
    except RulesError as error:
        return error.problems
    raise AssertionError(f"accepted: {accepted}")


def refusal(conditions: str, head: str = "") -> str:
    """The one error of a file with one rule."""
    found = problems(file_of(f"{{name: r, {conditions}, action: drop}}", head=head))
    assert [problem.severity for problem in found] == ["error"], found
    return found[0].message


def written(path: Path, text: str, mode: int = 0o644) -> Path:
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path
