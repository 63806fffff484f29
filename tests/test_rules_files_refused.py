"""Mistakes in rules files: each is told with its place in the file it stands in."""

from __future__ import annotations

from pathlib import Path

import pytest
from rules_files import cells, written
from test_rules_support import NOWHERE, file_of, problems, ruleset

from xdpguard.rules import rule as rule_module


# ---- what is refused --------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "line", "column", "words"),
    [
        (cells("name acton", "a drop"), 1, 6, "unknown column 'acton'; did you mean 'action'?"),
        (cells("name action name", "a drop b"), 1, 13, "duplicate column 'name'"),
        (cells("name tcp_flags action", "a x drop"), 1, 6, "tcp_flags does not fit into a cell"),
        (cells("name proto", "a tcp"), 1, 1, "at least name and action"),
        (cells("name action", "a"), 2, 1, "1 cells in this line; the first line names 2 columns"),
        (cells("name action", "a drop", "a drop"), 3, 1, "duplicate rule name 'a'; line 2 has it already"),
        (cells("name action", "a! drop"), 2, 1, "name 'a!' is not allowed"),
        (cells("name dport action", "a 80,x drop"), 2, 6, "dport 'x' is not a number"),
        (cells("name dport action", "a 80, drop"), 2, 6, "dport has no value"),
        (cells("name src action", "a 1.2.3.4 drop", "b 1.2.3 drop"), 3, 3, "'1.2.3' is not an IPv4"),
        (cells("name dport action", "a 80 drop", "b 8o drop"), 3, 3, "dport '8o' is not a number"),
        ("name\taction\na\tdrop\n\x00", 3, 1, "control character"),
    ],
)  # fmt: skip
def test_a_mistake_in_cells_is_told_with_its_place(
    tmp_path: Path, text: str, line: int, column: int, words: str
) -> None:
    ((found_line, found_column, message),) = refused(tmp_path, "r.tsv", text)
    assert (found_line, found_column) == (line, column), message
    assert words in message


@pytest.mark.parametrize(
    ("text", "column", "words"),
    [
        ('{"name": "a", "action": "drop"', 31, "not readable as JSON"),
        ('["a"]', 1, "a rule must be a mapping"),
        ('{"name": "a", "action": "drop", "dport": 1.5}', 33, "1.5 is neither text nor a whole number"),
        ('{"name": "a", "action": "drop", "dport": 1e3}', 33, "1e3 is neither text nor a whole number"),
        (f'{{"name": "a", "action": "drop", "dport": 1.{"0" * 99}}}', 33, f"1.{'0' * 58}... is neither text"),
        ('{"name": "a", "action": "drop", "dport": null}', 33, "null is neither text"),
        ('{"ruls_file": "x.tsv"}', 2, "unknown key 'ruls_file' in a rule; allowed: name, comment"),
        ('{"rules_file": "x.tsv"}', 2, "rules_file stands in the rule file only, not in a rules file"),
        ('{"name": "a", "action": "drop", "name": "b"}', 33, "duplicate key 'name'"),
        ('{"name": "a", "acton": "drop", "action": "drop"}', 15, "unknown key 'acton'"),
        ('{"name": "a", "not": {"dport": 70000}, "action": "drop"}', 23, "70000"),
        ('{"name": "a", "not": {"vlan": 1}, "vlan": 5000, "action": "drop"}', 35, "vlan"),
        ('{"comment": "{\\",", "name": "a", "vlan": 5000, "action": "drop"}', 34, "vlan"),
        ("[" * 100_000, 1, "nested more than 8 levels deep"),
        ('{"name": "a", "action": {"redirect": {"interface": "\\ud800"}}}', 39, "half of a character"),
    ],
)
def test_a_mistake_in_json_is_told_with_its_place(tmp_path: Path, text: str, column: int, words: str) -> None:
    ((line, found, message),) = refused(tmp_path, "r.jsonl", "\n" + text + "\n")
    assert (line, found) == (2, column), message
    assert words in message


def test_every_line_with_a_mistake_is_told(tmp_path: Path) -> None:
    found = refused(tmp_path, "r.tsv", cells("name dport action", *(f"r{n} x drop" for n in range(30))))
    assert [line for line, _, _ in found] == list(range(2, 32))


def test_a_name_used_in_two_files_is_told_with_the_other_file(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text(cells("name action", "a drop"), encoding="utf-8")
    (found,) = problems(file_of("{name: a, action: drop}", "{rules_file: r.tsv}"), tmp_path)
    assert str(found).endswith("r.tsv:2:1: error: duplicate rule name 'a'; line 4 of f.yaml has it already")


@pytest.mark.parametrize(
    ("item", "column", "words"),
    [
        ("{rules_file: r.tsv, action: drop}", 3, "stands alone"),
        ("{rules_file: [r.tsv]}", 3, "stands alone"),
        ("{rules_file: r.csv}", 16, "must end in .tsv or .jsonl"),
    ],
)
def test_a_rules_file_that_is_named_wrongly_is_refused(item: str, column: int, words: str) -> None:
    (found,) = problems(file_of(item))
    assert (found.line, found.column) == (4, column)
    assert words in found.message


def test_a_missing_rules_file_is_told_at_the_place_that_names_it() -> None:
    (found,) = problems(file_of("{rules_file: none.tsv}"))
    assert str(found) == f"f.yaml:4:16: error: {NOWHERE}/none.tsv cannot be read: No such file or directory"


def test_an_empty_rules_file_has_no_rules_and_a_note(tmp_path: Path) -> None:
    (tmp_path / "e.tsv").write_text("", encoding="utf-8")
    found = ruleset(file_of("{rules_file: e.tsv}"), tmp_path)
    assert (found.ingress.rules, found.notes) == (
        (),
        (f"{tmp_path}/e.tsv: note: rules file is empty: it has no rules",),
    )


def test_the_limit_of_rules_counts_those_of_rules_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rule_module, "MAX_RULES", 3)
    (tmp_path / "r.tsv").write_text(cells("name action", "b drop", "c drop"), encoding="utf-8")
    one, two = "{name: a, action: drop}", "{name: d, action: drop}"
    assert len(ruleset(file_of(one, "{rules_file: r.tsv}"), tmp_path).ingress.rules) == 3
    (found,) = problems(file_of(one, two, "{rules_file: r.tsv}"), tmp_path)
    assert "ingress has 4 rules; at most 3 are allowed" in found.message


def refused(folder: Path, name: str, text: str) -> list[tuple[int, int, str]]:
    """Line, column and words of each error, all of which are in the rules file."""
    found = [one for one in problems(written(folder, name, text), folder) if one.severity == "error"]
    assert {one.file for one in found} == {str(folder / name)}
    return [(one.line, one.column, one.message) for one in found]
