"""Nothing of the closed lists is without a test: rule keys, actions, reasons, exit codes, example files.

The tests that judge frames keep them in tables, and a table names what each row is about. Here those tables
are compared with the lists in the code, and held against the oracle, so that no row claims what it does not
do. A new key, action, reason, exit code or file in rules/ fails here until a table has it.
"""

from __future__ import annotations

# isort: split

import pytest
import test_traffic_cli
import test_traffic_fragments
import test_traffic_jumbo
import test_traffic_reasons
from corpus import CORPUS
from oracle import Verdict, decide
from packets import Packet
from test_traffic_support import HOOKS
from test_verdicts import ACTIONS, KEYS, NAME_AND_COMMENT, NOT_KEYS, Case, rule_file, rule_set
from test_verdicts_examples import EXAMPLES, FOLDER, read

from xdpguard import errors
from xdpguard.abi import reasons
from xdpguard.cli.main import main
from xdpguard.errors import XdpguardError
from xdpguard.guard import verbs
from xdpguard.rules.fields import MATCH_KEYS
from xdpguard.rules.model import Action, RuleSet
from xdpguard.rules.rule import RULE_KEYS


def decider(rules: RuleSet, hook: str, frame: Packet) -> str:
    return decide(rules, hook, bytes(frame)).decider


# ---- keys -----------------------------------------------------------------------------------------------
def test_every_key_of_a_rule_has_a_case() -> None:
    assert {case.key for case in KEYS} | NAME_AND_COMMENT | {"action"} == set(RULE_KEYS)


def test_every_match_key_has_a_case_under_not() -> None:
    inner = [case.value.strip("{").partition(":")[0] for case in NOT_KEYS]
    assert {case.key for case in NOT_KEYS} == {"not"}
    assert sorted(inner) == sorted(MATCH_KEYS)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("case", KEYS + NOT_KEYS, ids=str)
def test_the_verdict_depends_on_the_key_that_the_case_names(case: Case, hook: str) -> None:
    rules, without = (rule_set(case.text(with_key=present)) for present in (True, False))
    rule = f"{hook}-rule"
    assert decider(rules, hook, case.hit) == rule
    assert decider(rules, hook, case.miss) == "default"
    assert decider(without, hook, case.miss) == rule
    if case.absent is not None:
        assert decider(rules, hook, case.absent) == "default"


# ---- actions --------------------------------------------------------------------------------------------
def test_every_action_has_a_case() -> None:
    """ABORTED is no action of a rule: it is counted for a redirect whose target is gone."""
    assert {action for _, _, action in ACTIONS} == set(Action) - {Action.ABORTED}


@pytest.mark.parametrize("row", ACTIONS, ids=[row[0] for row in ACTIONS])
def test_a_file_with_the_action_has_it(row: tuple[str, str, Action]) -> None:
    text, default, action = row
    rules = rule_set(rule_file("proto: udp", text, default))
    assert [hook.rules[0].action for hook in (rules.ingress, rules.egress)] == [action, action]
    assert rules.ingress.default == Action[default.upper()] != action


# ---- reasons --------------------------------------------------------------------------------------------
NOT_IN_THE_KERNEL = {"malformed_ethernet": "neither device nor test run hands over fewer than 14 bytes"}
NOT_IN_THE_ORACLE = {"malformed_unreadable": "the oracle reads a whole frame, whatever buffer it is in"}
REASONS = frozenset(reasons()) - {"none"}


def of_real_traffic() -> set[str]:
    """Reasons in the tables of the tests that send real frames through a loaded interface."""
    rows = [
        *test_traffic_fragments.L3_ONLY,
        *test_traffic_fragments.NO_FRAGMENTS,
        *test_traffic_reasons.malformed(Action.DROP),
        *test_traffic_reasons.REFUSED,
    ]
    for hook in HOOKS:
        rows += [*test_traffic_reasons.essential(hook), *test_traffic_jumbo.table(hook)]
    return {row.decider for row in rows} & REASONS


def test_every_reason_has_real_traffic() -> None:
    assert of_real_traffic() == REASONS - set(NOT_IN_THE_KERNEL)


def test_every_reason_has_a_frame_that_the_oracle_judges() -> None:
    found = {case.decider for case in CORPUS} | (of_real_traffic() - set(NOT_IN_THE_ORACLE))
    assert found & REASONS == REASONS - set(NOT_IN_THE_ORACLE)


# ---- exit codes -----------------------------------------------------------------------------------------
CODES = {
    errors.RulesError: 1,
    errors.UsageError: 2,
    errors.PrivilegeError: 3,
    errors.NotLoadedError: 4,
    errors.ForeignError: 5,
    errors.PreflightError: 6,
    errors.KernelError: 7,
    errors.ReadError: 7,
    errors.Interrupted: 130,
}
"""The documented code of each class; 0 is a command that is done."""


def classes(base: type[XdpguardError]) -> set[type[XdpguardError]]:
    return {each for child in base.__subclasses__() for each in {child} | classes(child)}


def test_every_class_of_the_exception_tree_has_its_documented_code() -> None:
    assert {each: each.exit_code for each in classes(XdpguardError)} == CODES


@pytest.mark.parametrize(("kind", "code"), CODES.items(), ids=[kind.__name__ for kind in CODES])
def test_a_command_that_ends_with_an_error_has_the_code_of_its_class(
    kind: type[XdpguardError], code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    problem = errors.Problem("rules.yaml", 1, 1, "error", "as the test wants")
    error = kind([problem]) if kind is errors.RulesError else kind("as the test wants")

    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(verbs, "unload", fail)
    assert main(["unload", "-i", "eth0"]) == code
    assert "as the test wants" in capsys.readouterr().err


def test_a_command_that_is_done_ends_with_0(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(FOLDER / "demo.yaml")]) == 0
    assert capsys.readouterr().out.endswith("ok, 7 ingress and 1 egress rules\n")


def test_every_code_but_that_of_an_interruption_has_a_real_load() -> None:
    """tests/test_cli_process.py interrupts a real process."""
    assert {code for code, _ in test_traffic_cli.EXITS} == set(CODES.values()) - {130}


# ---- example files --------------------------------------------------------------------------------------
def test_every_example_file_has_a_table() -> None:
    assert set(EXAMPLES) == {path.stem for path in FOLDER.glob("*.yaml")}


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_rule_and_every_default_of_an_example_decides_a_frame(name: str) -> None:
    rules = read(name)
    wanted = {(hook, "default") for hook in HOOKS}
    wanted |= {(hook, rule.name) for hook in HOOKS for rule in getattr(rules, hook).rules}
    wanted |= {("ingress", "fragment"), ("egress", "fragment")} if rules.drop_fragments else set()
    assert {(example.hook, example.decider) for example in EXAMPLES[name]} >= wanted


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_oracle_agrees_with_the_table_of_an_example(name: str) -> None:
    rules = read(name)
    for example in EXAMPLES[name]:
        verdict: Verdict = decide(rules, example.hook, bytes(example.frame))
        assert (verdict.decider, verdict.action) == (example.decider, example.action), example
