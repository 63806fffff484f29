"""The example rule files: each parses without a warning and does what its first sentence says."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdpguard.rules.model import Action, RuleSet
from xdpguard.rules.parse import load_file

FOLDER = Path(__file__).parent.parent / "rules"
FILES = sorted(FOLDER.glob("*.yaml"))


def names(found: RuleSet, action: Action) -> set[str]:
    return {
        rule.name for hook in (found.ingress, found.egress) for rule in hook.rules if rule.action == action
    }


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_parses_without_a_warning(path: Path) -> None:
    assert load_file(path).notes == ()


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_example_opens_with_the_sentence_that_it_implements(path: Path) -> None:
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert first.startswith("# ")
    assert first.endswith(".")
    assert second == "#"


def test_the_demo_shows_three_actions_both_families_and_both_hooks() -> None:
    found = load_file(FOLDER / "demo.yaml")
    assert names(found, Action.DROP) == {"no-telnet", "no-discard"}
    assert names(found, Action.TX) == {"bounce-echo"}
    assert {"web", "ping", "ping-v6"} <= names(found, Action.PASS)
    assert found.egress.rules
    assert any(rule.match.ipv6 and not rule.match.ipv4 for rule in found.ingress.rules)


def test_allow_ssh_only_drops_the_rest() -> None:
    found = load_file(FOLDER / "allow-ssh-only.yaml")
    assert found.ingress.default == Action.DROP
    assert found.ingress.rules[0].match.dport == ((22, 22),)
    assert names(found, Action.DROP) == set()


def test_default_deny_host_drops_what_is_not_listed() -> None:
    found = load_file(FOLDER / "default-deny-host.yaml")
    assert (found.ingress.default, found.egress.default) == (Action.DROP, Action.PASS)
    assert all(rule.action == Action.PASS for rule in found.ingress.rules)


@pytest.mark.parametrize("name", ["allow-ssh-only", "default-deny-host"])
def test_a_deny_file_lets_answers_in_but_no_first_packet_to_a_high_port(name: str) -> None:
    (answers,) = [r for r in load_file(FOLDER / f"{name}.yaml").ingress.rules if r.name == "tcp-answers"]
    assert answers.match.tcp_flags is not None
    assert 0x02 not in answers.match.tcp_flags  # SYN
    assert {0x12, 0x10, 0x18, 0x11, 0x04, 0x14} <= answers.match.tcp_flags  # SYN+ACK, data, FIN, RST


def test_the_block_list_works_in_both_directions_and_families() -> None:
    found = load_file(FOLDER / "block-list.yaml")
    (inside,), (outside,) = found.ingress.rules, found.egress.rules
    assert inside.match.src == outside.match.dst
    assert inside.match.src is not None
    assert (len(inside.match.src.v4), len(inside.match.src.v6)) == (3, 2)


def test_drop_fragments_only_drops_fragments() -> None:
    found = load_file(FOLDER / "drop-fragments.yaml")
    assert found.drop_fragments
    assert (found.ingress.default, found.ingress.rules, found.egress.rules) == (Action.PASS, (), ())


def test_count_only_passes_everything() -> None:
    found = load_file(FOLDER / "count-only.yaml")
    assert found.malformed == Action.PASS
    assert names(found, Action.PASS) == {
        rule.name for hook in (found.ingress, found.egress) for rule in hook.rules
    }


def test_redirect_to_ids_names_the_interface() -> None:
    (rule,) = load_file(FOLDER / "redirect-to-ids.yaml").ingress.rules
    assert rule.redirect is not None
    assert (rule.redirect.interface, rule.redirect.dst_mac) == ("ids0", bytes.fromhex("020000000002"))


def test_rules_file_drops_what_its_table_names() -> None:
    found = load_file(FOLDER / "rules-file.yaml").ingress.rules
    assert [(rule.name, rule.line, Path(rule.file).name) for rule in found] == [
        ("scanner", 2, "rules-file.tsv"),
        ("no-mail-from-there", 3, "rules-file.tsv"),
        ("no-dns-from-there", 4, "rules-file.tsv"),
    ]
    assert {rule.action for rule in found} == {Action.DROP}
    assert found[1].match.dport == ((25, 25), (465, 465), (587, 587))
    assert found[2].match.ipv6
    assert not found[2].match.ipv4


def test_every_example_has_a_test_of_its_meaning() -> None:
    source = Path(__file__).read_text(encoding="utf-8")
    assert [path.stem for path in FILES if path.stem not in source] == []
    assert len(FILES) == 8
