"""The systemd unit at work: a machine that systemd boots, its power cut after loads, and booted again.

boot_run.py says what is done; it is done once, and the tests look at the results. In the second boot only
the unit has put any rules in force.
"""

from __future__ import annotations

import json
from typing import Any

import boot_run
import pytest
from boot_run import BAD, CARD, CONFIRMED, DAMAGED, GOOD, LAST, BootRun
from vmlab.errors import LabError, NotFetched
from vmlab.kernels import Image
from vmlab.machine import Result

pytestmark = pytest.mark.whole_lab  # minutes, beside what must end within 20
_WHEN = "ActiveEnterTimestampMonotonic"


@pytest.fixture(scope="module")
def booted(image: Image) -> BootRun:
    try:
        return boot_run.run(image)
    except NotFetched as error:
        pytest.skip(str(error))


def _interface(asked: Result | None, name: str = CARD) -> dict[str, Any]:
    """What `status` or `stats` told of it, with exit code 0."""
    assert asked is not None
    assert asked.code == 0, asked.err
    [found] = [one for one in json.loads(asked.out)["interfaces"] if one["interface"] == name]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("interface", [CARD, LAST])
def test_after_a_power_cut_the_confirmed_rules_are_in_force_and_none_that_waited(
    booted: BootRun, interface: str
) -> None:
    """Nothing gets to that machine's disk but what is synced; LAST's are confirmed just before the cut."""
    found = _interface(booted.status, interface)
    assert (found["generation"]["file"], found["protected"], found["problems"]) == (CONFIRMED, True, [])
    assert (found["confirm_seconds"], found["mode"]) == (None, "native")
    assert "prog/xdp" in booted.links[interface]


@pytest.mark.parametrize("interface", [CARD, LAST])
def test_the_unit_has_ended_its_work_when_the_network_may_be_configured(
    booted: BootRun, interface: str
) -> None:
    unit, network = booted.units[f"xdpguard@{interface}.service"], booted.units["network-pre.target"]
    assert (unit["ActiveState"], unit["Result"]) == ("active", "success")
    assert 0 < int(unit[_WHEN]) <= int(network[_WHEN])


def test_a_card_that_the_network_configuration_finds_is_down_and_filtered(booted: BootRun) -> None:
    assert "state DOWN" in booted.found
    assert "prog/xdp" in booted.found


def test_the_first_frames_after_a_boot_are_judged_by_the_confirmed_rules(booted: BootRun) -> None:
    """They waited for the card since before the boot. Without rules such a ping was answered."""
    assert booted.answered == [[BAD, GOOD], [GOOD]]
    [shut] = _interface(booted.stats)["ingress"]["rules"]
    assert (shut["name"], shut["action"]) == ("shut", "drop")
    assert shut["packets"] > 1  # the one that was sent after the boot, and those that waited


def test_a_unit_whose_record_is_damaged_fails_with_the_reason_and_the_machine_boots(booted: BootRun) -> None:
    unit = booted.units[f"xdpguard@{DAMAGED}.service"]
    assert (unit["ActiveState"], unit["Result"]) == ("failed", "exit-code")
    assert ".rules: error: is damaged: not used; nothing changed\n" in booted.logs[DAMAGED]
    assert f"{DAMAGED}: xdpguard does not filter its ingress and egress\n" in booted.logs[DAMAGED]
    assert "prog/xdp" not in booted.links[DAMAGED]
    assert booted.units["multi-user.target"]["ActiveState"] == "active"


def test_a_card_that_was_gone_and_came_back_is_filtered_again(booted: BootRun) -> None:
    if isinstance(booted.replug, LabError):
        raise booted.replug
    assert booted.replug is not None
    before, after = _interface(booted.status), _interface(booted.replug.status)
    assert "does not exist" in booted.replug.missing
    assert after["ifindex"] != before["ifindex"]
    assert (after["generation"]["file"], after["protected"], after["problems"]) == (CONFIRMED, True, [])
    assert "prog/xdp" in booted.replug.link
