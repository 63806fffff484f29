"""Rules files: a rule in a cell format or in JSON means what it means in YAML, and so do its mistakes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rules_files import HEAD, PLACE, VALUES, cells, findings, written
from test_rules_support import NOWHERE, file_of, problems, ruleset

from xdpguard.errors import Problem
from xdpguard.rules.model import Rule, RuleSet
from xdpguard.rules.parse import load_file
from xdpguard.rules.table import COLUMNS


# ---- what a rules file means ------------------------------------------------------------------------------
def test_the_rules_of_a_file_take_the_place_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "b.tsv").write_text(cells("name action", "b drop", "c pass"), encoding="utf-8")
    (tmp_path / "d.jsonl").write_text('{"name": "d", "action": "tx"}\n', encoding="utf-8")
    text = file_of(
        "{name: a, action: drop}", "{rules_file: b.tsv}", "{rules_file: d.jsonl}", "{name: e, action: drop}"
    )
    found = ruleset(text, tmp_path).ingress.rules
    assert [one.name for one in found] == list("abcde")
    assert [(one.file, one.line) for one in found] == [
        ("", 4),
        *((f"{tmp_path}/b.tsv", line) for line in (2, 3)),
        (f"{tmp_path}/d.jsonl", 1),
        ("", 7),
    ]


def test_an_empty_cell_is_an_absent_key_and_a_comma_parts_a_list(tmp_path: Path) -> None:
    text = written(tmp_path, "r.tsv", "name\tcomment\tproto\tdport\taction\na\tone, two\ttcp\t80,443\tdrop\n"
                                      "b\t\t\t\tpass\n")  # fmt: skip
    a, b = ruleset(text, tmp_path).ingress.rules
    assert (a.comment, a.match.dport) == ("one, two", ((80, 80), (443, 443)))
    assert (b.comment, b.match) == ("", ruleset(file_of("{name: b, action: pass}")).ingress.rules[0].match)


def test_line_ends_of_another_system_and_empty_lines_do_not_matter(tmp_path: Path) -> None:
    text = written(tmp_path, "r.tsv", "name\taction\r\n\r\na\tdrop\r\n\n")
    assert [one.line for one in ruleset(text, tmp_path).ingress.rules] == [3]


def test_the_place_of_a_rule_names_the_file_it_stands_in(tmp_path: Path) -> None:
    found = ruleset(written(tmp_path, "r.tsv", cells("name action", "a drop")), tmp_path)
    assert found.place(found.ingress.rules[0]) == f"{tmp_path}/r.tsv:2:1"
    other = ruleset(file_of("{name: a, action: drop}"))
    assert other.place(other.ingress.rules[0]) == "f.yaml:4:3"


def test_the_content_hash_covers_a_rules_file(tmp_path: Path) -> None:
    first = ruleset(written(tmp_path, "r.tsv", cells("name action", "a drop")), tmp_path)
    second = ruleset(written(tmp_path, "r.tsv", cells("name action", "a pass")), tmp_path)
    assert first.content_hash != second.content_hash


def test_a_hidden_rule_of_a_rules_file_is_told_with_both_files(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text(cells("name proto action", "b tcp drop"), encoding="utf-8")
    path = tmp_path / "r.yaml"
    path.write_text(file_of("{name: a, action: drop}", PLACE.replace("FILE", "r.tsv")), encoding="utf-8")
    (note,) = load_file(path).notes
    assert note.startswith(f"{tmp_path}/r.tsv:2:1: warning: rule 'b' can never match: rule 'a' in line 4")


@pytest.mark.parametrize(
    ("thorough", "words"), [(True, "can never match: rule"), (False, "only `xdpguard check`")]
)
def test_a_load_leaves_the_search_of_a_large_file_to_check_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, thorough: bool, words: str
) -> None:
    monkeypatch.setattr("xdpguard.rules.parse.MAX_LINTED", 1)
    path = tmp_path / "r.yaml"
    path.write_text(file_of("{name: a, action: drop}", "{name: b, action: drop}"), encoding="utf-8")
    (note,) = load_file(path, thorough=thorough).notes
    assert words in note


def test_rules_with_lists_and_sets_of_ports_are_told_apart_from_those_without(tmp_path: Path) -> None:
    """Rules that differ in ports alone share the work of reading the rest."""
    ports = ("80", "", "90", "[80, 90]", "'@web'", "", "90-95", "[80, 90]", "'@web'", "[90, 80]", "80")
    lines = [
        f"{{name: r{at}, proto: tcp, action: drop{f', dport: {port}' if port else ''}}}"
        for at, port in enumerate(ports)
    ]
    found = [rule.match.dport for rule in ruleset(file_of(*lines, head=HEAD)).ingress.rules]
    pair, web = ((80, 80), (90, 90)), ((80, 80), (443, 443))
    one, other = ((80, 80),), ((90, 90),)
    assert found == [one, None, other, pair, web, None, ((90, 95),), pair, web, pair, one]


def test_a_port_without_a_value_is_refused_also_behind_a_rule_without_ports() -> None:
    text = file_of("{name: a, proto: tcp, action: drop}", "{name: b, proto: tcp, dport: '', action: drop}")
    assert [one.message for one in problems(text)] == ["dport has no value; remove the key or give one"]


# ---- twins ------------------------------------------------------------------------------------------------
LISTS = [key for key in COLUMNS if key not in ("name", "comment", "family", "action")]


def optional(keys: tuple[str, ...]) -> dict[str, st.SearchStrategy[str]]:
    return {key: st.sampled_from(VALUES[key]) for key in keys}


OTHERS = tuple(key for key in VALUES if key not in ("action", "src", "dst"))
shapes = st.fixed_dictionaries(optional(("action",)), optional=optional(OTHERS))
addresses = st.fixed_dictionaries({}, optional=optional(("src", "dst")))
# Rules of few shapes, so that most follow one that differs in its addresses alone.
rows = st.lists(shapes, min_size=1, max_size=2).flatmap(
    lambda some: st.lists(
        st.builds(lambda shape, ends: shape | ends, st.sampled_from(some), addresses), min_size=1, max_size=8
    )
)


def entries(row: dict[str, str], number: int) -> dict[str, str | list[str]]:
    """The rule as YAML and JSON write it."""
    return {"name": f"r{number}"} | {
        key: row[key].split(",") if key in LISTS and "," in row[key] else row[key]
        for key in COLUMNS
        if key in row
    }


@given(rows)
def test_a_rule_means_the_same_in_yaml_in_cells_and_in_json(
    tmp_path_factory: pytest.TempPathFactory, some: list[dict[str, str]]
) -> None:
    folder = tmp_path_factory.getbasetemp()
    full = [entries(row, number) for number, row in enumerate(some)]
    table = "\n".join(
        [
            "\t".join(COLUMNS),
            *("\t".join({**row, "name": f"r{n}"}.get(k, "") for k in COLUMNS) for n, row in enumerate(some)),
        ]
    )
    lines = "\n".join(json.dumps(rule) for rule in full)
    sources = (
        file_of(*(json.dumps(rule) for rule in full), head=HEAD),
        written(folder, "twin.tsv", table),
        written(folder, "twin.jsonl", lines),
    )
    (yaml, wrong), *others = [findings(source, folder) for source in sources]
    for (found, mistakes), first in zip(others, (2, 1), strict=True):
        assert told(mistakes, first) == told(wrong, 4)
        assert (yaml is None) == (found is None)
        if yaml is not None and found is not None:
            assert [plain(one) for one in found.ingress.rules] == [plain(one) for one in yaml.ingress.rules]


@given(rows)
def test_a_rule_means_the_same_alone_and_among_others_of_its_shape(some: list[dict[str, str]]) -> None:
    full = [json.dumps(entries(row, number)) for number, row in enumerate(some)]
    together, wrong = findings(file_of(*full, head=HEAD), NOWHERE)
    alone = [findings(file_of(one, head=HEAD), NOWHERE) for one in full]
    assert sorted(one.message for one in wrong if one.severity == "error") == sorted(
        one.message for _, mine in alone for one in mine if one.severity == "error"
    )
    if together is not None:
        each = [found for found, _ in alone if found is not None]
        assert [plain(one) for one in together.ingress.rules] == [
            plain(one) for found in each for one in found.ingress.rules
        ]
        assert remarks([together]) == remarks(each)


def test_every_rule_of_a_shape_gets_its_remark() -> None:
    some = [f"{{name: r{n}, family: ipv6, proto: 1-17, action: drop}}" for n in range(3)]
    assert len(ruleset(file_of(*some)).notes) == 3


def remarks(some: list[RuleSet]) -> list[str]:
    """What is noted of rules, without the places."""
    notes = [note.split(": ", 1)[1] for found in some for note in found.notes]
    return [note for note in notes if "is never used" not in note]


def told(mistakes: list[Problem], first: int) -> list[tuple[int, str, str]]:
    """What is told of rules, the first of which stands in line ``first``."""
    at_rules = [one for one in mistakes if "set '" not in one.message or one.severity == "error"]
    return sorted((one.line - first, one.severity, one.message) for one in at_rules)


def plain(rule: Rule) -> Rule:
    return replace(rule, file="", line=0, column=0)
