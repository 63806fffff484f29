"""Entries of the map of socket owners as bytes, and the locks that say who needs it. No kernel map here."""

from __future__ import annotations

import errno
import os
from ipaddress import ip_address
from pathlib import Path
from types import SimpleNamespace

import pytest

from xdpguard.abi import abi
from xdpguard.errors import PrivilegeError
from xdpguard.kernel import bpf, lock, objects, owners, pins

ABI = abi()
NETNS = 1 << 40 | 7  # a cookie has 64 bits


def field(data: bytes, path: str) -> int:
    return ABI.get(data, path)


def address(data: bytes, name: str) -> bytes:
    start = ABI.offset(f"xg_owner_key.{name}")
    return data[start : start + 16]


def test_a_connection_is_found_by_all_of_its_ends() -> None:
    key = owners.key(NETNS, 6, ip_address("192.0.2.1"), 80, ip_address("198.51.100.7"), 50000)
    assert len(key) == ABI.structs["xg_owner_key"].size
    assert address(key, "local") == bytes([192, 0, 2, 1]).ljust(16, b"\0")
    assert address(key, "remote") == bytes([198, 51, 100, 7]).ljust(16, b"\0")
    names = ("netns", "local_port", "remote_port", "family", "protocol")
    assert [field(key, f"xg_owner_key.{name}") for name in names] == [NETNS, 80, 50000, 2, 6]


def test_a_listener_of_every_address_is_found_by_its_port() -> None:
    for text, family in (("0.0.0.0", 2), ("::", 10)):
        key = owners.key(NETNS, 17, ip_address(text), 53, None, None)
        assert address(key, "local") == address(key, "remote") == bytes(16)
        assert field(key, "xg_owner_key.family") == family
        assert field(key, "xg_owner_key.remote_port") == 0


def test_an_ipv6_address_fills_its_field() -> None:
    key = owners.key(NETNS, 6, ip_address("2001:db8::1"), 1, ip_address("2001:db8::2"), 2)
    assert address(key, "local") == ip_address("2001:db8::1").packed
    assert address(key, "remote") == ip_address("2001:db8::2").packed


def test_an_owner_found_in_proc_says_so() -> None:
    data = owners.value(start_time=7 << 33, cgroup=None, pid=11, uid=12, gid=13, comm="a" * 20)
    assert len(data) == ABI.structs["xg_owner"].size
    names = ("start_time", "cgroup", "pid", "tid", "uid", "gid", "attribution")
    wanted = [7 << 33, 0, 11, 11, 12, 13, ABI.numbers["XG_BY_PROCFS"]]
    assert [field(data, f"xg_owner.{name}") for name in names] == wanted
    assert data[ABI.offset("xg_owner.comm") :] == b"a" * 15 + b"\0"


# ---- who needs it -----------------------------------------------------------------------------------------
@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host whose map is a file."""
    monkeypatch.setattr(pins, "FOLDER", tmp_path / "pins")
    alone, shared = lock.alone, lock.shared
    monkeypatch.setattr(lock, "alone", lambda name: alone(name, tmp_path / "locks"))
    monkeypatch.setattr(lock, "shared", lambda name: shared(name, tmp_path / "locks"))
    owners.path().parent.mkdir()
    owners.path().touch()
    return tmp_path


def test_a_map_that_nobody_needs_is_unpinned(host: Path) -> None:
    owners.release()
    assert not owners.exists()
    owners.release()


def test_a_map_stays_while_somebody_has_it_open(host: Path) -> None:
    with owners.in_use(), owners.in_use():
        owners.release()
        assert owners.exists()
        assert not owners.kept()
    owners.release()
    assert not owners.exists()


def test_a_map_stays_while_a_tracer_keeps_it(host: Path) -> None:
    assert not owners.kept()
    with owners.keeping():
        assert owners.kept()
        owners.release()
    assert owners.exists()
    assert not owners.kept()


def test_a_map_stays_while_an_interface_has_accounts(host: Path) -> None:
    folder = pins.Place(4026532000, 2, 1).folder
    folder.mkdir(parents=True)
    (folder / "accounts").touch()
    assert owners.needed()
    owners.release()
    assert owners.exists()
    (folder / "accounts").unlink()
    owners.release()
    assert not owners.exists()


def test_locks_in_a_folder_that_others_may_write_are_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PrivilegeError, match="writable by nobody else"), lock.shared("x", tmp_path):
        pass


# ---- changes ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize("change", ["add", "remove"])
def test_no_entry_changes_where_the_change_could_not_be_counted(
    change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a program would go on believing the owner that it remembers."""
    made: list[str] = []
    monkeypatch.setattr(bpf, "map_update", lambda *_, **__: made.append("update"))
    monkeypatch.setattr(bpf, "map_delete", lambda *_: made.append("delete"))

    def refuse(*_: object) -> None:
        raise OSError(errno.EBUSY, "Device or resource busy")

    monkeypatch.setattr(bpf, "map_memory", refuse)
    host = owners.Owners(-1, -1)
    with pytest.raises(OSError, match="busy"):
        host.add(b"key", b"owner") if change == "add" else host.remove(b"key")
    assert made == []


@pytest.mark.parametrize("refused", ["pin 1", "chmod 1", "pin 2", "chmod 2"])
def test_maps_that_cannot_all_be_pinned_are_not_pinned_at_all(
    refused: str, host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []
    owners.path().unlink()
    real = Path.chmod

    def step(name: str) -> None:
        made.append(name)
        if f"{name} {made.count(name)}" == refused:
            raise OSError(errno.EBUSY, "Device or resource busy")

    def pin(_: int, where: Path) -> None:
        step("pin")
        where.touch()

    def chmod(where: Path, mode: int) -> None:
        step("chmod")
        real(where, mode)

    def missing(_: object) -> int:
        raise FileNotFoundError

    fds = os.open("/dev/null", os.O_RDONLY), os.open("/dev/null", os.O_RDONLY)
    monkeypatch.setattr(owners, "create", lambda: owners.Owners(*fds))
    monkeypatch.setattr(objects, "obj_get", missing)
    monkeypatch.setattr(objects, "obj_pin", pin)
    monkeypatch.setattr(objects, "map_info", lambda _: SimpleNamespace(id=7))
    monkeypatch.setattr(Path, "chmod", chmod)
    with pytest.raises(OSError, match="busy"):
        owners.shared()
    assert list(pins.FOLDER.iterdir()) == []
    for fd in fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
