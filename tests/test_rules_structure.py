"""Hostile bytes: what is no clean YAML document gives one clean error with its place, and quickly."""

from __future__ import annotations

import gc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_rules_support import file_of, problems, ruleset

from xdpguard.errors import Problem, RulesError
from xdpguard.rules.tree import MAX_DEPTH

RULE = "{name: a, action: drop}"

# Bytes -> line, column and words of the one error.
HOSTILE = [
    (b"", 0, 0, "the file is empty"),
    (b"# only a comment\n\n", 0, 0, "the file holds no rules, only comments or blanks"),
    (b"[" * 100_000, 1, 9, "nested more than 8 levels deep"),
    (b"- " * 100_000, 1, 17, "nested more than 8 levels deep"),
    (b"a: " + b"[" * 100_000, 1, 11, "nested more than 8 levels deep"),
    (b"\x7fELF\x02\x01\x01\x00", 1, 1, "control character U+007F"),
    (b"version: 1\n\x00", 2, 1, "control character U+0000"),
    (b"version: 1\nx: \xc3\x28", 2, 4, "byte 0xc3 is not UTF-8"),
    (b"version: 1 # \xff", 1, 14, "byte 0xff is not UTF-8"),
    ("version: 1\n# ü \x1b".encode(), 2, 5, "control character U+001B"),
    (b"\xff\xfev\x00e\x00", 1, 1, "it looks like UTF-16"),
    (b"version: 1\rx", 1, 11, "control character U+000D"),
    ("version: 1\u2028x".encode(), 1, 11, "control character U+2028"),
    ("version: 1 # \u202e".encode(), 1, 14, "control character U+202E"),
    (b"version: 1\n---\nversion: 1", 2, 1, "a second YAML document"),
    (b"%YAML 1.1\n---\nversion: 1", 1, 1, "YAML directives"),
    (b"version: &a 1", 1, 10, "anchor '&a' is not allowed"),
    (b"version: !!str 1", 1, 10, "tag '!!str' is not allowed"),
    (b"version: 1\ningress: !!seq []", 2, 10, "tag '!!seq' is not allowed"),
    (b"version: ! 1", 1, 10, "tag '!' is not allowed"),
    (b"version: 1\ningress: &a []", 2, 10, "anchor '&a' is not allowed"),
    (b"version: 1\ningress: *a", 2, 10, "alias '*a' is not allowed"),
    (b"version: 1\ningress: [*a]", 2, 11, "alias '*a' is not allowed"),
    (b"version: 1\n*a : b", 2, 1, "alias '*a' is not allowed"),
    (b"version: 1\n? [a, b]\n: c", 2, 3, "a key must be a plain word"),
    (b"version: 1\n<<: {}", 2, 1, "unknown key '<<'"),
    (b"version: 1\ningress: [a, b\n", 3, 1, "not readable as YAML"),
    (b'version: "1', 1, 12, "a quote is not closed"),
    (b"version: 1\n\tingress: []", 2, 1, "indent with spaces, not with a tab"),
    (b"version: 1\ningress: [{src: @a}]", 2, 17, 'a set needs quotes, as in "@office"'),
    (b"version: 1\ningress: [{src: [2001:db8::]}]", 2, 27, "begins or ends with ':' needs quotes"),
    (b"version: 1\ningress: [{src: [::1]}]", 2, 18, "begins or ends with ':' needs quotes"),
    (b"version: 1\ncomment: a: b", 2, 11, "put a value that holds ': ' in quotes"),
    (b"version: 1\n  default: {}", 2, 10, "check the indentation"),
]


@pytest.mark.parametrize(("data", "line", "column", "words"), HOSTILE, ids=lambda value: repr(value)[:40])
def test_hostile_bytes_give_one_error_with_its_place(data: bytes, line: int, column: int, words: str) -> None:
    (found,) = problems(data)
    assert (found.line, found.column, found.severity) == (line, column, "error")
    assert words in found.message
    assert found.message.isprintable()


def test_the_deepest_rule_of_the_language_is_within_the_limit() -> None:
    text = file_of("{name: a, not: {tcp_flags: {set: [syn]}}, action: drop}")
    assert ruleset(text).ingress.rules
    assert MAX_DEPTH == 8


def test_block_style_and_flow_style_mean_the_same() -> None:
    block = "version: 1\ningress:\n  - name: a\n    dport:\n      - 1\n      - 2\n    action: drop\n"
    flow = file_of("{name: a, dport: [1, 2], action: drop}")
    assert ruleset(block).ingress.rules[0].key == ruleset(flow).ingress.rules[0].key


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_line_ends_and_a_byte_order_mark_do_not_move_places(end: str) -> None:
    text = f"\ufeffversion: 1{end}ingress:{end}- {{name: a, dport: x, action: drop}}{end}"
    (found,) = problems(text)
    assert (found.line, found.column) == (3, 20)


def test_a_document_may_have_its_markers() -> None:
    assert ruleset("---\nversion: 1\n...\n").ingress.rules == ()


def test_anchors_in_one_file_are_all_reported() -> None:
    found = problems("version: &a 1\nmalformed: &b drop\nfragments: !x drop\n")
    assert [problem.line for problem in found] == [1, 2, 3]


def test_the_garbage_collector_runs_again_after_a_refusal() -> None:
    assert gc.isenabled()
    problems(b"[" * 1000)
    assert gc.isenabled()


def test_a_small_file_leaves_the_garbage_that_there_is_to_the_collector() -> None:
    before = gc.get_freeze_count()
    ruleset(f"version: 1\ningress: [{RULE}]\n")
    assert gc.get_freeze_count() == before


def test_mappings_as_keys_of_mappings_are_reported_once() -> None:
    found = problems(b"{" * 100_000)
    assert [problem.column for problem in found] == [2, 9]
    assert "a key must be a plain word" in found[0].message
    assert "nested more than 8 levels deep" in found[1].message


def test_each_key_that_is_no_word_is_reported() -> None:
    found = problems("version: 1\n? [[a], b]\n: c\n? {d: e}\n: f\n")
    assert [problem.line for problem in found] == [2, 4]


def findings(data: str | bytes) -> list[Problem]:
    """What the parser says if it refuses; nothing if it accepts."""
    try:
        ruleset(data)
    except RulesError as error:
        return error.problems or [Problem("no problem given", 0, 0, "error", "\n")]
    return []


@given(st.binary(max_size=200))
def test_any_bytes_end_in_a_rule_set_or_in_printable_errors(data: bytes) -> None:
    assert all(str(problem).isprintable() for problem in findings(data))


WORDS = st.sampled_from([
    "version", "1", ": ", "\n", "  ", "- ", "ingress", "{", "}", "[", "]", ", ", "name", "a",
    "not", "src", "dport", "proto", "icmp", "arp", "tcp_flags", "set", "clear", "syn", "icmp_type",
    "8", "vlan", "none", '"@s"', "sets", "192.0.2.1", "::", "/", "action", "drop", "redirect",
    "&x ", "*x", "!t ", "? ", "'", '"', "|", "\t", "family",
])  # fmt: skip


@given(st.lists(WORDS, max_size=40))
def test_any_words_of_the_language_end_in_a_rule_set_or_in_printable_errors(words: list[str]) -> None:
    assert all(str(problem).isprintable() for problem in findings("version: 1\n" + "".join(words)))


KEY = st.sampled_from([
    "family", "proto", "src", "dst", "sport", "dport", "tcp_flags", "icmp_type", "icmp_code",
    "vlan", "not", "comment",
])  # fmt: skip
VALUE = st.sampled_from([
    "ipv4", "ipv6", "tcp", "arp", "[arp, udp]", "icmp", "icmpv6", "[1, 58]", "0-255", "0", "80",
    "[1, x]", "192.0.2.1", '"::1"', '"@mixed"', '"@web"', '["@mixed", 10.0.0.1/8]', "none",
    "{set: [syn]}", "{clear: ack}", "echo-request", "port-unreachable", "{proto: tcp}",
    "{src: 192.0.2.0/24}", "{dport: 80, vlan: none}", "{family: ipv4}", "[]", "{icmp_type: 8}",
    "{tcp_flags: {set: [fin]}}", "{proto: [icmp, icmpv6]}", "[[]]", "{}", '""',
])  # fmt: skip


@given(st.dictionaries(KEY, VALUE, max_size=6))
def test_any_mixture_of_keys_ends_in_a_rule_or_in_errors_in_its_line(keys: dict[str, str]) -> None:
    conditions = "".join(f"{key}: {value}, " for key, value in keys.items())
    head = 'sets: {mixed: [192.0.2.0/24, "2001:db8::/32"], web: [80, 443]}'
    errors = [
        p
        for p in findings(file_of(f"{{name: r, {conditions}action: drop}}", head=head))
        if p.severity == "error"
    ]
    assert {problem.line for problem in errors} <= {4}
