"""The console script as a user runs it: real loads, real traffic, its output and its exit codes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab as network
import pytest
from lab import End, Veth
from packets import eth, ipv4, ipv6, udp
from test_traffic_support import HOOKS, MODES, attach_pass, through

from xdpguard.kernel import bpf

RULES = """version: 1
ingress:
- {name: no-discard, proto: udp, dport: 9, action: drop}
- {name: dns, proto: udp, dport: 53, action: pass}
egress:
- {name: no-discard-out, proto: udp, dport: 9, action: drop}
"""
silent = pytest.mark.parametrize("veth", [{"ipv6": False}], indirect=True, ids=["veth"])


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "xdpguard", *arguments]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return finished(command(*arguments))


def finished(whole: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(whole, check=False, capture_output=True, text=True, timeout=60)


def ok(*arguments: str) -> str:
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def on(end: End) -> tuple[str, ...]:
    return ("-i", end.dev, "--netns", end.name)


@pytest.fixture
def rules(tmp_path: Path) -> str:
    path = tmp_path / "rules.yaml"
    path.write_text(RULES)
    return str(path)


@pytest.fixture
def unloaded(veth: Veth) -> Iterator[None]:
    """Whatever the test has loaded on the server is gone after it."""
    yield
    run("unload", *on(veth.server))


# ---- the main job ---------------------------------------------------------------------------------------
@silent
@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize("mode", MODES)
def test_loading_by_the_console_script_filters_and_counts(veth: Veth, rules: str, mode: str) -> None:
    discard, dns, other = (bytes(eth() / ipv4() / udp(dport=port) / b"by hand") for port in (9, 53, 54))
    ok("load", *on(veth.server), rules, "--mode", mode)
    assert through(veth, "ingress", [discard, dns, other, dns, discard, discard]) == [dns, other, dns]
    assert through(veth, "egress", [discard, dns]) == [dns]
    (one,) = json.loads(ok("stats", *on(veth.server), "--format", "json"))["interfaces"]
    assert (one["interface"], one["netns"], one["mode"]) == (veth.server.dev, veth.server.name, mode)
    size = len(dns)
    found = {
        hook: {rule["name"]: (rule["packets"], rule["bytes"]) for rule in one[hook]["rules"]}
        for hook in HOOKS
    }
    assert found == {
        "ingress": {"no-discard": (3, 3 * len(discard)), "dns": (2, 2 * size)},
        "egress": {"no-discard-out": (1, len(discard))},
    }
    assert one["ingress"]["actions"]["drop"]["packets"] == 3
    assert one["ingress"]["default"] == {"action": "pass", "packets": 1, "bytes": len(other)}


@silent
def test_after_an_unload_every_frame_passes(veth: Veth, rules: str) -> None:
    discard = bytes(eth() / ipv6() / udp(dport=9) / b"by hand")
    ok("load", *on(veth.server), rules)
    assert [through(veth, hook, [discard]) for hook in HOOKS] == [[], []]
    ok("unload", *on(veth.server))
    assert [through(veth, hook, [discard]) for hook in HOOKS] == [[discard], [discard]]
    assert run("stats", *on(veth.server)).returncode == 4


# ---- exit codes -----------------------------------------------------------------------------------------
Load = Callable[..., int]


def refused_rules(veth: Veth, rules: str, load: Load) -> list[str]:
    Path(rules).write_text("version: 1\ningress: [{name: a, dport: 70000, action: drop}]\n")
    return command("load", *on(veth.server), rules)


def world_writable_rules(veth: Veth, rules: str, load: Load) -> list[str]:
    Path(rules).chmod(0o666)
    return command("load", *on(veth.server), rules)


def no_interface_given(veth: Veth, rules: str, load: Load) -> list[str]:
    return command("load", rules)


def no_capability(veth: Veth, rules: str, load: Load) -> list[str]:
    return ["setpriv", "--bounding-set", "-all", *command("load", *on(veth.server), rules)]


def no_such_interface(veth: Veth, rules: str, load: Load) -> list[str]:
    return command("load", "-i", "nosuch", "--netns", veth.server.name, rules)


def foreign_program(veth: Veth, rules: str, load: Load) -> list[str]:
    attach_pass(veth.server, load(bpf.PROG_XDP))
    return command("load", *on(veth.server), rules)


def rule_against_the_gateway(veth: Veth, rules: str, load: Load) -> list[str]:
    network.run(veth.server.name, "ip", "route", "add", "default", "via", veth.client.ipv4)
    Path(rules).write_text("version: 1\ningress: [{name: a, proto: arp, action: drop}]\n")
    return command("load", *on(veth.server), rules)


def no_native_xdp(veth: Veth, rules: str, load: Load) -> list[str]:
    return command("load", "-i", "lo", "--netns", veth.server.name, rules, "--mode", "native")


Prepare = Callable[[Veth, str, Load], list[str]]
EXITS: tuple[tuple[int, Prepare], ...] = (
    (1, refused_rules),
    (1, world_writable_rules),
    (2, no_interface_given),
    (3, no_capability),
    (4, no_such_interface),
    (5, foreign_program),
    (6, rule_against_the_gateway),
    (7, no_native_xdp),
)


@silent
@pytest.mark.usefixtures("unloaded")
@pytest.mark.parametrize(("code", "prepare"), EXITS, ids=[prepare.__name__ for _, prepare in EXITS])
def test_a_refused_load_says_why_in_its_exit_code_and_lets_every_frame_pass(
    veth: Veth, rules: str, program: Callable[..., int], code: int, prepare: Prepare
) -> None:
    done = finished(prepare(veth, rules, program))
    assert (done.returncode, done.stdout) == (code, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.strip()
    discard = bytes(eth() / ipv4() / udp(dport=9) / b"by hand")
    assert [through(veth, hook, [discard]) for hook in HOOKS] == [[discard], [discard]]
    assert run("stats", *on(veth.server)).returncode == 4


@silent
@pytest.mark.usefixtures("unloaded")
def test_ctrl_c_is_the_way_to_end_a_watch(veth: Veth, rules: str) -> None:
    ok("load", *on(veth.server), rules)
    watch = command("stats", *on(veth.server), "--format", "plain", "--watch", "60")
    with subprocess.Popen(watch, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline()
        running.send_signal(signal.SIGINT)
        _, said = running.communicate(timeout=network.PATIENCE)
    assert (running.returncode, said) == (0, "")
