"""Rules that are kept compiled: the same as compiled anew, until anything changes that made them."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from compiled_support import NAMED, TEXT, Work, fresh, read, rules, same, the_file, work

import xdpguard
from xdpguard.classify.compile import build
from xdpguard.classify.tables import Target
from xdpguard.errors import RulesError
from xdpguard.generation import compiled
from xdpguard.rules import parse, source

__all__ = ["rules", "work"]  # fixtures

EXAMPLES = sorted((Path(xdpguard.__file__).parents[1] / "rules").glob("*.yaml"))
TARGETS = {"ids0": Target(7, bytes.fromhex("020000000007"))}


# ---- the same -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_that_is_kept_is_the_same(path: Path, work: Work) -> None:
    first, second = read(str(path)), read(str(path))
    assert work.times == 1
    assert same(first, second)
    assert same(second, fresh(str(path)))


@pytest.mark.parametrize("suffix", ["tsv", "jsonl", "yaml"])
def test_a_large_rule_set_that_is_kept_is_the_same(suffix: str, work: Work, tmp_path: Path) -> None:
    chance = random.Random(5)
    rows = [
        {
            "name": f"r{at}",
            "proto": chance.choice(("tcp", "udp")),
            "src": f"10.{chance.randrange(256)}.{chance.randrange(256)}.0/24",
            "dst": f"2001:db8:{at:x}::/48" if at % 9 == 0 else f"172.16.{chance.randrange(99)}.1",
            "dport": str(chance.randrange(65536)),
            "action": chance.choice(("drop", "pass")),
        }
        for at in range(3000)
    ]
    for row in rows:
        if ":" in row["dst"]:
            del row["src"]
    columns = ("name", "proto", "src", "dst", "dport", "action")
    lines = {
        "tsv": ["\t".join(columns), *("\t".join(row.get(key, "") for key in columns) for row in rows)],
        "jsonl": [json.dumps(row) for row in rows],
        "yaml": ["version: 1", "ingress:", *(f"  - {json.dumps(row)}" for row in rows)],
    }
    path = tmp_path / f"large.{suffix}"
    path.write_text("\n".join(lines[suffix]) + "\n")
    if suffix != "yaml":
        path = tmp_path / "rules.yaml"
        path.write_text(f"version: 1\ningress: [{{rules_file: large.{suffix}}}]\n")
    first, second = read(str(path)), read(str(path))
    assert work.times == 1
    assert same(first, second)
    assert same(second, fresh(str(path)))


def test_the_bytes_of_a_generation_are_those_of_a_compilation(rules: str, work: Work) -> None:
    read(rules)
    found = read(rules)
    names = found.outline.named(12.5, {"ids0": 7})
    blob = found.draft.finish(rules, 77, TARGETS, names).blob
    assert blob == build(parse.load_file(rules), 77, TARGETS, names).blob
    assert work.times == 2  # by reading, and by this comparison


def test_what_is_kept_holds_nothing_of_the_host(rules: str, work: Work) -> None:
    read(rules)
    found = read(rules)
    before = bytes(found.draft.data)
    blobs = [
        bytes(found.draft.finish(rules, 1, {"ids0": Target(index, bytes(5) + bytes([index]))}, b"").blob)
        for index in (7, 8)
    ]
    assert blobs[0] != blobs[1]
    assert bytes(found.draft.data) == before


def test_notes_are_told_again(rules: str, work: Work, tmp_path: Path) -> None:
    (tmp_path / "more.tsv").write_text("name\tsrc\taction\nssh\t10.0.0.1/8\tpass\n")
    first, second = read(rules), read(rules)
    assert work.times == 1
    assert any("10.0.0.1/8" in note for note in second.outline.notes)
    assert first.outline.notes == second.outline.notes


def test_it_is_told_that_rules_are_unchanged_and_where_they_are_kept(rules: str, work: Work) -> None:
    said: list[str] = []
    read(rules, said.append)
    assert said == []
    read(rules, said.append)
    assert said == [f"{rules}: unchanged, compiled before ({the_file()})"]


# ---- changes --------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", NAMED)
def test_a_change_of_a_file_that_the_rule_file_names_is_seen(
    name: str, rules: str, work: Work, tmp_path: Path
) -> None:
    before = read(rules)
    (tmp_path / name).write_text(NAMED[name][1])
    after = read(rules)
    assert work.times == 2
    assert not same(before, after)
    assert same(after, fresh(rules))
    assert same(read(rules), after)


def test_a_change_of_the_rule_file_is_seen(rules: str, work: Work, tmp_path: Path) -> None:
    read(rules)
    (tmp_path / "rules.yaml").write_text(TEXT.replace("53", "54"))
    assert same(read(rules), fresh(rules))
    assert work.times == 3
    (tmp_path / "rules.yaml").write_text(TEXT)  # both are kept
    read(rules)
    assert work.times == 3


def test_the_same_rules_in_another_place_tell_that_place(rules: str, work: Work, tmp_path: Path) -> None:
    read(rules)
    other = tmp_path / "other.yaml"
    other.write_text(TEXT)
    assert read(str(other)).outline.file == str(other)


@pytest.mark.parametrize("name", ["rules.yaml", *NAMED])
def test_a_file_that_is_gone_is_an_error_as_ever(name: str, rules: str, work: Work, tmp_path: Path) -> None:
    read(rules)
    (tmp_path / name).unlink()
    with pytest.raises(RulesError) as ever:
        parse.load_file(rules)
    with pytest.raises(RulesError) as now:
        read(rules)
    assert str(now.value) == str(ever.value)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root refuses files that others can write")
@pytest.mark.parametrize("name", ["rules.yaml", *NAMED])
def test_a_file_that_others_can_write_is_refused_as_ever(
    name: str, rules: str, work: Work, tmp_path: Path
) -> None:
    read(rules)
    (tmp_path / name).chmod(0o646)
    with pytest.raises(RulesError, match="can be written by every user"):
        read(rules)


def test_a_change_of_the_program_is_seen(
    rules: str, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    part = tmp_path / "part.py"
    part.write_text("one")
    monkeypatch.setattr(compiled, "_program_files", lambda: [part])
    read(rules)
    part.write_text("two")
    read(rules)
    assert work.times == 2


def test_the_program_is_all_that_rules_pass_through() -> None:
    files = {str(path) for path in compiled._program_files()}
    package = Path(xdpguard.__file__).parent
    wanted = [*(package / "rules").glob("*.py"), *(package / "classify").glob("*.py")]
    wanted += [package / "abi.py", package / "generation" / "manifest.py", package / "__init__.py"]
    assert {str(path) for path in wanted} <= files
    assert {"abi.h", "tables.h", "version.py"} <= {Path(file).name for file in files}


def test_each_file_is_read_once(rules: str, work: Work, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    real = source.read_source

    def read_source(path: str | os.PathLike[str], *arguments: object) -> bytes | None:
        seen.append(Path(path).name)
        return real(path, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(source, "read_source", read_source)
    for _ in range(2):
        read(rules)
        assert sorted(seen) == sorted(["rules.yaml", *NAMED])
        seen.clear()


def test_what_is_parsed_is_what_was_hashed(
    rules: str, work: Work, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file is swapped after it was read, before it is parsed: what is kept is not what came later."""
    real = parse.load_file

    def swapped(*arguments: object, **options: object) -> object:
        (tmp_path / "rules.yaml").write_text("version: 1\n")
        return real(*arguments, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(parse, "load_file", swapped)
    assert read(rules).outline.counts == (3, 2)
    assert read(rules).outline.counts == (0, 0)


# ---- the files themselves, for `restore`


def test_what_was_read_is_told_whether_it_was_kept_or_not(rules: str, work: Work) -> None:
    for _ in range(2):
        found = read(rules).files
        assert next(iter(found)) == rules
        folder = Path(rules).parent
        assert found == {str(folder / name): (folder / name).read_bytes() for name in ("rules.yaml", *NAMED)}
    assert work.times == 1


@pytest.mark.parametrize("again", [False, True], ids=["anew", "kept"])
def test_files_that_are_given_are_taken_whatever_is_on_the_disk(
    again: bool, rules: str, work: Work, tmp_path: Path
) -> None:
    before = read(rules) if again else fresh(rules)
    given = {str(path): path.read_bytes() for path in [Path(rules), *(tmp_path / name for name in NAMED)]}
    for path in given:
        Path(path).unlink()
    found = compiled.read(rules, print, files=given)
    assert same(found, before)
    assert found.files == given
