"""Whose packets they were: accounts of real frames and sockets, which always add up to what was seen."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from ipaddress import ip_address

import lab as network
import pytest
from lab import inside
from packets import V4_DST, V4_SRC, V6_DST, V6_SRC, arp, eth, icmp, icmpv6, ipv4, ipv6, nd, tcp, udp
from test_lifecycle_support import LAST, Site, dropping, frame

from xdpguard.abi import abi
from xdpguard.identity.resolver import Resolver
from xdpguard.kernel import accounts, bpf, netns, owners, pins
from xdpguard.stats.model import Count, HookOwners, OwnedCount
from xdpguard.stats.owners import Names
from xdpguard.stats.read import snapshot

pytestmark = pytest.mark.usefixtures("own_owners", "no_leaks")
FIRST, SECOND, THIRD = 4_100_001, 4_100_002, 4_100_003  # more than the kernel gives: no such process
DROPPED = 9  # by dropping()


@dataclass(slots=True)
class Book:
    """The map of owners, in which tests write whom they like."""

    fd: int
    netns: int
    keys: list[bytes] = field(default_factory=list)

    def add(
        self, pid: int, port: int, *, local: str = "0.0.0.0", remote: str | None = None, remote_port: int = 0,
        protocol: int = 17, netns: int | None = None, flags: int = 0, uid: int = 1234,
    ) -> None:  # fmt: skip
        key = owners.key(
            netns or self.netns, protocol, ip_address(local), port,
            None if remote is None else ip_address(remote), remote_port,
        )  # fmt: skip
        known = bytearray(
            owners.value(start_time=pid * 10, cgroup=None, pid=pid, uid=uid, gid=0, comm=f"p{pid}")
        )
        abi().put(known, "xg_owner.attribution", abi().numbers["XG_BY_EXACT"] | flags)
        bpf.map_update(self.fd, key, bytes(known))
        self.keys.append(key)

    def close(self) -> None:
        """The map is the host's."""
        for key in self.keys:
            try:
                bpf.map_delete(self.fd, key)
            except FileNotFoundError:  # least recently used, or the same twice
                pass
        os.close(self.fd)


@pytest.fixture
def book(site: Site) -> Iterator[Book]:
    """The rules drop UDP port 9; the interface is accounted."""
    site.load(dropping(), account_owners=True)
    yield from opened(site)


def opened(site: Site) -> Iterator[Book]:
    fd = owners.shared()
    book = Book(fd, inside(site.end.name, netns.identity).key)
    yield book
    book.close()


def side(site: Site, hook: str = "ingress") -> HookOwners:
    """The accounts of one direction; all views of both add up."""
    [one] = snapshot(site.end.dev, site.end.name, Names(Resolver(), lambda _: None)).interfaces
    assert one.owners is not None
    for counts, owned in ((one.ingress, one.owners.ingress), (one.egress, one.owners.egress)):
        dropped = counts.actions["drop"] + counts.actions["aborted"]
        for view in (owned.processes, owned.users, owned.containers):
            assert sum((row.count for row in view), Count()) == counts.seen()
            assert sum((row.dropped for row in view), Count()) == dropped
    found: HookOwners = getattr(one.owners, hook)
    return found


def by_pid(owned: HookOwners) -> dict[int | str, tuple[int, int, int]]:
    """(packets, bytes, dropped packets) of those that have any; (kernel) and (unknown) by name."""
    return {
        row.pid or row.name: (row.count.packets, row.count.bytes, row.dropped.packets)
        for row in owned.processes
        if row.count.packets
    }


def reasons(owned: HookOwners) -> dict[str, int]:
    return {name: one.count.packets for name, one in owned.reasons.items() if one.count.packets}


def send(site: Site, *frames: bytes, hook: str = "ingress") -> None:
    """All are judged at the end; one more frame, of nobody's, marks it."""
    source, target = (site.peer, site.end) if hook == "ingress" else (site.end, site.peer)
    with network.capture(target.name, target.dev) as seen:
        network.send(source.name, source.dev, [*frames, frame(LAST)])
        seen.until(frame(LAST))


END = len(frame(LAST))


# ---- who is found ------------------------------------------------------------------------------------------
def test_the_connection_comes_before_the_bound_address_and_that_before_the_port(
    site: Site, book: Book
) -> None:
    book.add(FIRST, 700)
    book.add(SECOND, 700, local=V4_DST)
    book.add(THIRD, 700, local=V4_DST, remote=V4_SRC, remote_port=5000)
    one = bytes(eth() / ipv4() / udp(sport=5000, dport=700))
    two = bytes(eth() / ipv4() / udp(sport=5001, dport=700) / b"xx")
    three = bytes(eth() / ipv4(dst="192.0.2.99") / udp(sport=5000, dport=700) / b"yyyy")
    send(site, one, one, two, three)
    assert by_pid(side(site)) == {
        THIRD: (2, 2 * len(one), 0),
        SECOND: (1, len(two), 0),
        FIRST: (1, len(three), 0),
        "(unknown)": (1, END, 0),
    }
    assert reasons(side(site)) == {"no_owner": 1}


def test_on_egress_the_local_end_is_the_source(site: Site, book: Book) -> None:
    book.add(FIRST, 700, local=V4_SRC, remote=V4_DST, remote_port=800)
    book.add(SECOND, 800)
    data = bytes(eth() / ipv4() / udp(sport=700, dport=800))
    send(site, data, hook="egress")
    assert by_pid(side(site, "egress")) == {FIRST: (1, len(data), 0), "(unknown)": (1, END, 0)}
    assert reasons(side(site, "egress")) == {"no_process": 1}  # the socket that sends raw frames has a user


def test_drops_are_the_receivers(site: Site, book: Book) -> None:
    book.add(FIRST, DROPPED)
    book.add(FIRST, 10)
    send(site, frame(DROPPED), frame(DROPPED), frame(10))
    assert by_pid(side(site)) == {FIRST: (3, 3 * END, 2), "(unknown)": (1, END, 0)}


def test_drops_on_egress_are_the_senders(site: Site, book: Book) -> None:
    data = bytes(eth() / ipv4() / udp(sport=700, dport=DROPPED))
    book.add(FIRST, 700)
    send(site, data, hook="egress")
    assert by_pid(side(site, "egress"))[FIRST] == (1, len(data), 1)


def test_ipv6_and_tcp_are_found_too(site: Site, book: Book) -> None:
    book.add(FIRST, 80, local="::", protocol=6)
    book.add(SECOND, 80, local=V6_DST, remote=V6_SRC, remote_port=5000, protocol=6)
    book.add(THIRD, 80, local="::", protocol=17)
    known = bytes(eth() / ipv6() / tcp(sport=5000, dport=80, flags="A"))
    other = bytes(eth() / ipv6() / tcp(sport=5001, dport=80, flags="A"))
    datagram = bytes(eth() / ipv6() / udp(sport=5000, dport=80))
    send(site, known, other, datagram)
    found = by_pid(side(site))
    assert {pid: found[pid][:2] for pid in (FIRST, SECOND, THIRD)} == {
        FIRST: (1, len(other)), SECOND: (1, len(known)), THIRD: (1, len(datagram)),
    }  # fmt: skip


def test_another_namespaces_sockets_are_not_ours(site: Site, book: Book) -> None:
    book.add(FIRST, 700, netns=book.netns + 1)
    send(site, frame(700))
    assert by_pid(side(site)) == {"(unknown)": (2, 2 * END, 0)}


def test_a_connection_that_ended_has_its_last_packets_and_no_new_handshake(site: Site, book: Book) -> None:
    ended = abi().numbers["XG_ENDED"]
    book.add(FIRST, 80, local=V4_DST, remote=V4_SRC, remote_port=5000, protocol=6, flags=ended)
    book.add(SECOND, 80, protocol=6)
    last, again = (bytes(eth() / ipv4() / tcp(sport=5000, dport=80, flags=f)) for f in "AS")
    send(site, last, again)
    found = by_pid(side(site))
    assert (found[FIRST][0], found[SECOND][0]) == (1, 1)


def test_what_the_kernel_itself_asks_for_is_the_kernels(site: Site, book: Book) -> None:
    request = bytes(eth() / arp(1))
    solicit = bytes(eth() / ipv6(hop_limit=255) / nd())
    report = bytes(eth() / ipv6() / icmpv6(143))
    send(site, request, solicit, report)
    assert by_pid(side(site))["(kernel)"] == (3, len(request) + len(solicit) + len(report), 0)


def test_ping_other_protocols_and_later_fragments_have_no_owner_to_look_for(site: Site, book: Book) -> None:
    book.add(FIRST, 700)
    echo = bytes(eth() / ipv4() / icmp(8))
    other = bytes(eth() / ipv4(proto=253) / bytes(20))
    later = bytes(eth() / ipv4(proto=17, offset=100) / bytes(20))
    strange = bytes(eth() / bytes(46))
    send(site, echo, other, later, strange)
    assert reasons(side(site)) == {"no_ports": 4, "no_owner": 1}


# ---- bounds ------------------------------------------------------------------------------------------------
def test_without_room_a_process_is_unknown_and_still_its_users(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(accounts, "entries", lambda: 8 + 3)  # one for the user of all, two for processes
    site.load(dropping(), account_owners=True)
    for book in opened(site):
        for port, pid in enumerate((FIRST, SECOND, THIRD), 700):
            book.add(pid, port, uid=77)
        book.add(THIRD + 1, 703, uid=78)
        send(site, *(frame(port) for port in (700, 701, 702, 703)))
    owned = side(site)
    assert set(by_pid(owned)) == {FIRST, SECOND, "(unknown)"}
    assert reasons(owned) == {"no_room": 2, "no_owner": 1}
    assert {row.uid: row.count.packets for row in owned.users if row.uid is not None} == {77: 3}


# ---- its life ----------------------------------------------------------------------------------------------
def test_packets_from_before_the_accounting_are_unknown(site: Site) -> None:
    site.load(dropping())
    send(site, frame(DROPPED))
    site.load(dropping(), account_owners=True)
    assert reasons(side(site)) == {"not_accounted": 2}
    send(site)
    assert reasons(side(site)) == {"not_accounted": 2, "no_owner": 1}


def test_reloads_keep_the_accounts_also_with_larger_tables(site: Site, book: Book) -> None:
    book.add(FIRST, 700)
    for text in (dropping(1000), dropping(addresses=20000)):
        send(site, frame(700))
        site.load(text)
    send(site, frame(700))
    assert by_pid(side(site)) == {FIRST: (3, 3 * END, 0), "(unknown)": (3, 3 * END, 0)}
    assert site.status().problems == ()


def test_accounting_ends_when_told_so_and_with_unload(site: Site) -> None:
    for end in (partial(site.load, dropping(), account_owners=False), site.unload):
        site.load(dropping(), account_owners=True)
        assert len(accounted(site)) == 1
        end()
        assert accounted(site) == []
    site.load(dropping())
    assert accounted(site) == []
    assert site.counts().owners is None


def accounted(site: Site) -> list[pins.Place]:
    inode = inside(site.end.name, netns.identity).inode
    return [place for place in pins.of(inode, site.end.ifindex) if place.accounted()]


def test_a_load_that_fails_leaves_accounting_as_it_was(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.load(dropping(1000))
    for wanted in (True, False):
        with monkeypatch.context() as patched:
            patched.setattr("xdpguard.guard.observe.start", refuse)
            with pytest.raises(ZeroDivisionError):
                site.load(dropping(1001), account_owners=wanted)
        assert bool(accounted(site)) is (not wanted)
        assert site.verdicts() == {1000}
        site.load(dropping(1000), account_owners=True)
    assert side(site).processes


def refuse(*_: object) -> bool:
    raise ZeroDivisionError


def test_verdicts_are_the_same_with_accounting(site: Site) -> None:
    site.load(dropping(1000, 1001), account_owners=True)
    assert site.verdicts() == {1000, 1001}
    site.rollback()
    assert site.verdicts() == set()


def test_the_preflights_frames_are_in_nobodys_account(site: Site) -> None:
    rules = site.write(dropping())
    client = f"{site.peer.ipv4} 50000 {site.end.ipv4} 22"  # so that there are frames to judge
    done = site.console("load", rules, "--account-owners", env={"SSH_CONNECTION": client})
    assert (done.code, "no SSH session" in done.err) == (0, False)
    assert by_pid(side(site)) == by_pid(side(site, "egress")) == {}


def test_the_map_of_owners_is_there_as_long_as_it_is_needed(site: Site) -> None:
    site.load(dropping(), account_owners=True)
    first = owners.shared()
    owners.path().unlink()
    site.load(dropping())  # the one that the programs read is pinned again
    second = owners.shared()
    assert owners.same(first, second)
    for fd in (first, second):
        os.close(fd)


# ---- real sockets ------------------------------------------------------------------------------------------
@contextmanager
def connected(client: str, server: str, address: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """(the client's end, the server's end), both this process's."""
    with (
        inside(server, socket.socket, socket.AF_INET) as listener,
        inside(client, socket.socket, socket.AF_INET) as near,
    ):
        listener.bind((address, 0))
        listener.listen()
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        with far:
            yield near, far


def mine(owned: HookOwners) -> OwnedCount:
    [row] = [row for row in owned.processes if row.pid == os.getpid()]
    return row


def test_a_servers_packets_are_its_from_the_first_on(site: Site, book: Book) -> None:
    """By its listening socket alone: no tracer runs."""
    from xdpguard.trace.owners import seed

    with inside(site.end.name, socket.socket) as listener, inside(site.peer.name, socket.socket) as near:
        listener.bind((site.end.ipv4, 0))
        listener.listen()
        assert all("not known" not in note for note in seed())
        near.connect(listener.getsockname())
        far, _ = listener.accept()
        with far:
            near.sendall(b"x" * 100)
            assert far.recv(1000)
            far.sendall(b"y" * 100)
            assert near.recv(1000)
    ingress, egress = side(site), side(site, "egress")
    assert reasons(ingress) == reasons(egress) == {}
    assert mine(ingress).count.packets >= 4
    assert mine(egress).count.packets >= 3
    assert mine(egress).uid == os.getuid()
    [row] = [row for row in egress.users if row.uid == os.getuid()]
    assert row.count == mine(egress).count


def test_a_tracer_tells_whose_a_connection_is_from_its_handshake_on(site: Site, book: Book) -> None:
    from xdpguard.trace.live import Live
    from xdpguard.trace.model import Filter

    with Live(Filter(pids=frozenset({1}))):  # whatever the filter wants
        assert owners.kept()
        with connected(site.end.name, site.peer.name, site.peer.ipv4) as (near, far):
            near.sendall(b"x" * 100)
            assert far.recv(1000)
            far.sendall(b"y" * 1000)
            assert near.recv(2000)
    assert not owners.kept()
    ingress, egress = side(site), side(site, "egress")
    assert reasons(ingress) == {"no_owner": 1}  # the SYN-ACK
    assert reasons(egress) == {"no_process": 1}  # the SYN, of which the socket tells the user
    assert mine(ingress).count.bytes > 1000
    assert mine(egress).count.packets >= 2


ACCEPT = """
import socket, sys
far, _ = socket.socket(fileno=int(sys.argv[1])).accept()
far.sendall(far.recv(5000))
far.recv(1)
"""


def test_a_connection_is_whose_who_accepted_it_and_not_the_listeners(site: Site, book: Book) -> None:
    from xdpguard.trace.live import Live
    from xdpguard.trace.model import Filter

    with (
        Live(Filter()),
        inside(site.end.name, socket.socket) as listener,
        inside(site.peer.name, socket.socket) as near,
    ):
        listener.bind((site.end.ipv4, 0))
        listener.listen()
        number = listener.fileno()
        worker = subprocess.Popen([sys.executable, "-c", ACCEPT, str(number)], pass_fds=[number])
        near.connect(listener.getsockname())
        near.sendall(b"x")
        assert near.recv(5000) == b"x"
        near.close()
        assert worker.wait(network.PATIENCE) == 0
    found = by_pid(side(site, "egress"))
    assert worker.pid in found
    assert found[os.getpid()][0] <= 2  # the SYN-ACK, and what was acknowledged before accept()
    assert worker.pid in by_pid(side(site))


def test_a_reset_for_a_port_that_nobody_listens_on_is_nobodys(site: Site, book: Book) -> None:
    with inside(site.peer.name, socket.socket) as near, pytest.raises(ConnectionRefusedError):
        near.connect((site.end.ipv4, 1))
    egress = side(site, "egress")
    assert reasons(egress) == {"no_owner": 1}
    assert [row.name for row in egress.users] == ["(kernel)", "(unknown)"]


def test_a_tracer_tells_whose_datagrams_are_from_the_second_on(site: Site, book: Book) -> None:
    from xdpguard.trace.live import Live
    from xdpguard.trace.model import Filter

    with (
        Live(Filter()),
        inside(site.end.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as near,
        inside(site.peer.name, socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as far,
    ):
        far.bind((site.peer.ipv4, 0))
        for _ in range(3):
            near.sendto(b"ask", far.getsockname())
            far.sendto(b"answer", far.recvfrom(100)[1])
            assert near.recv(100) == b"answer"
    assert mine(side(site)).count.packets == 3
    assert mine(side(site, "egress")).count.packets == 2
    assert reasons(side(site, "egress")) == {"no_process": 1}


def test_without_a_tracer_stats_says_so_in_one_line(site: Site, book: Book) -> None:
    done = site.console("stats", "--by", "process")
    assert done.code == 0
    assert len([line for line in done.out.splitlines() if "xdpguard trace" in line]) == 1
    done = site.console("stats", "--by", "process", "--format", "prometheus")
    assert done.code == 2
    assert "--by user or container" in done.err
