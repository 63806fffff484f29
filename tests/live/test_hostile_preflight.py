"""Rules that would cut the caller off: refused with the rule and its line, unless forced."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import Lab
from test_lifecycle_support import CONSOLE, Site, run

from xdpguard.errors import NotLoadedError, PreflightError

pytestmark = pytest.mark.usefixtures("no_leaks")


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    one = Site.of(lab.veth(), tmp_path)
    yield one
    try:
        one.unload()
    except NotLoadedError:
        pass  # the load was refused


def session(site: Site, family: str = "ipv4") -> tuple[str, str]:
    """What sshd would tell of a session from the peer."""
    client, server = (site.peer.ipv4, site.end.ipv4) if family == "ipv4" else (site.peer.ipv6, site.end.ipv6)
    return "SSH_CONNECTION", f"{client} 50022 {server} 22"


def environment(site: Site, family: str = "ipv4") -> dict[str, str]:
    return dict([session(site, family)])


FAMILIES = ("ipv4", "ipv6")
NO_SSH = """ingress:
  - {name: ok, proto: udp, action: pass}
  - {name: no-ssh, proto: tcp, dport: 22, action: drop}"""
CUTTING = {
    "ingress rule": (NO_SSH, "rules.yaml:4:5: rule no-ssh (drop)", "towards this host"),
    "egress rule": (
        "egress:\n  - {name: no-ssh-out, proto: tcp, sport: 22, action: drop}",
        "rules.yaml:3:5: rule no-ssh-out (drop)",
        "from this host",
    ),
    "tx": (
        "ingress:\n  - {name: echo, proto: tcp, action: tx}",
        "rules.yaml:3:5: rule echo (tx)",
        "towards this host",
    ),
    "ingress default": ("default: {ingress: drop}", "the ingress default (drop)", "towards this host"),
    "egress default": ("default: {egress: drop}", "the egress default (drop)", "from this host"),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", CUTTING)
def test_rules_that_cut_the_callers_ssh_connection_are_refused(
    site: Site, monkeypatch: pytest.MonkeyPatch, case: str, family: str
) -> None:
    text, place, direction = CUTTING[case]
    monkeypatch.setenv(*session(site, family))
    with pytest.raises(PreflightError) as caught:
        site.load(f"version: 1\n{text}\n")
    line = str(caught.value)
    assert line.endswith(" (--force loads it all the same); nothing changed")
    assert place in line
    assert direction in line
    assert "your SSH connection from" in line
    await_state(site.end, lambda found: found == CLEAN)


def test_the_command_ends_with_6_and_one_line(site: Site) -> None:
    line = site.console("load", site.write(f"version: 1\n{NO_SSH}\n"), env=environment(site)).refusal(6)
    assert "rules.yaml:4:5: rule no-ssh (drop) would not let your SSH connection from" in line
    await_state(site.end, lambda found: found == CLEAN)


def test_force_loads_what_the_preflight_would_refuse_and_warns(site: Site) -> None:
    done = site.console("load", site.write(f"version: 1\n{NO_SSH}\n"), "--force", env=environment(site))
    assert done.code == 0
    (warning,) = [line for line in done.err.splitlines() if line.startswith("warning: ")]
    assert "rules.yaml:4:5: rule no-ssh (drop)" in warning
    assert site.status().problems == ()


def test_a_session_over_another_interface_is_not_judged(site: Site, lab: Lab) -> None:
    other = Site.of(lab.veth(server=site.end.name), site.folder)
    path = site.write(f"version: 1\n{NO_SSH}\n")
    assert site.console("load", path, env=environment(other)).code == 0
    line = other.console("load", path, env=environment(other)).refusal(6)
    assert "rule no-ssh (drop)" in line


def test_a_session_of_another_namespace_is_not_judged(site: Site, lab: Lab) -> None:
    other = Site.of(lab.veth(), site.folder)  # the same addresses would be ours; these are not
    path = site.write(f"version: 1\n{NO_SSH}\n")
    assert site.console("load", path, env=environment(other)).code == 0


@pytest.mark.parametrize(
    "wrapper", [["env", "-u", "SSH_CONNECTION"], ["sh", "-c", 'env -u SSH_CONNECTION "$@"; exit $?', "sh"]]
)
def test_the_session_is_found_in_an_ancestor_as_behind_sudo(site: Site, wrapper: list[str]) -> None:
    # The outer shell is the ancestor: it has the variable, the command has not.
    script = '"$@"; exit $?'
    words = [*wrapper, CONSOLE, *site.words("load", site.write(f"version: 1\n{NO_SSH}\n"))]
    line = run("sh", "-c", script, "sh", *words, env=environment(site)).refusal(6)
    assert "rule no-ssh (drop)" in line
    assert state(site.end) == CLEAN


def test_rules_that_spare_the_session_are_loaded(site: Site) -> None:
    text = f"""version: 1
default: {{ingress: drop, egress: drop}}
ingress:
  - {{name: me, proto: tcp, src: {site.peer.ipv4}, dport: 22, action: pass}}
egress:
  - {{name: me-out, proto: tcp, dst: {site.peer.ipv4}, sport: 22, action: pass}}
"""
    assert site.console("load", site.write(text), env=environment(site)).code == 0
    line = site.console("load", site.write(text), env=environment(site, "ipv6")).refusal(6)
    assert "the ingress default (drop)" in line


GATEWAY = {
    "ARP": ("192.0.2.1", "ingress:\n  - {name: no-arp, proto: arp, action: drop}", "rule no-arp (drop)"),
    "ARP on the way out": (
        "192.0.2.1",
        "egress:\n  - {name: no-arp, proto: arp, action: drop}",
        "rule no-arp (drop)",
    ),
    "neighbour discovery": (
        "2001:db8::1",
        "ingress:\n  - {name: no-nd, proto: icmpv6, icmp_type: 136, action: drop}",
        "rule no-nd (drop)",
    ),
    "solicitations on the way out": (
        "2001:db8::1",
        "egress:\n  - {name: no-nd, proto: icmpv6, icmp_type: 135, action: drop}",
        "rule no-nd (drop)",
    ),
}


@pytest.mark.parametrize("case", GATEWAY)
def test_rules_that_cut_off_the_gateway_are_refused(site: Site, case: str) -> None:
    gateway, text, rule = GATEWAY[case]
    site.load(f"version: 1\n{text}\n")  # no gateway, nothing to lose
    before = state(site.end)
    network.run(site.end.name, "ip", "route", "add", "default", "via", gateway)
    with pytest.raises(PreflightError, match="nothing changed") as caught:
        site.load(f"version: 1\n{text}\n")
    assert f"rules.yaml:3:5: {rule}" in str(caught.value)
    assert f"the gateway {gateway}" in str(caught.value)
    await_state(site.end, lambda found: found == before)


def test_a_default_of_drop_spares_the_gateway(site: Site) -> None:
    for gateway in ("192.0.2.1", "2001:db8::1"):
        network.run(site.end.name, "ip", "route", "add", "default", "via", gateway)
    site.load("version: 1\ndefault: {ingress: drop, egress: drop}\n")
    assert site.status().problems == ()
