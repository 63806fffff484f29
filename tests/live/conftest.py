"""Fixtures of the live tests, which need root: a lab of namespaces that always gets removed.

Owns the skip without root and the clean-up before and after a run. Nothing here attaches anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import lab as network
import pytest
from lab import Lab, Veth
from open_sockets import keep
from test_lifecycle_support import Site, made
from test_owners_support import Book, accounted

from xdpguard.guard import records
from xdpguard.kernel import bpf, lock, owners

__all__ = ["keep"]


@pytest.fixture(scope="session", autouse=True)
def clean_host() -> Iterator[None]:
    """Without root skip; else remove what crashed runs have left, before and after."""
    if os.geteuid() != 0:
        pytest.skip("needs root")
    network.remove_left_over()
    yield
    network.remove_left_over()


@pytest.fixture(scope="session", autouse=True)
def own_records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What comes back after a reboot is kept in a folder of this run, also by commands in other processes."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("records")
        patch.setattr(records, "FOLDER", folder)
        patch.setenv("XDPGUARD_STATE", str(folder))
        yield


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Makes namespaces and veth pairs; all are gone after the test."""
    made = Lab(request.node.nodeid)
    yield made
    made.close()


@pytest.fixture
def veth(lab: Lab, request: pytest.FixtureRequest) -> Veth:
    """Two namespaces joined by a veth pair. A parameter holds keywords of Lab.veth, like {"ipv6": False}."""
    return lab.veth(**getattr(request, "param", {}))


@pytest.fixture
def site(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """One interface to load rules on, its peer, and a folder for rule files."""
    yield from made(lab, tmp_path, monkeypatch)


@pytest.fixture
def no_leaks(lab: Lab) -> Iterator[None]:
    """For ``usefixtures``: fails when the test leaves a namespace of this run or a pin behind."""
    yield
    assert lab.leaks() == set()


@pytest.fixture
def own_owners(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A map of socket owners of this run's own, so that a trace elsewhere on the host forgets nobody in it.

    A command in a process of its own has the host's. bpffs allows no dot in a name.
    """
    names = {part: f"{owners.NAME}-{os.getpid()}-{part}" for part in ("map", "kept", "used")}
    for attribute, part in (("NAME", "map"), ("_KEPT", "kept"), ("_USED", "used")):
        monkeypatch.setattr(owners, attribute, names[part])
    yield
    owners.release()
    for part in ("kept", "used"):
        (lock.FOLDER / f"{names[part]}.lock").unlink(missing_ok=True)


@pytest.fixture
def book(site: Site) -> Iterator[Book]:
    """The rules drop UDP port 9; the interface is accounted. For tests with ``own_owners``."""
    yield from accounted(site)


@pytest.fixture
def program() -> Iterator[Callable[..., int]]:
    """``program(kind, verdict)`` loads "return verdict" and gives its fd, which is closed after the test."""
    opened: list[int] = []

    def load(kind: int, verdict: int = 2, *, name: str = "test", flags: int = 0) -> int:
        # r0 = verdict; exit
        code = bytes((0xB7, 0, 0, 0)) + verdict.to_bytes(4, "little", signed=True) + bytes((0x95, *[0] * 7))
        opened.append(bpf.prog_load(kind, code, name, flags=flags).fd)
        return opened[-1]

    yield load
    for fd in opened:
        os.close(fd)
