"""What the tests of kept rules share: a rule file that names others, and a parser that counts its runs."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from xdpguard.generation import compiled
from xdpguard.generation.compiled import Compiled
from xdpguard.kernel import kept
from xdpguard.rules import parse

TEXT = """version: 1
default: {egress: drop}
sets:
  bad: {file: bad.txt}
ingress:
  - {name: bad, src: '@bad', action: drop}
  - {rules_file: more.tsv}
  - {name: bad-again, src: '@bad', action: drop}
egress:
  - {name: mirror, proto: udp, dport: 53, action: {redirect: {interface: ids0, dst_mac: '02:00:00:00:00:09'}}}
  - {rules_file: more.jsonl}
"""
NAMED = {
    "bad.txt": ("192.0.2.1\n", "192.0.2.2\n"),
    "more.tsv": ("name\tdport\taction\nssh\t22\tpass\n", "name\tdport\taction\nssh\t23\tpass\n"),
    "more.jsonl": ('{"name": "web", "dport": 80, "action": "pass"}\n', '{"name": "web", "action": "pass"}\n'),
}
"""Contents before and after a change."""


class Work:
    """How often rules were parsed."""

    def __init__(self) -> None:
        self.times = 0


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Work:
    """A folder of this test's own for what is kept, and a parser that counts."""
    made, real = Work(), parse.load_file

    def load_file(*arguments: object, **options: object) -> object:
        made.times += 1
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(kept, "FOLDER", tmp_path / "cache")
    monkeypatch.setattr(parse, "load_file", load_file)
    return made


@pytest.fixture
def rules(tmp_path: Path) -> str:
    """A rule file that names one of each."""
    for name, (text, _) in NAMED.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "rules.yaml").write_text(TEXT)
    return str(tmp_path / "rules.yaml")


def same(one: Compiled, other: Compiled) -> bool:
    first, second = (dataclasses.replace(each.draft, data=bytes(each.draft.data)) for each in (one, other))
    return (one.outline, first) == (other.outline, second)


def fresh(path: str) -> Compiled:
    return compiled.of(parse.load_file(path, thorough=False))


def read(path: str, tell: Callable[[str], None] | None = None) -> Compiled:
    """``tell``: the lines of --verbose, without the notes."""
    said: list[str] = []
    found = compiled.read(path, said.append, verbose=tell is not None)
    notes = list(found.outline.notes)
    told = [line for line in said if line not in notes]
    assert [line for line in said if line in notes] == notes
    if tell is None:
        assert told == []
    else:
        list(map(tell, told))
    return found


def the_file() -> Path:
    (path,) = kept.FOLDER.iterdir()
    return path
