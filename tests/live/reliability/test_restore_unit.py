"""The systemd unit: the capabilities that it leaves to ``restore`` are enough, seen without systemd."""

from __future__ import annotations

import configparser
import shutil
from pathlib import Path

import pytest
from crash_scenes import verdicts
from interface_state import state
from test_lifecycle_support import CONSOLE, TOGGLED, Done, Site, dropping, run
from test_restore_support import reboot

pytestmark = [
    pytest.mark.usefixtures("no_leaks"),
    pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv (util-linux)"),
]
UNIT = Path(__file__).resolve().parents[3] / "systemd" / "xdpguard@.service"
TX = "{name: back, proto: udp, dport: 7, action: tx}"  # delivery is observed, by tracepoints
A, *_ = TOGGLED


def as_the_unit(*command: object) -> Done:
    """As root with the unit's capabilities alone."""
    unit = configparser.RawConfigParser(strict=False)
    unit.read(UNIT)
    assert unit["Service"]["NoNewPrivileges"] == "yes"
    names = unit["Service"]["CapabilityBoundingSet"].split()
    allowed = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in names)])
    return run("setpriv", "--no-new-privs", "--inh-caps", "-all", "--bounding-set", allowed, "--", *command)


def warnings(done: Done) -> list[str]:
    assert done.code == 0, done.err
    return [line for line in done.err.splitlines() if line.startswith("warning: ")]


def pinned(site: Site) -> list[str]:
    """But the set's own folder, whose name is another each time."""
    return sorted(Path(pin).name for pin in state(site.end).pins if len(Path(pin).name) != 16)


@pytest.mark.parametrize("more", [[], ["--account-owners"]], ids=["plain", "owners"])
def test_with_its_capabilities_alone_all_comes_back(site: Site, more: list[str]) -> None:
    loaded = warnings(site.console("load", site.write(dropping(A, more=TX)), *more))
    pins = pinned(site)
    reboot(site)
    assert warnings(as_the_unit(CONSOLE, *site.words("restore"))) == loaded
    assert verdicts(site.end).whole({A})
    assert pinned(site) == pins
