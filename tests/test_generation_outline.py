"""What a load asks of rules beside their tables: the same that the rules themselves would answer."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from strategies import rulesets

from xdpguard.generation import manifest
from xdpguard.generation.outline import Redirecting, outline
from xdpguard.rules.model import Action, Hook, Match, Redirect, Rule, RuleSet

RULE = Rule("r", Action.DROP, Match(), None, "0" * 32, 3, 5)


def of(*ingress: Rule, egress: tuple[Rule, ...] = ()) -> RuleSet:
    return RuleSet("r.yaml", Hook(Action.PASS, ingress), Hook(Action.DROP, egress), notes=("a note",))


def to(interface: str, line: int) -> Rule:
    return replace(RULE, name=f"to-{line}", action=Action.REDIRECT, redirect=Redirect(interface), line=line)


@given(rulesets)
def test_every_rule_is_told_with_its_place(ruleset: RuleSet) -> None:
    found = outline(ruleset)
    for number, hook in enumerate((ruleset.ingress, ruleset.egress)):
        assert found.counts[number] == len(hook.rules)
        for index, rule in enumerate(hook.rules):
            told = (ruleset.place(rule), rule.name, rule.action.name.lower())
            assert found.rule(number, index) == told


@given(rulesets)
def test_the_names_of_a_generation_are_those_of_its_rules(ruleset: RuleSet) -> None:
    data = outline(ruleset).named(12.5, {"ids0": 7})
    assert manifest.decode(data) == manifest.describe(ruleset, 12.5, {"ids0": 7})


def test_rules_of_several_files_are_told_with_theirs() -> None:
    rules = [replace(RULE, file=file, line=at) for at, file in enumerate(("", "a", "a", "b", "", "a"))]
    found = outline(of(*rules))
    places = [found.rule(0, at)[0] for at in range(6)]
    assert places == ["r.yaml:0:5", "a:1:5", "a:2:5", "b:3:5", "r.yaml:4:5", "a:5:5"]


def test_each_redirect_target_is_told_once_a_hook_with_its_first_rule() -> None:
    found = outline(of(RULE, to("x", 4), to("y", 6), to("x", 7), egress=(to("y", 9), to("y", 10))))
    assert found.redirects == (
        Redirecting(0, "x", "to-4", "r.yaml:4:5"),
        Redirecting(0, "y", "to-6", "r.yaml:6:5"),
        Redirecting(1, "y", "to-9", "r.yaml:9:5"),
    )


def test_frames_are_sent_by_tx_and_redirect_of_ingress_only() -> None:
    back = replace(RULE, action=Action.TX)
    assert not outline(of(RULE)).sends
    assert not outline(of(RULE, egress=(to("x", 1),))).sends
    assert outline(of(RULE, to("x", 1))).sends
    assert not outline(of(RULE, to("x", 1))).tx
    assert outline(of(back)).sends
    assert outline(of(back)).tx


def test_the_first_ingress_rule_that_looks_at_the_vlan_is_named() -> None:
    tagged = [replace(RULE, name=name, match=Match(vlan=((5, 5),))) for name in ("a", "b")]
    assert outline(of(RULE, *tagged)).vlan == "a"
    assert outline(of(RULE, egress=tuple(tagged))).vlan == ""


def test_notes_defaults_and_hash_are_told() -> None:
    found = outline(replace(of(), content_hash="abc"))
    assert (found.notes, found.defaults, found.content_hash) == (("a note",), ("pass", "drop"), "abc")
