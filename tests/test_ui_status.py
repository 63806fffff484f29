"""status as table and json."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from test_ui_samples import state

from xdpguard.guard.model import InterfaceStatus
from xdpguard.ui.status import render

TABLE = """\
veth0 (netns blue): as loaded
  mode      native
  rules     rules/demo.yaml: 7 ingress and 2 egress rules, generation 3, loaded 2023-11-14T22:13:20Z
  previous  built-in: no rules, pass (generation 1)
  programs  XDP id 123, TC id 124
  tables    3.10 MB of memory a generation
"""


def test_a_loaded_interface_is_shown_in_a_few_lines() -> None:
    assert render([state()], "table") == TABLE


def test_a_pending_confirm_says_how_long_and_which_command() -> None:
    text = render([replace(state(), confirm_seconds=27.4)], "table")
    assert "pending: falls back to previous in 27 s unless: xdpguard confirm -i veth0 --netns blue\n" in text
    text = render([replace(state("eth0", None), confirm_seconds=1.0)], "table")
    assert text.count("unless: xdpguard confirm -i eth0\n") == 1


def test_a_missed_confirm_is_told() -> None:
    assert "not confirmed in time: fell back" in render([replace(state(), fell_back=True)], "table")


def test_problems_stand_one_a_line_under_a_loud_heading() -> None:
    text = render([state("eth0", None, "the TC filter is gone", "pins are lost")], "table")
    assert text.startswith("eth0: NOT PROTECTED\n")
    assert "  PROBLEM   the TC filter is gone\n  PROBLEM   pins are lost\n" in text


def test_a_program_that_is_gone_is_not_an_id() -> None:
    assert "XDP not attached, TC id 124" in render([replace(state(), xdp_program=None)], "table")


def test_helpers_are_named() -> None:
    text = render([replace(state(), helpers=("ids0", "ids1"))], "table")
    assert "pass-only program for redirects on ids0, ids1\n" in text


def test_an_interface_without_rules_is_not_loaded() -> None:
    bare = replace(state(), active=None, previous=None, mode="none", xdp_program=None, tc_program=None)
    text = render([bare], "table")
    assert text.startswith("veth0 (netns blue): not loaded\n")
    assert "  rules     none\n" in text


def test_nothing_loaded_is_said() -> None:
    assert render([], "table") == "xdpguard is not loaded on any interface\n"
    assert render([], "table", "b\x1b") == (
        "xdpguard is not loaded on any interface of the network namespace b\\x1b\n"
    )
    assert json.loads(render([], "json")) == {"schema": "xdpguard.status/1", "interfaces": []}


def test_several_interfaces_are_apart() -> None:
    assert "\n\neth0: as loaded\n" in render([state(), state("eth0", None)], "table")


def test_the_json_document_has_exactly_the_keys_of_its_schema() -> None:
    document = json.loads(render([replace(state("eth0", None, "p"), helpers=("ids0",))], "json"))
    generation = {
        "serial": 3,
        "file": "rules/demo.yaml",
        "content_hash": "ab" * 16,
        "loaded_at": "2023-11-14T22:13:20.000Z",
        "ingress_rules": 7,
        "egress_rules": 2,
    }
    assert list(document) == ["schema", "interfaces"]
    assert document["interfaces"] == [
        {
            "interface": "eth0",
            "ifindex": 7,
            "netns": None,
            "mode": "native",
            "protected": False,
            "generation": generation,
            "previous": generation | {"serial": 1, "file": "", "content_hash": ""} | _no_rules(),
            "confirm_seconds": None,
            "fell_back": False,
            "xdp_program": 123,
            "tc_program": 124,
            "helpers": ["ids0"],
            "table_bytes": 3_100_000,
            "problems": ["p"],
        }
    ]


def _no_rules() -> dict[str, int]:
    return {"ingress_rules": 0, "egress_rules": 0}


def test_a_missing_generation_is_null_in_json() -> None:
    document = json.loads(render([replace(state(), active=None, previous=None)], "json"))
    assert [document["interfaces"][0][key] for key in ("generation", "previous")] == [None, None]


@pytest.mark.parametrize("format", ["table", "json"])
def test_no_control_character_gets_through(format: str) -> None:
    evil = "\x1b[2J\x07\x7f"
    one: InterfaceStatus = state(evil, evil, evil)
    assert one.active is not None
    one = replace(one, active=replace(one.active, file=evil), helpers=(evil,), confirm_seconds=1.0)
    assert render([one], format).replace("\n", "").isprintable()
