"""Sets: of the rule file and of set files, what they become and where they are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rules_support import file_of, match, problems, ruleset, written

from xdpguard.rules.addresses import parse_block
from xdpguard.rules.intervals import union
from xdpguard.rules.model import Addresses
from xdpguard.rules.parse import load_file

# ---- set files

RULES = file_of('{name: a, src: "@bad", action: drop}', head="sets: {bad: {file: bad.txt}}")


def test_a_set_file_has_one_entry_a_line_and_comments(tmp_path: Path) -> None:
    text = "# head\n\n 192.0.2.1 # one\r\n192.0.2.2-192.0.2.9\n2001:db8::/32#x\n\t198.51.100.0/24"
    written(tmp_path / "bad.txt", text)
    entries = '[192.0.2.1-192.0.2.9, "2001:db8::/32", 198.51.100.0/24]'
    assert ruleset(RULES, tmp_path).ingress.rules[0].match == match(f"src: {entries}")


def test_a_set_file_may_hold_ports(tmp_path: Path) -> None:
    written(tmp_path / "bad.txt", "80\n8000-8080\n")
    found = ruleset(
        file_of('{name: a, dport: "@p", action: drop}', head="sets: {p: {file: bad.txt}}"), tmp_path
    )
    assert found.ingress.rules[0].match.dport == ((80, 80), (8000, 8080))


def test_a_set_file_lies_beside_the_rule_file(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    written(tmp_path / "sub/bad.txt", "192.0.2.1\n")
    path = written(tmp_path / "sub/r.yaml", RULES)
    assert load_file(path).ingress.rules[0].match == match("src: 192.0.2.1")


def test_every_bad_line_of_a_set_file_is_reported_with_its_place(tmp_path: Path) -> None:
    written(tmp_path / "bad.txt", "192.0.2.1\n  192.0.2.300\n80\n192.0.2.1 192.0.2.2\nhost\n@x\n")
    found = problems(RULES, tmp_path)
    assert {problem.file for problem in found} == {f"{tmp_path}/bad.txt"}
    assert [(problem.line, problem.column) for problem in found] == [(2, 3), (3, 1), (4, 1), (5, 1), (6, 1)]
    assert "the set holds addresses, and one kind only" in found[1].message


@pytest.mark.parametrize(
    ("data", "line", "column", "words"),
    [(b"192.0.2.1\n\x00", 2, 1, "U+0000"), (b"192.0.2.1 \xff", 1, 11, "is not UTF-8")],
)
def test_garbage_in_a_set_file_is_one_error(
    tmp_path: Path, data: bytes, line: int, column: int, words: str
) -> None:
    (tmp_path / "bad.txt").write_bytes(data)
    (found,) = problems(RULES, tmp_path)
    assert (found.line, found.column) == (line, column)
    assert words in found.message


def test_a_missing_set_file_is_told_at_the_place_that_names_it(tmp_path: Path) -> None:
    (found,) = problems(RULES, tmp_path)
    column = RULES.splitlines()[1].index("bad.txt") + 1
    words = f"{tmp_path}/bad.txt cannot be read: No such file or directory"
    assert str(found) == f"f.yaml:2:{column}: error: {words}"


def test_a_set_file_that_is_a_folder_is_told_at_the_place_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "bad.txt").mkdir()
    (found,) = problems(RULES, tmp_path)
    assert (found.file, found.line) == ("f.yaml", 2)
    assert found.message == f"{tmp_path}/bad.txt is a folder, not a file"


def test_root_refuses_a_set_file_that_everybody_can_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    written(tmp_path / "bad.txt", "192.0.2.1\n", 0o666)
    (found,) = problems(RULES, tmp_path)
    assert "can be written by every user" in found.message


@pytest.mark.parametrize("text", ["", "# nothing today\n"])
def test_an_empty_set_file_matches_nothing_and_is_told(tmp_path: Path, text: str) -> None:
    written(tmp_path / "bad.txt", text)
    found = ruleset(RULES, tmp_path)
    assert found.ingress.rules[0].match.src == Addresses()
    assert found.notes == (f"{tmp_path}/bad.txt: note: set file is empty: set 'bad' matches nothing",)


def test_an_empty_set_file_under_not_bans_no_address(tmp_path: Path) -> None:
    written(tmp_path / "bad.txt", "")
    text = file_of('{name: a, not: {src: "@bad"}, action: drop}', head="sets: {bad: {file: bad.txt}}")
    assert ruleset(text, tmp_path).ingress.rules[0].match == match("")


def test_an_empty_set_file_fits_ports_too(tmp_path: Path) -> None:
    written(tmp_path / "bad.txt", "")
    text = file_of('{name: a, dport: "@bad", action: drop}', head="sets: {bad: {file: bad.txt}}")
    assert ruleset(text, tmp_path).ingress.rules[0].match.dport == ()


# ---- sets in the file

SETS = [
    ("sets: {a: []}", "set 'a' is empty; only a set file may be empty"),
    ("sets: {a: [192.0.2.1, 80]}", "the set holds addresses, and one kind only"),
    ("sets: {a: [80, 192.0.2.1]}", "the set holds ports, and one kind only"),
    ("sets: {a: [70000]}", "out of range"),
    ("sets: {a: [22:53]}", "is not an IPv4 or IPv6 address"),
    ("sets: {a: bad.txt}", "a file is named with {file: NAME}"),
    ("sets: {a: {fil: x}}", "unknown key 'fil' in set 'a'; did you mean 'file'?"),
    ("sets: {a: {file: x, mode: y}}", "unknown key 'mode' in set 'a'; allowed: file"),
    ("sets: {a: {file: [x]}}", "must be a list or {file: NAME}"),
    ("sets: {a: {}}", "must be a list or {file: NAME}"),
    ('sets: {a: {file: ""}}', "must be a list or {file: NAME}"),
    ('sets: {a: {file: "x\\0"}}', "embedded null"),
    ("sets: {a: [[80]]}", "an entry of a set must be one address"),
    ('sets: {a: ["@b"]}', "a set cannot hold another set"),
    ('sets: {"a b": [80]}', "set name 'a b' is not allowed"),
    ("sets: [a]", "sets must be a mapping"),
    ("sets: {a: [80], a: [81]}", "duplicate key 'a'"),
]


@pytest.mark.parametrize(("head", "words"), SETS)
def test_a_mistake_in_a_set_gives_one_error(head: str, words: str) -> None:
    errors = [problem for problem in problems(f"version: 1\n{head}") if problem.severity == "error"]
    assert len(errors) == 1
    assert words in errors[0].message


USES = [
    ('src: "@web"', "set '@web' (line 2) holds ports; this field takes addresses"),
    ('dport: ["@net"]', "set '@net' (line 2) holds addresses; this field takes ports"),
    ('src: "@wbe"', "unknown set '@wbe'; did you mean 'web'?"),
    ('src: "@"', "unknown set '@'; allowed: web, net"),
    ('not: {sport: "@net"}', "holds addresses; this field takes ports"),
    ('proto: "@web"', "proto '@web' is neither a known name nor a number"),
]


@pytest.mark.parametrize(("conditions", "words"), USES)
def test_a_wrong_use_of_a_set_is_an_error_at_the_use(conditions: str, words: str) -> None:
    head = "sets: {web: [80], net: [192.0.2.0/24]}"
    found = problems(file_of(f"{{name: a, {conditions}, action: drop}}", head=head))
    (error,) = [problem for problem in found if problem.severity == "error"]
    assert words in error.message
    assert error.line == 4


def test_the_uses_of_a_broken_set_are_not_reported_again() -> None:
    text = file_of('{name: a, src: "@a", action: drop}', head="sets: {a: [192.0.2.999]}")
    assert len(problems(text)) == 1


def test_an_unused_set_is_a_warning() -> None:
    notes = ruleset(
        "version: 1\nsets: {a: [80], b: [81]}\ningress: [{name: r, dport: '@b', action: drop}]"
    ).notes
    assert notes == ("f.yaml:2:8: warning: set 'a' is never used",)


def test_a_block_with_host_bits_is_read_and_told_at_each_place() -> None:
    text = file_of("{name: a, src: 10.0.0.1/8, action: drop}", "{name: b, dst: [10.0.0.1/8], action: drop}")
    found = ruleset(text)
    assert found.ingress.rules[0].match == match("src: 10.0.0.0/8")
    assert found.notes == (
        "f.yaml:4:18: note: 10.0.0.1/8 has host bits, read as 10.0.0.0/8",
        "f.yaml:5:19: note: 10.0.0.1/8 has host bits, read as 10.0.0.0/8",
    )


def test_host_bits_in_ipv6_and_in_sets_are_told_too() -> None:
    notes = ruleset(
        'version: 1\nsets: {a: ["2001:db8::1/64"]}\ningress: [{name: r, src: "@a", action: drop}]'
    ).notes
    assert notes == ("f.yaml:2:12: note: 2001:db8::1/64 has host bits, read as 2001:db8::/64",)


def test_a_protocol_that_the_family_cannot_have_is_a_warning() -> None:
    found = ruleset(file_of("{name: a, family: ipv6, proto: [icmp, tcp], action: drop}"))
    assert found.notes == ("f.yaml:4:27: warning: icmp can never match here: the rule is ipv6 only",)
    assert found.ingress.rules[0].match == match("family: ipv6, proto: tcp")


def test_the_content_hash_covers_the_file_and_its_set_files(tmp_path: Path) -> None:
    written(tmp_path / "bad.txt", "192.0.2.1\n")
    first = ruleset(RULES, tmp_path).content_hash
    assert ruleset(RULES, tmp_path).content_hash == first
    assert ruleset(RULES + "#", tmp_path).content_hash != first
    written(tmp_path / "bad.txt", "192.0.2.1 \n")
    assert ruleset(RULES, tmp_path).content_hash != first


# ---- long set files
LINES = st.sampled_from([
    "192.0.2.1", "192.0.2.2", "192.0.2.3", "0.0.0.0", "255.255.255.255", "198.51.100.0/24", "198.51.100.9",
    "2001:db8::1", "# nothing", "", " 192.0.2.9 ", "203.0.113.1-203.0.113.4", "203.0.113.5",
])  # fmt: skip


@given(st.lists(st.tuples(LINES, st.integers(1, 600)), max_size=6))
def test_a_long_set_file_means_what_its_lines_mean_one_by_one(
    tmp_path_factory: pytest.TempPathFactory, runs: list[tuple[str, int]]
) -> None:
    lines = [line for line, times in runs for _ in range(times)]
    folder = tmp_path_factory.getbasetemp()
    written(folder / "bad.txt", "\n".join(lines))
    some = {text: parse_block(text.strip()) for text in set(lines) if text.strip()[:1] not in ("", "#")}
    found = ruleset(RULES, folder).ingress.rules[0].match.src
    assert found == Addresses(
        union((one.first, one.last) for one in some.values() if one.version == 4),
        union((one.first, one.last) for one in some.values() if one.version == 6),
    )


def test_a_bad_line_of_a_long_set_file_is_reported_with_its_place(tmp_path: Path) -> None:
    lines = ["192.0.2.1"] * 1000
    lines[700] = "192.0.2.300"
    written(tmp_path / "bad.txt", "\n".join(lines))
    (found,) = problems(RULES, tmp_path)
    assert (found.line, found.column) == (701, 1)
