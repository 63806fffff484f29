"""Which SSH connection is the caller's, and which frames must then pass. Nothing is loaded here."""

from __future__ import annotations

import os
import subprocess
import sys
from ipaddress import ip_address
from pathlib import Path

import oracle
import pytest
from packets import mac

from xdpguard.guard import probes as asked
from xdpguard.guard.frames import End
from xdpguard.guard.probes import Session, probes, ssh_session
from xdpguard.kernel.link import Link
from xdpguard.kernel.neighbour import Gateway

CLIENT, SERVER = "198.51.100.7", "192.0.2.1"
VARIABLE = f"{CLIENT} 50000 {SERVER} 22"
OWN_MAC, GATEWAY_MAC = mac("00:00:5e:00:53:01"), mac("00:00:5e:00:53:02")


def session(client: str = CLIENT, server: str = SERVER) -> Session:
    return Session(End(b"", ip_address(client), 50000), End(b"", ip_address(server), 22))


def link(arphrd: int = 1) -> Link:
    hardware = OWN_MAC if arphrd == 1 else b""
    return Link(2, "eth9", "", arphrd, hardware, 1500, True, (), None, None)


# ---- the caller's session -----------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (VARIABLE, session()),
        (f"  {VARIABLE}  ", session()),
        ("2001:db8::7 50000 2001:db8::1 22", session("2001:db8::7", "2001:db8::1")),
        ("fe80::7%eth9 50000 fe80::1%eth9 22", session("fe80::7%eth9", "fe80::1%eth9")),
    ],
)
def test_the_session_is_what_sshd_says(text: str, expected: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", text)
    assert ssh_session() == expected


@pytest.mark.parametrize(
    "text",
    [
        "UNKNOWN",
        "UNKNOWN 65535 UNKNOWN 65535",
        f"{CLIENT} 50000 {SERVER}",
        f"{VARIABLE} 1",
        f"{CLIENT} x {SERVER} 22",
    ],
)
def test_what_is_not_four_fields_is_no_session(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", text)
    assert ssh_session() is None


CHILD = "from xdpguard.guard.probes import ssh_session; print(ssh_session())"
STRIPPED = 'env -u SSH_CONNECTION "$0" -c "$1"; exit $?'


def answer(command: list[str], value: str | None) -> str:
    """What a child prints; ``value`` is SSH_CONNECTION of the outermost process started."""
    environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
    if value is not None:
        environment["SSH_CONNECTION"] = value
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_an_ancestor_knows_what_sudo_took_from_the_environment() -> None:
    found = answer(["/bin/sh", "-c", STRIPPED, sys.executable, CHILD], VARIABLE)
    assert found == str(session())


def test_an_ancestor_further_up_knows_it_too() -> None:
    deeper = """env -u SSH_CONNECTION /bin/sh -c '"$0" -c "$1"; exit $?' "$0" "$1"; exit $?"""
    assert answer(["/bin/sh", "-c", deeper, sys.executable, CHILD], VARIABLE) == str(session())


def test_the_nearest_ancestor_decides() -> None:
    nearer = VARIABLE.replace("50000", "50001")
    script = f"""SSH_CONNECTION="{nearer}" /bin/sh -c '{STRIPPED.replace("'", "")}' "$0" "$1"; exit $?"""
    found = answer(["/bin/sh", "-c", script, sys.executable, CHILD], VARIABLE)
    assert found == str(session()).replace("50000", "50001")


PROCESSES: dict[int, tuple[bytes | None, str]] = {
    # pid: (environment, its stat line); a name may hold spaces and brackets
    70: (b"HOME=/\0XSSH_CONNECTION=no\0SSH_CONNECTIONS=no\0", "70 (a (b) 1 2) S 60 70 70 0"),
    60: (b"SSH_CONNECTION=" + VARIABLE.encode() + b"\0", "60 (sshd) S 1 60 60 0"),
    50: (b"", "50 (lost) S 40 50 50 0"),  # its parent is gone
    30: (b"A=B\0", "30 (top) S 1 30 30 0"),
    20: (b"A=B\0", "20 (loop) S 20 20 20 0"),
    90: (None, "90 (denied) S 60 90 90 0"),
}


class Proc:
    """/proc of the processes above."""

    def __init__(self, path: str) -> None:
        self.pid, self.file = int(path.split("/")[2]), path.split("/")[3]

    def _entry(self) -> tuple[bytes | None, str]:
        if self.pid not in PROCESSES:
            raise FileNotFoundError(self.pid)
        return PROCESSES[self.pid]

    def read_bytes(self) -> bytes:
        assert self.file == "environ"
        environment = self._entry()[0]
        if environment is None:
            raise PermissionError(self.pid)
        return environment

    def read_text(self) -> str:
        assert self.file == "stat"
        return self._entry()[1]


@pytest.mark.parametrize(
    ("parent", "expected"), [(70, VARIABLE), (60, VARIABLE), (50, None), (30, None), (20, None), (1, None)]
)
def test_the_search_ends_at_the_first_process(
    parent: int, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asked, "Path", Proc)
    monkeypatch.setattr(os, "getppid", lambda: parent)
    assert asked._of_ancestors([]) == expected


def test_an_ancestor_that_may_not_be_asked_is_told_and_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(asked, "Path", Proc)
    monkeypatch.setattr(os, "getppid", lambda: 90)
    unread: list[int] = []
    assert asked._of_ancestors(unread) == VARIABLE
    assert unread == [90]


@pytest.mark.parametrize("error", [PermissionError, FileNotFoundError])
def test_a_parent_that_is_not_to_be_seen_is_told(
    error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where /proc is mounted with hidepid=1 or 2."""

    class Hidden:
        def __init__(self, path: str) -> None:
            pass

        def read_text(self) -> str:
            raise error

    monkeypatch.setattr(asked, "Path", Hidden)
    monkeypatch.setattr(os, "getppid", lambda: 70)
    unread: list[int] = []
    assert asked._of_ancestors(unread) is None
    assert unread == [70]


# ---- what must pass -----------------------------------------------------------------------------------
def kinds(found: list[asked.Probe], *, ethernet: bool = True) -> list[tuple[int, str]]:
    return [(probe.hook, oracle.read(probe.frame, ethernet=ethernet).protocol) for probe in found]


def test_without_gateway_and_session_nothing_must_pass() -> None:
    assert probes(link(), None, []) == []


def test_address_resolution_with_every_gateway_must_pass_in_both_directions() -> None:
    gateways = [Gateway(ip_address("192.0.2.254"), GATEWAY_MAC), Gateway(ip_address("fe80::254"), None)]
    found = probes(link(), None, gateways)
    assert (
        sorted(kinds(found))
        == [(0, "arp")] * 2 + [(0, "icmpv6")] * 2 + [(1, "arp")] * 2 + [(1, "icmpv6")] * 2
    )
    assert {probe.what for probe in found} == {
        "ARP with the gateway 192.0.2.254",
        "neighbour discovery with the gateway fe80::254",
    }


@pytest.mark.parametrize(("client", "server"), [(CLIENT, SERVER), ("2001:db8::7", "2001:db8::1")])
def test_the_session_must_pass_in_both_directions(client: str, server: str) -> None:
    inward, outward = probes(link(), session(client, server), [])[-2:]
    assert (inward.hook, outward.hook) == (0, 1)
    there, back = oracle.read(inward.frame), oracle.read(outward.frame)
    assert (there.src, there.sport) == (int(ip_address(client)), 50000) == (back.dst, back.dport)
    assert (there.dst, there.dport) == (int(ip_address(server)), 22) == (back.src, back.sport)
    assert (inward.frame[:6], outward.frame[6:12]) == (OWN_MAC, OWN_MAC)
    assert inward.what == f"your SSH connection from {client} port 50000 (towards this host)"


def test_without_a_gateway_the_client_itself_must_be_resolvable() -> None:
    found = probes(link(), session("198.51.100.7", "192.0.2.1"), [])
    assert [probe.what for probe in found[:4]] == ["ARP with your SSH client 198.51.100.7"] * 4


def test_the_session_comes_by_way_of_the_gateway() -> None:
    gateway = Gateway(ip_address("192.0.2.254"), GATEWAY_MAC)
    inward, outward = probes(link(), session(), [gateway])[-2:]
    assert (inward.frame[6:12], outward.frame[:6]) == (GATEWAY_MAC, GATEWAY_MAC)


def test_a_device_without_ethernet_header_has_no_address_resolution() -> None:
    tun = link(arphrd=0xFFFE)
    found = probes(tun, session(), [Gateway(ip_address("192.0.2.254"), None)])
    assert kinds(found, ethernet=False) == [(0, "tcp"), (1, "tcp")]
