"""Each command with its verb replaced: what it passes on and what it prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from cli_fakes import Files, Install, Output, problem, ruleset
from test_ui_samples import broken, later, snapshot, state

from xdpguard.cli.main import main
from xdpguard.errors import (
    PrivilegeError,
    Problem,
    RulesError,
)
from xdpguard.guard.model import InterfaceStatus
from xdpguard.rules.model import RuleSet
from xdpguard.stats.model import Snapshot

pytestmark = pytest.mark.usefixtures("no_verb_is_real")


# ---- check


def test_check_tells_the_number_of_rules(parser: Files, capsys: Output) -> None:
    assert main(["check", "good"]) == 0
    assert capsys.readouterr() == ("good: ok, 2 ingress and 0 egress rules\n", "")


def test_check_reports_every_file_and_ends_with_1_if_one_is_refused(parser: Files, capsys: Output) -> None:
    parser |= {"bad": problem("bad"), "worse": problem("worse")}
    assert main(["check", "bad", "good", "worse"]) == 1
    out, err = capsys.readouterr()
    assert out == "good: ok, 2 ingress and 0 egress rules\n"
    assert [line.split(": ")[0] for line in err.splitlines()] == ["bad:3:7", "worse:3:7"]


def test_check_prints_notes_on_standard_error(parser: Files, capsys: Output) -> None:
    parser["good"] = ruleset("good", notes=("good:2:1: note: 10.0.0.1/8 is 10.0.0.0/8",))
    assert main(["check", "good"]) == 0
    assert capsys.readouterr().err == "good:2:1: note: 10.0.0.1/8 is 10.0.0.0/8\n"


def test_check_ends_with_3_if_a_file_is_not_readable(parser: Files, capsys: Output) -> None:
    parser["secret"] = PrivilegeError("secret: permission denied")
    assert main(["check", "secret", "good"]) == 3
    assert capsys.readouterr().err == "xdpguard: error: secret: permission denied\n"


def test_a_refused_file_outweighs_an_unreadable_one(parser: Files) -> None:
    parser |= {"secret": PrivilegeError("secret: permission denied"), "bad": problem("bad")}
    assert main(["check", "secret", "bad"]) == 1


def test_check_refuses_what_does_not_compile(parser: Files, install: Install, capsys: Output) -> None:
    def build(ruleset: RuleSet, serial: int = 0, targets: object = None) -> None:
        raise RulesError([Problem(ruleset.file, 0, 0, "error", "40,000 rules: 32,768 are allowed")])

    install("classify.compile", build=build)
    assert main(["check", "good"]) == 1
    assert capsys.readouterr() == ("", "good: error: 40,000 rules: 32,768 are allowed\n")


def test_check_tells_the_tables_only_if_asked(parser: Files, capsys: Output) -> None:
    assert main(["check", "--verbose", "good"]) == 0
    told = capsys.readouterr().err
    assert main(["check", "good"]) == 0
    assert (told, capsys.readouterr().err) == ("good: 2 rules in 1 list\n", "")


# ---- load, confirm, rollback, unload


def test_load_passes_everything_on(parser: Files, install: Install, capsys: Output) -> None:
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

    def load(*arguments: Any, say: Callable[[str], None], **options: Any) -> None:
        calls.append((arguments, options))
        say("a: native mode")

    install("guard.load", load=load)
    line = "load -i a -i b good --mode generic --netns n --confirm 60 --force --verbose --account-owners"
    assert main(line.split()) == 0
    options = {"mode": "generic", "netns": "n", "confirm": 60, "force": True, "verbose": True}
    options |= {"account_owners": True}
    assert calls == [((["a", "b"], SimpleNamespace(outline=parser["good"], verbose=True)), options)]
    assert capsys.readouterr() == ("", "a: native mode\n")


def test_load_without_options_is_auto_and_final(parser: Files, install: Install) -> None:
    calls: list[dict[str, Any]] = []
    install("guard.load", load=lambda *arguments, **options: calls.append(options))
    assert main(["load", "-i", "a", "good"]) == 0
    del calls[0]["say"]
    options = {"mode": "auto", "netns": None, "confirm": None, "force": False, "verbose": False}
    assert calls == [options | {"account_owners": None}]


def test_load_of_a_refused_file_never_reaches_the_verb(
    parser: Files, install: Install, capsys: Output
) -> None:
    calls: list[object] = []
    install("guard.load", load=lambda *arguments, **options: calls.append(arguments))
    parser["bad"] = problem("bad")
    assert main(["load", "-i", "a", "bad"]) == 1
    assert calls == []
    assert capsys.readouterr().err.startswith("bad:3:7: error: port 70000")


@pytest.mark.parametrize("verb", ["confirm", "rollback", "unload"])
def test_the_other_verbs_take_interfaces_and_a_namespace(verb: str, install: Install, capsys: Output) -> None:
    calls: list[object] = []

    def called(interfaces: list[str], netns: str | None, say: Callable[[str], None]) -> None:
        calls.append((interfaces, netns))
        say(f"{verb} done")

    install("guard.verbs", **{verb: called})
    assert main([verb, "-i", "a", "-i", "b", "--netns", "n"]) == 0
    assert calls == [(["a", "b"], "n")]
    assert capsys.readouterr() == ("", f"{verb} done\n")


# ---- status


BARE = replace(state(), active=None, previous=None, mode="none", xdp_program=None, tc_program=None)


@pytest.mark.parametrize(
    ("line", "found", "code"),
    [
        ("status", [], 0),
        ("status", [state(), state("eth0", None)], 0),
        ("status", [replace(state(), confirm_seconds=5.0)], 0),
        ("status", [state(), state("eth0", None, "the TC filter is gone")], 5),
        ("status -i veth0", [state()], 0),
        ("status -i veth0", [], 4),
        ("status -i veth0", [BARE], 4),
        ("status -i veth0", [state("veth0", None, "pins are lost")], 5),
        ("status -i veth0", [replace(BARE, problems=("our maps are here, our program is not",))], 5),
    ],
)
def test_the_exit_code_of_status(
    line: str, found: list[InterfaceStatus], code: int, install: Install
) -> None:
    install("guard.status", status=lambda interface, netns, names=None: found)
    assert main(line.split()) == code


def test_status_passes_interface_and_namespace_on_and_prints_json(install: Install, capsys: Output) -> None:
    calls: list[object] = []

    def status(interface: str | None, netns: str | None) -> list[InterfaceStatus]:
        calls.append((interface, netns))
        return [state()]

    install("guard.status", status=status)
    assert main(["status", "-i", "veth0", "--netns", "blue", "--format", "json"]) == 0
    assert calls == [("veth0", "blue")]
    assert json.loads(capsys.readouterr().out)["schema"] == "xdpguard.status/1"


def test_status_of_an_interface_that_is_not_loaded_says_so(install: Install, capsys: Output) -> None:
    install("guard.status", status=lambda interface, netns, names=None: [])
    assert main(["status", "-i", "eth0", "--netns", "blue"]) == 4
    assert capsys.readouterr().err == "eth0 (netns blue): xdpguard is not loaded there\n"


# ---- stats


def test_stats_passes_interface_and_namespace_on_and_prints(install: Install, capsys: Output) -> None:
    calls: list[object] = []

    def read(interface: str | None, netns: str | None) -> Snapshot:
        calls.append((interface, netns))
        return snapshot()

    install("stats.read", snapshot=read)
    assert main(["stats", "-i", "veth0", "--netns", "blue", "--by", "action", "--format", "plain"]) == 0
    assert calls == [("veth0", "blue")]
    out, err = capsys.readouterr()
    assert out.startswith("XDP_ABORTED: 0\nXDP_DROP: 24\n")
    assert err == ""


def test_stats_is_a_table_unless_told(install: Install, capsys: Output) -> None:
    install("stats.read", snapshot=lambda interface, netns, names=None: snapshot())
    assert main(["stats"]) == 0
    assert capsys.readouterr().out.startswith("veth0 (netns blue): native, generation 3\n")


def test_stats_of_nothing_says_so(install: Install, capsys: Output) -> None:
    install("stats.read", snapshot=lambda interface, netns, names=None: Snapshot(0.0, ()))
    assert main(["stats", "--format", "json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["interfaces"] == []
    assert err == "xdpguard is not loaded on any interface: there are no counters\n"
    assert main(["stats", "--netns", "blue"]) == 0
    words = "xdpguard is not loaded on any interface of the network namespace blue: there are no counters\n"
    assert capsys.readouterr().err == words


@pytest.mark.parametrize("format", ["plain", "json", "csv", "prometheus"])
def test_sums_that_differ_are_told_beside_every_format(format: str, install: Install, capsys: Output) -> None:
    install("stats.read", snapshot=lambda interface, netns, names=None: broken())
    assert main(["stats", "--format", format]) == 0
    assert "xdpguard: warning: veth0 (netns blue) ingress: THE COUNTERS DO NOT" in capsys.readouterr().err


def test_a_watch_in_a_pipe_is_json_lines_until_ctrl_c(
    install: Install, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter([snapshot(), later(snapshot(), 2.0, drop=6)])
    waits: list[float] = []

    def wait(seconds: float) -> None:
        waits.append(seconds)
        if len(waits) == 2:
            raise KeyboardInterrupt

    install("stats.read", snapshot=lambda interface, netns, names=None: next(readings))
    monkeypatch.setattr("time.sleep", wait)
    assert main(["stats", "--watch", "2", "--format", "json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [json.loads(line)["time"] for line in lines] == [
        "2023-11-14T22:13:20.000Z",
        "2023-11-14T22:13:22.000Z",
    ]
    assert waits == [2.0, 2.0]
