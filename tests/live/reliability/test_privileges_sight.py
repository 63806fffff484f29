"""What a load may not look into for want of a capability is said and does no harm; pins are root's alone."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import pytest
from interface_state import state
from lab import PATIENCE
from packets import eth, ipv4, udp
from privileges import entered, only, published
from test_hostile_preflight import NO_SSH, environment
from test_lifecycle_support import CONSOLE, TOGGLED, Done, Site, dropping, run
from test_owners_support import by_pid, send, side

from xdpguard.kernel import netns, pins

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, *_ = TOGGLED
PORT = 5555  # of no rule
TABLE = published()
RECEIVER = """
import socket, sys
opened = socket.socket(type=socket.SOCK_DGRAM)
opened.bind(("", int(sys.argv[1])))
print(flush=True)
sys.stdin.readline()
"""


def loaded(site: Site, *options: str, capabilities: Collection[str]) -> Done:
    words = ["load", "-i", site.end.dev, *options, site.write(dropping(B))]
    return run(*entered(site.end.name), *only(*capabilities), CONSOLE, *words)


# The command's parent is another user, who has SSH_CONNECTION, as where sudo has stripped it.
OF_ANOTHER_USER = """
import ctypes, os, sys
read, write = os.pipe()
child = os.fork()
if not child:
    os.read(read, 1)
    del os.environ["SSH_CONNECTION"]
    os.execvp(sys.argv[1], sys.argv[1:])
os.setresuid(1234, 1234, 1234)
ctypes.CDLL(None).prctl(4, 1)  # PR_SET_DUMPABLE, as after an exec
os.write(write, b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.parametrize("name", ["load", "load over rules in force"])
def test_a_load_that_may_not_look_for_the_ssh_session_says_so(site: Site, name: str) -> None:
    if name != "load":
        site.load(dropping(A))
    words = [*site.words("load")[:3], site.write(f"version: 1\n{NO_SSH}\n")]
    user = [*entered(site.end.name), sys.executable, "-c", OF_ANOTHER_USER]

    def load(*capabilities: str) -> Done:
        return run(*user, *only(*capabilities), CONSOLE, *words, env=environment(site))

    row = TABLE[name]
    assert "rule no-ssh (drop)" in load(*row.needs, *row.wants).refusal(6)
    lacking = f"permission denied (lacking {', '.join(row.wants)}): use --confirm"
    told = (
        f"preflight: no SSH session found, but 1 of the processes above this one may not be asked: {lacking}"
    )
    said = load(*row.needs)
    assert (said.code, told in said.err.splitlines()) == (0, True), said.err


@pytest.fixture
def receiver(site: Site) -> Iterator[int]:
    """The pid of another user's process with a UDP socket on PORT."""
    user = ["setpriv", "--reuid=1234", "--clear-groups"]
    argv = [*entered(site.end.name), *user, sys.executable, "-S", "-c", RECEIVER, str(PORT)]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.communicate("\n")


@pytest.mark.parametrize("lacking", ["", *TABLE["load --account-owners"].wants])
def test_the_owner_of_an_open_socket_is_known_to_a_load_that_may_look_and_else_unknown(
    site: Site, receiver: int, lacking: str
) -> None:
    row = TABLE["load --account-owners"]
    said = loaded(site, "--account-owners", capabilities={*row.needs, *row.wants} - {lacking})
    send(site, bytes(eth() / ipv4(dst=site.end.ipv4) / udp(dport=PORT) / b"x"))
    assert by_pid(side(site)).get(receiver) == (None if lacking else (1, 43, 0))
    assert ("lacking" in said.err) == (f"(lacking {lacking})" in said.err) == bool(lacking)


def test_a_load_that_may_not_see_a_namespaces_processes_leaves_its_pins(site: Site) -> None:
    """One without a name: only its processes tell that it is there."""
    with subprocess.Popen(["unshare", "--net", "sleep", "infinity"]) as process:
        try:
            await_namespace(process.pid)
            elsewhere = ["nsenter", f"--net=/proc/{process.pid}/ns/net"]
            run(*elsewhere, "ip", "link", "add", "d0", "type", "veth", "peer", "name", "d1")
            load = ["load", "-i", "d0", str(site.write(dropping(A)))]
            assert run(*elsewhere, CONSOLE, *load).code == 0
            inode = Path(f"/proc/{process.pid}/ns/net").stat().st_ino
            assert loaded(site, capabilities=TABLE["load"].needs).code == 0
            assert [place for place in pins.places() if place.inode == inode]
            assert run(*elsewhere, CONSOLE, "unload", "-i", "d0").code == 0
        finally:
            process.kill()


def await_namespace(pid: int) -> None:
    """Until it is in a network namespace of its own: nothing tells of that."""
    deadline = time.monotonic() + PATIENCE
    while Path(f"/proc/{pid}/ns/net").samefile("/proc/self/ns/net"):
        assert time.monotonic() < deadline


# ---- whose it is -------------------------------------------------------------------------------------------
@pytest.mark.parametrize("command", ["load", "confirm", "rollback", "unload"])
def test_another_user_with_all_of_these_capabilities_changes_nothing(site: Site, command: str) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=600)
    before = state(site.end)
    all_of_them = sorted({name for row in TABLE.values() for name in (*row.needs, *row.wants)})
    names = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in all_of_them)
    user = ["setpriv", "--reuid=1234", "--clear-groups", f"--inh-caps={names}", f"--ambient-caps={names}"]
    rules = [site.write(dropping(A))] if command == "load" else []
    line = run(*entered(site.end.name), *user, CONSOLE, command, "-i", site.end.dev, *rules).refusal(3)
    assert "must belong to the caller" in line
    assert line.endswith(": run as root; nothing changed")
    assert state(site.end) == before


# ---- what is pinned ----------------------------------------------------------------------------------------
def test_folders_of_pins_are_0700_and_pins_0600_whatever_the_umask(site: Site) -> None:
    path = site.write("version: 1\ningress:\n  - {name: t, proto: udp, dport: 7, action: tx}\n")
    before = os.umask(0)
    try:
        assert site.console("load", "--account-owners", path).code == 0
    finally:
        os.umask(before)
    inode = (netns.FOLDER / site.end.name).stat().st_ino
    places = [pins.FOLDER, *pins.FOLDER.glob("owners*"), pins.FOLDER / f"{inode}-{site.end.ifindex}"]
    places += places[-1].glob("**/*")
    names = {place.name for place in places}
    assert {"owners", "control", "accounts", "delivery", "counts"} <= names
    for place in places:
        status = place.lstat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (0, 0o700 if place.is_dir() else 0o600), place
