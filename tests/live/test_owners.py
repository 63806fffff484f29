"""Whose packets they were: accounts of real frames and sockets, which always add up to what was seen."""

from __future__ import annotations

from functools import partial

import pytest
from lab import inside
from packets import V4_DST, V4_SRC, V6_DST, V6_SRC, arp, eth, icmp, icmpv6, ipv4, ipv6, nd, tcp, udp
from test_lifecycle_support import LAST, Site, dropping, frame
from test_owners_support import FIRST, SECOND, THIRD, Book, by_pid, opened, reasons, send, side

from xdpguard.abi import abi
from xdpguard.kernel import accounts, netns, owners, pins

pytestmark = pytest.mark.usefixtures("own_owners", "no_leaks")
DROPPED = 9  # by dropping()
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
    monkeypatch.setattr(accounts, "entries", lambda: 4)  # one for the user of all, three for processes
    site.load(dropping(), account_owners=True)
    for book in opened(site):
        for port, pid in enumerate((FIRST, SECOND, THIRD, THIRD + 1), 700):
            book.add(pid, port, uid=77)
        book.add(THIRD + 2, 704, uid=78)
        send(site, *(frame(port) for port in (700, 701, 702, 703, 704)))
    owned = side(site)
    assert set(by_pid(owned)) == {FIRST, SECOND, THIRD, "(unknown)"}
    assert reasons(owned) == {"no_room": 2, "no_owner": 1}
    assert {row.uid: row.count.packets for row in owned.users if row.uid is not None} == {77: 4}


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
    assert first.same(second)
    for one in (first, second):
        one.close()
