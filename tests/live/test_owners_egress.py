"""On egress the packet's own socket tells its user and v2 control group, the map of owners its process."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import lab as network
import pytest
from lab import PATIENCE, capture, inside
from packets import eth, icmp, ipv4, tcp
from test_lifecycle_support import Site, dropping
from test_owners_support import Book, by_pid, reasons, side

from xdpguard.kernel import netns, offsets

pytestmark = pytest.mark.usefixtures("own_owners", "no_leaks")
USER = 4321  # nobody has it
# One datagram for each line of its input.
SEND = """
import socket, sys
one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
print("ready", flush=True)
for line in sys.stdin:
    one.sendto(b"x", (sys.argv[1], 700))
    print("sent", flush=True)
"""


class Sender:
    """A process of user 4321 in the interface's namespace."""

    def __init__(self, site: Site, cgroup: Path | None = None) -> None:
        entered = ["nsenter", f"--net={netns.FOLDER / site.end.name}"]
        user = ["setpriv", f"--reuid={USER}", "--clear-groups", "/usr/bin/python3", "-I", "-S", "-c"]
        join = f"echo $$ > {cgroup}/cgroup.procs; " if cgroup is not None else ""
        argv = ["sh", "-c", f'{join}exec "$@"', "sh", *entered, *user, SEND, site.peer.ipv4]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said("ready")

    def said(self, word: str) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == f"{word}\n"

    def send(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        self.said("sent")

    def close(self) -> None:
        self.process.communicate(timeout=PATIENCE)


def users(site: Site) -> dict[int | str, int]:
    """Packets on egress by uid, or by name."""
    rows = side(site, "egress").users
    return {row.name if row.uid is None else row.uid: row.count.packets for row in rows if row.count.packets}


def test_the_socket_tells_the_user_and_the_map_the_process(site: Site, book: Book) -> None:
    sender = Sender(site)
    sender.send()
    assert reasons(side(site, "egress")) == {"no_process": 1}
    assert users(site) == {USER: 1}
    ends = Path(f"/proc/{sender.process.pid}/net/udp").read_text().splitlines()[1].split()[1]
    book.add(sender.process.pid, int(ends.rpartition(":")[2], 16), uid=USER + 1)  # as of another user
    sender.send()
    sender.close()
    assert by_pid(side(site, "egress"))[sender.process.pid][0] == 1
    assert users(site) == {USER: 2}  # the socket's, which is the packet's own


def test_the_socket_tells_its_control_group_where_that_is_of_v2(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = offsets.cgroup_root("")
    assert top is not None, "no cgroup2 file system"
    monkeypatch.setattr(offsets, "cgroup_controller", lambda: "")
    place = top / f"xgt-{os.getpid()}"
    place.mkdir()
    try:
        site.load(dropping(), account_owners=True)
        sender = Sender(site, place)
        sender.send()
        sender.close()
        [row] = [row for row in side(site, "egress").containers if row.count.packets]
        # The name of the group is asked of its path; the number is all that Names() of these tests knows.
        assert row.name == f"cgroup {place.stat().st_ino}"
    finally:
        place.rmdir()


def answer(site: Site, request: bytes, marker: bytes) -> bytes:
    """What the interface's host sends back."""
    with capture(site.peer.name, site.peer.dev) as seen:
        network.send(site.peer.name, site.peer.dev, [request])
        return seen.wait(marker)[0]


def test_what_the_kernel_answers_to_a_ping_is_no_users(site: Site, book: Book) -> None:
    marker = b"who sends the answer?"
    ends = ipv4(src=site.peer.ipv4, dst=site.end.ipv4)
    answer(site, bytes(eth(src=site.peer.mac, dst=site.end.mac) / ends / icmp(8) / marker), marker)
    assert users(site) == {"(unknown)": 1}
    assert reasons(side(site, "egress")) == {"no_ports": 1}


def test_a_ping_is_its_users(site: Site, book: Book) -> None:
    with inside(site.end.name, socket.socket, socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as raw:
        raw.sendto(b"\x08\x00\xf7\xff" + bytes(4), (site.peer.ipv4, 0))
    assert users(site) == {os.getuid(): 1}


def await_time_wait(site: Site, port: int) -> None:
    """The last acknowledgement is sent a moment before."""
    deadline = time.monotonic() + PATIENCE
    table, state = Path("/proc/thread-self/net/tcp"), "06"
    while not any(
        line.split()[1].endswith(f":{port:04X}") and line.split()[3] == state
        for line in inside(site.end.name, table.read_text).splitlines()
    ):
        assert time.monotonic() < deadline


def test_the_last_acknowledgement_of_a_closed_connection_is_not_the_user_nobodys(
    site: Site, book: Book
) -> None:
    """A socket in TIME_WAIT has no user any more."""
    with inside(site.peer.name, socket.socket) as listener, inside(site.end.name, socket.socket) as near:
        listener.bind((site.peer.ipv4, 0))
        listener.listen()
        near.connect(listener.getsockname())
        local, remote = near.getsockname()[1], listener.getsockname()[1]
        far, _ = listener.accept()
        with capture(site.peer.name, site.peer.dev) as seen:
            near.close()
            assert far.recv(1) == b""
            far.close()
            last = seen.wait(local.to_bytes(2, "big") + remote.to_bytes(2, "big"), 2)[-1]
            await_time_wait(site, local)
            before = users(site)
            number = int.from_bytes(last[14 + 20 + 8 : 14 + 20 + 12], "big")  # what is expected next
            again = tcp(sport=remote, dport=local, flags="FA", seq=number - 1)
            ends = ipv4(src=site.peer.ipv4, dst=site.end.ipv4)
            network.send(site.peer.name, site.peer.dev, [
                bytes(eth(src=site.peer.mac, dst=site.end.mac) / ends / again)
            ])  # fmt: skip
            seen.wait(local.to_bytes(2, "big") + remote.to_bytes(2, "big"), 3)
    after = users(site)
    assert sum(after.values()) == sum(before.values()) + 1
    assert set(after) <= {
        "(unknown)",
        os.getuid(),
    }  # the latter if a trace of somebody's told of the connection
