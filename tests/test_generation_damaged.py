"""Compiled rules that are kept: damage, and what is not kept at all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from compiled_support import Work, fresh, read, rules, same, the_file, work

from xdpguard.errors import KernelError, RulesError
from xdpguard.generation import compiled
from xdpguard.kernel import kept

__all__ = ["rules", "work"]  # fixtures


# ---- damage ---------------------------------------------------------------------------------------------
def test_a_damaged_file_is_told_in_a_line_and_made_again(rules: str, work: Work) -> None:
    read(rules)
    whole, expected = the_file().read_bytes(), fresh(rules)
    for at in [*range(0, 600, 37), *range(600, len(whole), len(whole) // 20)]:
        the_file().write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        said: list[str] = []
        assert same(read(rules, said.append), expected)
        assert said == [f"{the_file()}: is damaged: not used"]
        assert the_file().read_bytes() == whole


def head(**changed: object) -> Callable[[bytes], list[bytes]]:
    """The content with another head."""

    def spoil(content: bytes) -> list[bytes]:
        end = 4 + int.from_bytes(content[:4], "little")
        data = json.dumps(json.loads(content[4:end]) | changed).encode()
        return [len(data).to_bytes(4, "little"), data, content[end:]]

    return spoil


SPOILED: dict[str, Callable[[bytes], list[bytes]]] = {
    "nothing": lambda content: [],
    "no head": lambda content: [bytes(4)],
    "a head without end": lambda content: [b"\xff\xff\xff\xff", content[4:]],
    "a head that is no JSON": lambda content: [content[:4], b"x", content[5:]],
    "a head that is no object": lambda content: [(2).to_bytes(4, "little"), b"[]"],
    "an empty head": lambda content: [(2).to_bytes(4, "little"), b"{}"],
    "a byte too many": lambda content: [content, b"\0"],
    "a byte too few": lambda content: [content[:-1]],
    "of another name": head(name="other.rules"),
    "other lengths": head(lengths=[1, 2, 3]),
    "lengths below zero": head(lengths=[-8, 8, 0]),
    "two lengths": head(lengths=[1, 2]),
    "no outline": head(outline=None),
    "an outline with more": head(outline={"more": 1}),
    "gaps of another kind": head(gaps=[[1]]),
    "files of another kind": head(files=5),
}


@pytest.mark.parametrize("what", SPOILED)
def test_a_file_that_is_whole_but_not_as_written_is_not_used(what: str, rules: str, work: Work) -> None:
    read(rules)
    content = bytes(kept.read(the_file(), 1 << 20))
    kept.write(the_file(), *SPOILED[what](content))
    said: list[str] = []
    assert same(read(rules, said.append), fresh(rules))
    assert len(said) == 1
    assert said[0].startswith(f"{the_file()}: is not as it was written (")
    assert bytes(kept.read(the_file(), 1 << 20)) == content


def test_notes_of_rules_that_do_not_compile_are_said(
    rules: str, work: Work, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(ruleset: object) -> None:
        raise RulesError([])

    monkeypatch.setattr("xdpguard.classify.compile.draft", refuse)
    said: list[str] = []
    with pytest.raises(RulesError):
        compiled.read(rules, said.append)
    assert any("'bad-again' can never match" in note for note in said)


# ---- what is not kept -----------------------------------------------------------------------------------
def test_refused_rules_are_not_kept(work: Work, tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text("version: 1\ningress: [{name: a, dport: 70000, action: drop}]\n")
    with pytest.raises(RulesError, match="70000"):
        read(str(path))
    assert not kept.FOLDER.exists()


def test_only_so_many_rule_files_are_kept(
    work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "MOST_FILES", 3)
    for port in range(5):
        (tmp_path / "rules.yaml").write_text(
            f"version: 1\ningress: [{{name: a, dport: {port + 1}, action: drop}}]\n"
        )
        read(str(tmp_path / "rules.yaml"))
    assert len(list(kept.FOLDER.iterdir())) == 3


def test_without_a_folder_rules_are_compiled_each_time(rules: str, work: Work, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    said: list[str] = []
    assert same(read(rules, said.append), read(rules))
    assert work.times == 2
    assert said[0].endswith("cannot be read: Not a directory: not used")


def test_no_memory_to_compile_is_told(rules: str, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    def draft(ruleset: object) -> None:
        raise MemoryError

    monkeypatch.setattr("xdpguard.classify.compile.draft", draft)
    with pytest.raises(KernelError, match="no memory to compile 5 rules; nothing changed"):
        read(rules)
