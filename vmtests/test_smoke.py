"""On every kernel: the verbs in both modes, reload and rollback, the verifier, a kprobe and a tracepoint.

Each kernel boots once (lab_fixtures.py), does what vmlab/trial.py lists, and is gone before the next one
boots; the tests look at the results. One kernel only: `-k newest`.
"""

from __future__ import annotations

import json
from typing import Any

import pytest
from vmlab import kernels
from vmlab import trial as trials
from vmlab.errors import NotFetched
from vmlab.kernels import Kernel
from vmlab.machine import Result
from vmlab.owned import ASKED
from vmlab.trial import CARD, PACKETS, REDIRECT, RULES, VETH, Trial

INTERFACES = (VETH, CARD)
_HOOK_AND_RULE = {VETH: ("ingress", "no-discard"), CARD: ("egress", "web-answers")}
_LIMIT = 100_000  # a tenth of BPF_COMPLEXITY_LIMIT_INSNS, linux/bpf.h: room for other compilers and verifiers


def test_at_least_two_kernels_can_be_had() -> None:
    had, reasons = [], []
    for kernel in kernels.listed():
        try:
            had.append(kernels.fetch(kernel).version)
        except NotFetched as error:
            reasons.append(str(error))
    assert len(had) >= 2, "\n".join(reasons)


def test_all_that_must_work_works(kernel: Kernel, trial: Trial) -> None:
    assert {name: trial.reasons[name] for name in kernel.must if trial.reasons[name]} == {}


def test_all_that_is_listed_as_missing_is_missing(kernel: Kernel, trial: Trial) -> None:
    """What works meanwhile belongs under ``must``, and out of docs/limitations.md."""
    assert [name for name in kernel.lacks if not trial.reasons[name]] == []


@pytest.mark.parametrize("mode", trials.MODES)
@pytest.mark.parametrize("interface", INTERFACES)
def test_rules_load_in_the_wanted_mode(trial: Trial, interface: str, mode: str) -> None:
    told = _good(trial, f"load {mode} {interface}").err
    assert f"({mode} XDP + TC), 7 ingress and 1 egress rules" in told


@pytest.mark.parametrize("mode", trials.MODES)
@pytest.mark.parametrize("interface", INTERFACES)
def test_every_packet_is_counted_under_its_rule(trial: Trial, interface: str, mode: str) -> None:
    step = f"stats {mode} {interface}"
    _good(trial, step)
    found = trial.stats(step)
    hook, rule = _HOOK_AND_RULE[interface]
    counts = {one["name"]: one["packets"] for one in found[hook]["rules"]}
    assert found["mode"] == mode
    assert {name: count for name, count in counts.items() if name == rule} == {rule: PACKETS}
    assert found[hook]["seen"]["packets"] == sum(one["packets"] for one in found[hook]["actions"].values())


@pytest.mark.parametrize("mode", trials.MODES)
@pytest.mark.parametrize("interface", INTERFACES)
def test_rules_unload(trial: Trial, interface: str, mode: str) -> None:
    assert f"{interface}: unloaded" in _good(trial, f"unload {mode} {interface}").err


def test_a_reload_puts_other_rules_in_force(trial: Trial) -> None:
    before, after = _status(trial, "status redirect"), _status(trial, "status reload")
    assert before["generation"]["file"] == REDIRECT
    assert (after["generation"]["file"], after["previous"]["file"]) == (RULES, REDIRECT)
    assert (after["mode"], after["protected"], after["problems"]) == ("native", True, [])
    kept = [before[key] == after[key] for key in ("xdp_program", "tc_program")]
    assert kept == [True, True], "only data changes, the programs stay"


def test_a_rollback_puts_the_rules_before_in_force(trial: Trial) -> None:
    _good(trial, "rollback")
    assert _status(trial, "status rollback")["generation"]["file"] == REDIRECT


def test_a_redirect_target_without_a_program_gets_the_pass_only_one(trial: Trial) -> None:
    assert f"{CARD}: attached a pass-only XDP program" in _good(trial, "load redirect").err
    assert _status(trial, "status redirect")["helpers"] == [CARD]


def test_a_load_says_when_the_kernel_cannot_tell_whether_a_target_takes_frames(
    kernel: Kernel, trial: Trial
) -> None:
    warned = f"does not tell whether {CARD} can take" in _good(trial, "load redirect").err
    assert warned == ("xdp-features" in kernel.lacks)


def test_the_multi_buffer_program_is_loaded_where_the_kernel_has_it(kernel: Kernel, trial: Trial) -> None:
    kind = "single" if "multi-buffer" in kernel.lacks else "multi"
    assert f"XDP program ({kind}-buffer)" in _good(trial, "load redirect").err


def test_the_verifier_processes_100000_instructions_of_a_program_at_most(
    kernel: Kernel, trial: Trial
) -> None:
    absent = {"xdp-multi", "xdp-multi-owners"} if "multi-buffer" in kernel.lacks else set()
    counts = {name: text for name, text in trial.instructions.items() if name not in absent}
    assert {name: text for name, text in counts.items() if not text.isdigit()} == {}
    assert {name: text for name, text in counts.items() if int(text) > _LIMIT} == {}


@pytest.mark.parametrize("hook", ["ingress", "egress"])
def test_packets_are_those_of_the_process_whose_socket_a_load_found(trial: Trial, hook: str) -> None:
    """In another network namespace than the command's, known by its cookie or, on 5.10, by its inode."""
    assert trial.owned is not None
    found = trial.owned.packets(hook)
    assert found == {trial.owned.pid: ASKED, "(kernel)": found.get("(kernel)", 0)}
    assert sum(found.values()) == trial.owned.seen(hook)


@pytest.mark.parametrize("what", ["kprobe", "tracepoint"])
def test_a_probe_without_kernel_headers_sees_who_connects(trial: Trial, what: str) -> None:
    probe = trial.probes[what]
    assert probe["seen"] == [probe["connects"]], probe["reason"]


def test_the_installed_command_runs_as_the_tests_run_it(trial: Trial) -> None:
    assert _good(trial, "exec --help").out.startswith("usage: xdpguard ")
    assert _good(trial, "exec check") == _good(trial, "check")


def _good(trial: Trial, step: str) -> Result:
    result = trial.steps[step]
    assert result.code == 0, f"{step}: exit code {result.code}\n{result.out}{result.err}"
    return result


def _status(trial: Trial, step: str) -> dict[str, Any]:
    """The interface that the step asked for."""
    [found] = json.loads(_good(trial, step).out)["interfaces"]
    assert isinstance(found, dict)
    return found
