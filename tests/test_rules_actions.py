"""Actions, names, comments, and the keys at the top of a rule file."""

from __future__ import annotations

import pytest
from test_rules_support import file_of, problems, rule, ruleset

from xdpguard.rules.action import VERDICTS
from xdpguard.rules.model import (
    Action,
    Redirect,
)
from xdpguard.rules.parse import FILE_KEYS
from xdpguard.rules.rule import MAX_COMMENT


@pytest.mark.parametrize(("word", "action"), VERDICTS.items())
def test_an_action_of_one_word(word: str, action: Action) -> None:
    found = rule("dport: 1", action=word)
    assert (found.action, found.redirect) == (action, None)


REDIRECTS = [
    ("{redirect: {interface: ids0}}", Redirect("ids0")),
    ("{redirect: {interface: a23456789012345}}", Redirect("a23456789012345")),
    ("{redirect: {interface: ids0, dst_mac: 02:00:00:00:00:02}}", Redirect("ids0", b"\x02\0\0\0\0\x02")),
    (
        '{redirect: {interface: ids0, dst_mac: "0a:BB:cc:0D:ee:ff"}}',
        Redirect("ids0", bytes.fromhex("0abbcc0deeff")),
    ),
    (
        "{redirect: {interface: ids0, dst_mac: 10:20:30:40:50:59}}",
        Redirect("ids0", bytes.fromhex("102030405059")),
    ),
]


@pytest.mark.parametrize(("text", "redirect"), REDIRECTS)
def test_a_redirect_names_its_target(text: str, redirect: Redirect) -> None:
    found = rule("dport: 1", action=text)
    assert (found.action, found.redirect) == (Action.REDIRECT, redirect)


def test_every_action_but_aborted_can_be_written() -> None:
    assert {*VERDICTS.values(), Action.REDIRECT} == set(Action) - {Action.ABORTED}


def test_a_rule_knows_its_name_comment_and_place() -> None:
    found = ruleset(
        file_of("{name: a, action: drop}", "{name: B_.-9, comment: why not, action: drop}")
    ).ingress
    second = found.rules[1]
    assert (second.name, second.comment, second.line, second.column) == ("B_.-9", "why not", 5, 3)


@pytest.mark.parametrize("name", ["no", "010", "22", "null", "~"])
def test_words_that_yaml_would_convert_stay_words(name: str) -> None:
    text = file_of(f"{{name: {name}, action: drop}}")
    if name == "~":
        assert "name '~' is not allowed" in problems(text)[0].message
    else:
        assert ruleset(text).ingress.rules[0].name == name


def test_the_longest_comment_and_name_are_allowed() -> None:
    text = file_of(f"{{name: {'n' * 64}, comment: {'c' * MAX_COMMENT}, action: drop}}")
    assert len(ruleset(text).ingress.rules[0].comment) == MAX_COMMENT


TOP_LEVEL = {
    "version": ("version: 1", "ingress.rules", ()),
    "default": ("version: 1\ndefault: {egress: drop}", "egress.default", Action.DROP),
    "malformed": ("version: 1\nmalformed: pass", "malformed", Action.PASS),
    "fragments": ("version: 1\nfragments: drop", "drop_fragments", True),
    "sets": ("version: 1\nsets: {a: [192.0.2.1]}", "ingress.rules", ()),
    "ingress": ("version: 1\ningress: []", "ingress.rules", ()),
    "egress": ("version: 1\negress: []", "egress.rules", ()),
}


@pytest.mark.parametrize("key", FILE_KEYS)
def test_every_top_level_key_has_its_effect(key: str) -> None:
    text, path, expected = TOP_LEVEL[key]
    found: object = ruleset(text)
    for step in path.split("."):
        found = getattr(found, step)
    assert found == expected


def test_what_is_absent_has_its_default() -> None:
    found = ruleset("version: 1")
    assert (found.ingress.default, found.egress.default) == (Action.PASS, Action.PASS)
    assert (found.malformed, found.drop_fragments) == (Action.DROP, False)
    mixed = ruleset("version: 1\ndefault: {ingress: drop}\nfragments: l3-only\nmalformed: drop")
    assert (mixed.ingress.default, mixed.egress.default) == (Action.DROP, Action.PASS)


def test_rules_of_both_hooks_are_kept_apart_and_in_order() -> None:
    found = ruleset(
        file_of("{name: b, action: drop}", "{name: a, action: pass}") + "egress: [{name: c, action: tx}]"
    )
    assert [rule.name for rule in found.ingress.rules] == ["b", "a"]
    assert [rule.name for rule in found.egress.rules] == ["c"]
