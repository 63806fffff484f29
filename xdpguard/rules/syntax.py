"""YAML syntax errors in words that help: which character, and what to write instead.

Must never decide whether a file is right; it only explains why the YAML parser stopped.
"""

from __future__ import annotations

import yaml

from .report import Mark
from .text import show

_QUOTE = "an address that begins or ends with ':' needs quotes here, as in \"2001:db8::\""


def explain(error: yaml.YAMLError, text: str) -> tuple[Mark | None, str]:
    """The place (None if the parser gave none) and one line for it."""
    if not isinstance(error, yaml.MarkedYAMLError) or error.problem_mark is None:
        return None, f"not readable as YAML: {' '.join(str(error).split())}"
    mark: Mark = error.problem_mark
    line = _line(text, mark.line)
    what = error.problem or "syntax error"
    words = f"not readable as YAML: {what}"
    if error.context:
        words += f" {error.context}"
    hint = _hint(line, mark.column, what)
    return mark, words + (f"; {hint}" if hint else "")


def _line(text: str, number: int) -> str:
    start = 0
    for _ in range(number):
        start = text.find("\n", start) + 1
        if start == 0:
            return ""
    end = text.find("\n", start)
    return text[start:] if end < 0 else text[start:end]


def _hint(line: str, column: int, problem: str) -> str:
    char = line[column : column + 1]
    if char == "\t" or "tab character" in problem:
        return "indent with spaces, not with a tab"
    if "cannot start any token" in problem:
        if char == "@":
            return 'a set needs quotes, as in "@office"'
        return f"put a value that begins with {show(char)} in quotes"
    if "::" in line[max(0, column - 45) : column + 45]:
        return _QUOTE
    if "mapping values" in problem:
        return "put a value that holds ': ' in quotes, and check the indentation"
    if "found unexpected end of stream" in problem:
        return "a quote is not closed"
    return ""
