"""docs/guarantees.md: every line promises one thing, once, and names a test that is there and keeps it."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs/guarantees.md"
NAMED = re.compile(r"`((?:tests|vmtests)/[\w/]+\.py)::(test_\w+)`")
OTHER_SECTIONS = {"Capabilities"}  # its table is read by tests/live/reliability/privileges.py


class Promise(NamedTuple):
    """``tests``: (path from the root, name of the function)."""

    text: str
    tests: tuple[tuple[str, str], ...]


def promises(page: str) -> list[Promise]:
    """A promise is an item of a list, on however many lines."""
    found = []
    for section in re.split(r"^## ", page, flags=re.M)[1:]:
        title, _, body = section.partition("\n")
        if title not in OTHER_SECTIONS:
            items = re.split(r"^- ", body, flags=re.M)
            assert not items[0].strip(), f"{title}: not a promise: {items[0]!r}"
            found += [
                Promise(" ".join(NAMED.sub("", item).split()), tuple(NAMED.findall(item)))
                for item in items[1:]
            ]
    return found


@cache
def decorated(path: Path) -> dict[str, str]:
    """Name -> decorators, of every function that pytest takes for a test."""
    if not path.is_file():
        return {}
    body = ast.parse(path.read_text()).body
    functions = [one for one in body if isinstance(one, ast.FunctionDef)]
    return {one.name: "\n".join(map(ast.unparse, one.decorator_list)) for one in functions}


def faults(page: str) -> list[str]:
    """What is wrong with the page, a line each."""
    found, seen = [], set()
    for promise in promises(page):
        if promise.text in seen:
            found.append(f"promised twice: {promise.text}")
        seen.add(promise.text)
        if not promise.tests:
            found.append(f"names no test: {promise.text}")
        marks = [decorated(ROOT / path).get(name) for path, name in promise.tests]
        for (path, name), mark in zip(promise.tests, marks, strict=True):
            if mark is None:
                found.append(f"there is no {path}::{name}: {promise.text}")
            elif "mark.xfail" in mark or "mark.skip(" in mark:
                found.append(f"{path}::{name} does not keep it: {promise.text}")
        if any("mark.soak" in mark for mark in marks if mark) != ("soak" in promise.text):
            found.append(f"says of a soak what is none, or does not say so: {promise.text}")
    return found


def test_every_promise_is_made_once_and_names_tests_that_keep_it() -> None:
    page = PAGE.read_text()
    assert len(promises(page)) > 30
    assert faults(page) == []


HERE = "`tests/test_guarantees.py::test_a_page_that_promises_too_much_is_found`"
FOLDER = "tests/live/reliability"
SOAK = f"`{FOLDER}/test_lockout.py::test_fifty_commands_lost_after_a_load_to_confirm_lock_nobody_out`"


@pytest.mark.parametrize(
    ("items", "fault"),
    [
        (f"- A.\n  {HERE}\n- A.\n  {HERE}", "promised twice: A."),
        ("- A.", "names no test: A."),
        ("- A.\n  tests/test_guarantees.py::test_a_page_that_promises_too_much_is_found", "names no test"),
        ("- A. `tests/test_guarantees.py::test_gone`", "there is no tests/test_guarantees.py::test_gone: A."),
        ("- A. `vmtests/test_gone.py::test_gone`", "there is no vmtests/test_gone.py::test_gone: A."),
        (f"- A. {SOAK}", "does not say so: A."),
        (f"- A, in a soak. {HERE}", "says of a soak what is none"),
    ],
)
def test_a_page_that_promises_too_much_is_found(items: str, fault: str) -> None:
    [told] = faults(f"# Guarantees\n\n## One\n{items}\n\n## Capabilities\n- not a promise\n")
    assert fault in told


def test_a_page_that_says_no_more_than_is_kept_has_no_fault() -> None:
    assert faults(f"## One\n- A.\n  {HERE}\n\n## Two\n- B,\n  in a soak. {HERE}\n  {SOAK}\n") == []


def test_the_page_is_linked_where_the_others_are() -> None:
    assert "(docs/guarantees.md)" in (ROOT / "README.md").read_text()
