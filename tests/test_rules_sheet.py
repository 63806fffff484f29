"""Lines of cells are read together and mean, and are told, what each means when it is read on its own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rules_files import HEAD, VALUES, cells, findings, written
from test_rules_support import file_of, ruleset

from xdpguard.classify.compile import draft
from xdpguard.generation.outline import outline
from xdpguard.rules.action import read_action
from xdpguard.rules.addresses import parse_block, plain_values
from xdpguard.rules.key import Keys
from xdpguard.rules.model import Action, Redirect, RuleSet
from xdpguard.rules.report import Report
from xdpguard.rules.table import COLUMNS, Columns
from xdpguard.rules.text import Refused
from xdpguard.rules.tree import Node

ADDRESSES = ("192.0.2.1", "192.0.2.1/32", "198.51.100.0/24", "0.0.0.0/0", "2001:db8::1", "")
PORTS = ("1", "2", "2-9", "", "1,2", "7,9", "@web")
EDGES = (
    "1.2.3.4/", "/24", "1.2.3.4/24", "1.2.3.4/24/8", "1.2.3.4/032", "1.2.3.4/33", "0.0.0.0/0", "::/0", "24",
    "1.2.3", " 1.2.3.4", "1.2.3.4-1.2.3.9", "1.2.3.9-1.2.3.4", "1.2.3.4\0", "é", "::1%eth0", "", "1.2.3.0/24",
)  # fmt: skip


def cell(key: str) -> st.SearchStrategy[str]:
    """Most texts are right."""
    plain = {"src": ADDRESSES, "dst": ADDRESSES, "sport": PORTS, "dport": PORTS, "action": ("drop", "pass")}
    right = st.sampled_from(plain.get(key) or ("", VALUES[key][0]))
    return st.integers(0, 20).flatmap(lambda die: right if die else st.sampled_from(VALUES[key]))


@st.composite
def tables(draw: st.DrawFn) -> str:
    """A file of few shapes; of one kind of damage at most: names that are used twice or are none, lines that
    have a cell more or less."""
    some = draw(st.permutations(COLUMNS))[: draw(st.integers(2, len(COLUMNS)))]
    columns = [*some, *(key for key in ("name", "action") if key not in some)]
    cells_of = {key: cell(key) for key in columns if key != "name"}
    shapes = draw(st.lists(st.fixed_dictionaries(cells_of), min_size=1, max_size=3))
    own = {key: cells_of[key] for key in ("src", "dst", "sport", "dport", "comment") if key in columns}
    lines = ["\t".join(columns)]
    damage = draw(st.sampled_from(("", "", "twice", "name", "width")))
    for number in range(draw(st.integers(0, 12))):
        row = draw(st.sampled_from(shapes)) | draw(st.fixed_dictionaries({}, optional=own))
        hurt = damage if draw(st.integers(0, 4)) == 0 else ""
        row["name"] = {"twice": "r0", "name": draw(st.sampled_from(("", "c d", "x" * 65)))}.get(
            hurt, f"r{number}"
        )
        width = len(columns) + (draw(st.sampled_from((-1, 1))) if hurt == "width" else 0)
        lines.append("\t".join([*(row[key] for key in columns), "x"][:width]))
        lines += [""] * draw(st.sampled_from((0, 0, 0, 1)))
    return draw(st.sampled_from(("\n", "\r\n"))).join(lines)


@given(tables())
def test_lines_mean_the_same_together_and_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, table: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    text = written(folder, "sheet.tsv", table)
    together, wrong = findings(text, folder)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(Columns, "cut", lambda *_: None)
        alone, mistakes = findings(text, folder)
    assert wrong == mistakes
    assert together == alone
    if together is not None and alone is not None:
        assert outline(together) == outline(alone)
        assert draft(together).data == draft(alone).data


@given(tables())
def test_rules_as_columns_compile_to_what_they_do_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, table: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    found, _ = findings(written(folder, "many.tsv", table), folder)
    if found is not None:
        single = replace(found, ingress=replace(found.ingress, rules=tuple(found.ingress.rules)))
        assert outline(found) == outline(single)
        assert draft(found).data == draft(single).data


@given(tables())
def test_the_key_of_a_rule_is_that_of_its_meaning(
    tmp_path_factory: pytest.TempPathFactory, table: str
) -> None:
    folder = tmp_path_factory.getbasetemp()
    found, _ = findings(written(folder, "keys.tsv", table), folder)
    for rule in found.ingress.rules if found is not None else ():
        assert rule.key == Keys().make("ingress", rule.name, rule.match, rule.action, rule.redirect)


@pytest.mark.parametrize("text", EDGES)
@pytest.mark.parametrize("before", [0, 1, 600])
def test_an_address_among_others_is_what_it_is_alone(text: str, before: int) -> None:
    many, one = ["192.0.2.1"] * before, (4, 0xC0000201, 0xC0000201)
    try:
        version, first, last, note = parse_block(text)
        expected = None if note else (version, first, last)
    except Refused:
        expected = None
    assert plain_values([*many, text, "192.0.2.1"]) == [*[one] * before, expected, one]


def shared(folder: Path, count: int) -> RuleSet:
    """Rules of one shape."""
    lines = (f"r{at} 10.0.{at >> 8}.{at & 255}/32 {at} tcp drop" for at in range(count))
    return ruleset(written(folder, "r.tsv", cells("name src dport proto action", *lines)), folder)


def test_only_the_first_rule_of_a_shape_takes_the_usual_readers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[Node] = []

    def noted(node: Node, report: Report) -> tuple[Action, Redirect | None] | None:
        read.append(node)
        return read_action(node, report)

    monkeypatch.setattr("xdpguard.rules.rule.read_action", noted)
    assert len(shared(tmp_path, 1000).ingress.rules) == 1000
    assert len(read) == 1


def test_a_rule_among_many_is_found_by_its_number_and_its_slice(tmp_path: Path) -> None:
    rules = shared(tmp_path, 5).ingress.rules
    assert [rules[-1].name, rules[4].name, *(rule.name for rule in rules[1:3])] == ["r4", "r4", "r1", "r2"]
    with pytest.raises(IndexError):
        rules[5]


def test_a_file_of_no_line_but_the_names_of_columns_has_no_rules(tmp_path: Path) -> None:
    assert ruleset(written(tmp_path, "r.tsv", "name\taction\n"), tmp_path).ingress.rules == ()


def test_a_name_of_the_rule_file_is_not_free_for_lines_of_cells_behind_it(tmp_path: Path) -> None:
    (tmp_path / "r.tsv").write_text(cells("name action", "b drop", "a drop"), encoding="utf-8")
    _, wrong = findings(file_of("{name: a, action: drop}", "{rules_file: r.tsv}", head=HEAD), tmp_path)
    assert [(one.line, one.message) for one in wrong if one.severity == "error"] == [
        (3, "duplicate rule name 'a'; line 4 of f.yaml has it already")
    ]
