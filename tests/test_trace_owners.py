"""What the map of socket owners is told, and who is forgotten. The map is a dictionary here."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from ipaddress import ip_address

import pytest

from xdpguard.errors import KernelError, PrivilegeError
from xdpguard.kernel import netns, owners, processes
from xdpguard.kernel.netns import Identity
from xdpguard.kernel.owners import Remembered
from xdpguard.trace import owners as seeds
from xdpguard.trace.existing import Existing
from xdpguard.trace.model import Owner, ProcessKey, Tuple
from xdpguard.trace.seeds import SeededSocket

INODE, COOKIE = 4026532000, 77
TICK = 10_000_000  # ns
ALICE, BOB = ProcessKey(10, 5 * TICK), ProcessKey(11, 6 * TICK)
ANY = "0.0.0.0"


class Map(owners.Owners):
    """What ``kernel.owners`` does with the kernel's map; a dictionary here."""

    def __init__(self) -> None:
        super().__init__(-1, -1)
        self.living: list[set[int]] = []
        self.found: dict[bytes, Remembered] = {}

    def entries(self) -> Iterator[tuple[bytes, Remembered]]:
        yield from list(self.found.items())

    def add(self, entry: bytes, owner: bytes) -> bool:
        new = entry not in self.found
        self.found.setdefault(entry, Remembered(int(owner), 0, False, False))
        return new

    def remove(self, entry: bytes) -> bool:
        return self.found.pop(entry, None) is not None

    def clear(self) -> None:
        self.found.clear()

    def forget_namespaces(self, living: Collection[int]) -> None:
        self.living.append(set(living))

    def put(self, local: str, process: ProcessKey, *, netns: int = COOKIE, kernel: bool = False,
            ended: bool = False) -> None:  # fmt: skip
        found = Remembered(process.pid, process.start_time, kernel, ended)
        self.found[owners.key(netns, 17, ip_address(local), 700, None, None)] = found

    def pids(self) -> list[int]:
        return [one.pid for one in self.found.values()]


@pytest.fixture
def book(monkeypatch: pytest.MonkeyPatch) -> Map:
    def value(**known: object) -> bytes:
        return repr(known["pid"]).encode()

    monkeypatch.setattr(owners, "value", value)
    return Map()


def open_socket(local: str = ANY, *holders: ProcessKey, dual: bool = False) -> SeededSocket:
    """UDP port 700; the first holder owns it."""
    version = ip_address(local).version
    ends = Tuple(INODE, version, "udp", ip_address(local), 700, None, None)
    owner = Owner(holders[0], holders[0].pid, 1000, 100, None, "a", "procfs") if holders else None
    return SeededSocket(INODE, 1, "udp", ends, 5, owner, "CLOSE", holders=holders, dual=dual)


def there(*sockets: SeededSocket) -> Existing:
    return Existing(sockets, (), ("a note",), {INODE: COOKIE})


# ---- who is forgotten --------------------------------------------------------------------------------------
def test_who_still_has_the_socket_is_still_its_owner(book: Map) -> None:
    later = ProcessKey(ALICE.pid, ALICE.start_time + TICK // 2)  # /proc tells whole ticks only
    book.put(ANY, later)
    assert seeds.forget(book, there(open_socket(ANY, BOB, ALICE))) == 0
    assert book.pids() == [ALICE.pid]


@pytest.mark.parametrize(
    "who",
    [
        lambda book: book.put(ANY, BOB),
        lambda book: book.put(ANY, ProcessKey(ALICE.pid, ALICE.start_time + TICK)),
        lambda book: book.put("192.0.2.1", ALICE),
        lambda book: book.put(ANY, ALICE, ended=True),
        lambda book: book.put(ANY, ALICE, netns=COOKIE + 1),
        lambda book: book.put(ANY, ALICE, netns=INODE),
        lambda book: book.put(ANY, ALICE, kernel=True),
    ],
    ids=["another process", "another with its number", "no such socket", "ended", "another namespace",
         "the inode of the namespace", "not the kernel's"],
)  # fmt: skip
def test_who_has_no_such_socket_is_forgotten(book: Map, who: Callable[[Map], None]) -> None:
    who(book)
    assert seeds.forget(book, there(open_socket(ANY, ALICE))) == 1
    assert book.found == {}


def test_a_socket_that_no_process_has_stays_the_kernels_and_nobody_elses(book: Map) -> None:
    book.put(ANY, ProcessKey(0, 0), kernel=True)
    book.put("::", ALICE)
    assert seeds.forget(book, there(open_socket(ANY), open_socket("::"))) == 1
    assert [one.kernel for one in book.found.values()] == [True]


# ---- who is written ----------------------------------------------------------------------------------------
def test_a_socket_is_written_under_the_cookie_of_its_namespace(book: Map) -> None:
    assert seeds.write(book, there(open_socket(ANY, ALICE))) == 1
    assert list(book.found) == [owners.key(COOKIE, 17, ip_address(ANY), 700, None, None)]


def test_a_socket_of_both_families_is_written_for_both(book: Map) -> None:
    assert seeds.write(book, there(open_socket("::", ALICE, dual=True))) == 2
    assert set(book.found) == {
        owners.key(COOKIE, 17, ip_address(one), 700, None, None) for one in (ANY, "::")
    }


def test_a_namespace_that_is_not_known_any_more_has_no_entries(book: Map) -> None:
    assert seeds.write(book, Existing((open_socket(ANY, ALICE),), (), ())) == 0


def test_who_was_captured_in_the_act_is_not_overwritten(book: Map) -> None:
    book.put(ANY, BOB)
    assert seeds.write(book, there(open_socket(ANY, ALICE))) == 0
    assert book.pids() == [BOB.pid]


# ---- a new beginning ---------------------------------------------------------------------------------------
@pytest.fixture
def hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seeds, "look", lambda: there(open_socket(ANY, ALICE)))
    monkeypatch.setattr(processes, "require_hosts", lambda: None)


def test_without_a_tracer_only_what_is_true_now_stays(book: Map, hosts: None) -> None:
    book.put(ANY, BOB)
    assert seeds.renewed(book, alone=True) == ("a note",)
    assert book.pids() == [ALICE.pid]


def test_what_a_tracer_keeps_is_left_to_it(book: Map, hosts: None) -> None:
    book.put(ANY, BOB)
    seeds.renewed(book, alone=False)
    assert book.pids() == [BOB.pid]


def test_without_cookies_the_sockets_of_dead_namespaces_are_forgotten_beside_a_tracer(
    book: Map, hosts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for cookie in (COOKIE, 0):
        monkeypatch.setattr(netns, "identity", lambda cookie=cookie: Identity(1, INODE, cookie))
        seeds.renewed(book, alone=False)
    assert book.living == [{COOKIE}]


@pytest.mark.parametrize("alone", [True, False])
def test_if_it_cannot_be_found_out_nobody_is_known_unless_a_tracer_knows(
    book: Map, hosts: None, monkeypatch: pytest.MonkeyPatch, alone: bool
) -> None:
    def refuse() -> None:
        raise PrivilegeError("/proc is not the host's")

    monkeypatch.setattr(processes, "require_hosts", refuse)
    book.put(ANY, ALICE)
    with pytest.raises(PrivilegeError):
        seeds.renewed(book, alone=alone)
    assert book.pids() == ([] if alone else [ALICE.pid])


def test_a_trace_without_the_hosts_proc_leaves_the_map_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> None:
        raise KernelError("no /proc")

    monkeypatch.setattr(processes, "require_hosts", refuse)
    keeping = seeds.Keeping(whole=True)
    assert (keeping.map, keeping.note) == (None, "the map of socket owners is not kept: no /proc")
    keeping.close()
