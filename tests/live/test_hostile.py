"""Hostile situations through the console script: exit code, one line that tells why, the host unchanged."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import Lab, inside
from test_lifecycle_support import CONSOLE, TOGGLED, Site, dropping, patched, run

from xdpguard.cli import main
from xdpguard.guard import attach, preflight, targets
from xdpguard.kernel import bpf, link, maps, objects, pins, tc, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED
Program = Callable[..., int]


def ingress(*rules: str) -> str:
    return "version: 1\ningress:\n" + "".join(f"  - {rule}\n" for rule in rules)


# --- rule files ---------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "unknown action": (ingress("{name: a, action: reject}"), "rules.yaml:3:23: error: "),
    "port 70000": (ingress("{name: a, proto: tcp, dport: 70000, action: drop}"), "65535"),
    "range backwards": (ingress("{name: a, proto: tcp, dport: 9-1, action: drop}"), "9-1"),
    "unknown set": (ingress('{name: a, src: "@nosuch", action: drop}'), "nosuch"),
    "duplicate name": (ingress("{name: a, action: drop}", "{name: a, action: pass}"), "duplicate rule name"),
    "duplicate key": (ingress("{name: a, action: drop, action: pass}"), "duplicate key"),
    "empty": ("", "rules.yaml"),
    "100,000 brackets": ("[" * 100_000, "rules.yaml"),
    "binary garbage": (bytes(range(256)) * 64, "rules.yaml"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_rule_file_names_its_place_and_changes_nothing(site: Site, case: str) -> None:
    content, expected = REFUSED[case]
    path = site.write("")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = site.console("load", path).refusal(1)
    assert "rules.yaml" in line
    assert expected in line
    assert state(site.end) == CLEAN


def test_a_rule_file_that_others_can_write_or_nobody_can_read_is_refused(site: Site) -> None:
    path = site.write(dropping(A))
    path.chmod(0o666)
    assert "mode 0666" in site.console("load", path).refusal(1)
    path.unlink()
    assert "No such file" in site.console("load", path).refusal(1)
    path.mkdir()
    assert "is a folder" in site.console("load", path).refusal(1)
    assert state(site.end) == CLEAN


def test_host_bits_of_a_prefix_are_accepted_and_told(site: Site) -> None:
    done = site.console("load", site.write(ingress("{name: a, src: 192.0.2.77/24, action: pass}")))
    assert done.code == 0
    assert "192.0.2.0/24" in done.err


# --- interfaces and callers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["load", "confirm", "rollback", "unload", "status", "stats"])
def test_a_missing_interface_or_namespace_is_named(site: Site, command: str) -> None:
    rules = [site.write(dropping(A))] if command == "load" else []
    there = [CONSOLE, command, *rules, "--netns", site.end.name, "-i", "nosuch"]
    assert "no such interface: nosuch" in run(*there).refusal(4)
    elsewhere = [CONSOLE, command, *rules, "--netns", "no-such-netns", "-i", site.end.dev]
    assert "no such network namespace: no-such-netns" in run(*elsewhere).refusal(4)


AS_NOBODY = """
import os, sys
import xdpguard.classify.compile, xdpguard.cli.commands, xdpguard.guard.load, xdpguard.guard.status
import xdpguard.guard.verbs, xdpguard.rules.parse, xdpguard.stats.read, xdpguard.ui.status
from xdpguard.cli import main
from xdpguard.kernel import netns
def command():
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    return main.main(sys.argv[2:])
sys.exit(netns.inside(sys.argv[1], lambda: os._exit(command())))
"""


@pytest.mark.parametrize("command", ["load", "confirm", "rollback", "unload", "status", "stats"])
def test_without_root_every_command_says_so(site: Site, command: str) -> None:
    if command != "load":
        site.load(dropping(A))
    before = state(site.end)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(dropping(B))
        file.flush()
        Path(file.name).chmod(0o644)
        rules = [file.name] if command == "load" else []
        done = run(sys.executable, "-c", AS_NOBODY, site.end.name, command, "-i", site.end.dev, *rules)
    assert "root" in done.refusal(3)
    assert state(site.end) == before


STEPS: dict[str, tuple[object, str]] = {
    "before the maps": (maps, "create"),
    "before the preflight": (preflight, "run"),
    "before the pins": (pins, "pin"),
    "before the programs": (attach, "put"),
    "before clsact": (tc, "add_clsact"),
    "before the filter": (tc, "add"),
    "after the programs": (targets, "prepare"),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_interface_that_vanishes_during_a_load_is_told_and_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    owner, name = STEPS[step]
    original = getattr(owner, name)

    def vanish(*arguments: object, **options: object) -> object:
        network.run(site.end.name, "ip", "link", "del", site.end.dev)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, vanish)
    assert main.main(site.words("load", site.write(dropping(A)))) == 4
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert "vanished" in lines[0]
    await_state(site.end, lambda found: found == CLEAN)


def test_a_device_that_refuses_native_mode_is_named(site: Site) -> None:
    network.run(site.end.name, *f"ip link add link {site.end.dev} name m0 type macvlan".split())
    command = [CONSOLE, "load", "-i", "m0", "--netns", site.end.name, "--mode", "native"]
    line = run(*command, site.write(dropping(A))).refusal(7)
    assert "cannot attach a native XDP program to m0" in line
    assert line.endswith("nothing changed")
    assert inside(site.end.name, link.find, "m0").xdp == ()


SINGLE_BUFFER = """
from xdpguard.guard import programs
from xdpguard.kernel import bpf, compile, objects, program
def load(bound, numbers, statistics, accounts):
    return program.load(compile.INGRESS, bpf.PROG_XDP, bound, numbers, statistics=statistics), False
programs._load_ingress = load
"""
"""As on a kernel before 5.18. With multi-buffer programs a veth takes every MTU that it can have."""


def test_an_mtu_beyond_the_drivers_limit_is_named(lab: Lab, tmp_path: Path) -> None:
    site = Site.of(lab.veth(ipv6=False, mtu=9000), tmp_path)
    rules = site.write(dropping(A))
    line = patched(SINGLE_BUFFER, site.words("load", rules, "--mode", "native")).refusal(7)
    assert f"cannot attach a native XDP program to {site.end.dev} (MTU 9000)" in line
    assert line.endswith("nothing changed")
    await_state(site.end, lambda found: found == CLEAN)
    done = patched(SINGLE_BUFFER, site.words("load", rules))
    assert (done.code, "trying generic" in done.err) == (0, True), done.err
    site.unload()


# --- foreign programs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_another_xdp_program_is_named_and_left_alone(site: Site, program: Program, mode: str) -> None:
    fd = program(bpf.PROG_XDP)
    inside(site.end.name, xdp.attach, site.end.ifindex, fd, mode)
    before = state(site.end)
    for arguments in ((), ("--force",), ("--mode", "generic"), ("--mode", "native")):
        line = site.console("load", site.write(dropping(A)), *arguments).refusal(5)
        assert f"another XDP program (id {objects.prog_info(fd).id}, {mode})" in line
        assert line.endswith("nothing changed")
        assert state(site.end) == before
    assert "is not loaded there" in site.console("unload").refusal(4)
    assert state(site.end) == before


@pytest.mark.parametrize(("priority", "handle"), [(16, "0x1"), (16, "0x2"), (3, "0x1")])
def test_another_tc_filter_in_our_place_or_before_ours_is_named_and_left_alone(
    site: Site, program: Program, priority: int, handle: str
) -> None:
    fd = program(bpf.PROG_SCHED_CLS)
    number = objects.prog_info(fd).id
    with network.inside(site.end.name, pinned, fd) as path:
        network.run(site.end.name, *f"tc qdisc add dev {site.end.dev} clsact".split())
        where = f"dev {site.end.dev} egress prio {priority} handle {handle}"
        network.run(site.end.name, *f"tc filter add {where} bpf da object-pinned {path}".split())
    before = state(site.end)
    line = site.console("load", site.write(dropping(A)), "--force").refusal(5)
    assert f"program id {number}, priority {priority}" in line
    assert line.endswith("nothing changed")
    await_state(site.end, lambda found: found == before)


class pinned:
    """A program's pin for ``tc``, gone at the end."""

    def __init__(self, fd: int) -> None:
        self._fd, self._path = fd, pins.BPFFS / f"{network.RUN}filter"

    def __enter__(self) -> Path:
        objects.obj_pin(self._fd, self._path)
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


def test_an_ingress_qdisc_in_the_place_of_clsact_is_named(site: Site) -> None:
    network.run(site.end.name, *f"tc qdisc add dev {site.end.dev} ingress".split())
    line = site.console("load", site.write(dropping(A))).refusal(5)
    assert "a qdisc of kind ingress is in its place; nothing changed" in line
    await_state(site.end, lambda found: found == CLEAN)


# --- redirect targets ---------------------------------------------------------------------------------------


def test_a_redirect_target_that_is_missing_or_unable_is_named_with_its_rule(site: Site, lab: Lab) -> None:
    lab.veth(client=site.end.name, ipv6=False)  # c1, whose peer takes no frames from XDP
    for target, code in (("nosuch", 4), ("c1", 6)):
        text = dropping(A, more=f"{{name: away, action: {{redirect: {{interface: {target}}}}}}}")
        line = site.console("load", site.write(text)).refusal(code)
        assert "rules.yaml:6:" in line
        assert "away" in line
        assert target in line
        assert line.endswith("nothing changed")
        await_state(site.end, lambda found: found == CLEAN)
