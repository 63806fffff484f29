"""One lock per interface: who holds it, who waits, who is refused."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import lab as network
import pytest
from lab import Veth, inside

from xdpguard.errors import KernelError, PrivilegeError
from xdpguard.kernel import link, lock, netns

pytestmark = pytest.mark.usefixtures("no_leaks")


HOLDER = """
import sys
from pathlib import Path
from xdpguard.kernel import link, lock
with lock.held([link.find(sys.argv[2])], "xdpguard load", folder=Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_holder_is_refused_with_the_name_of_the_first(veth: Veth, tmp_path: Path) -> None:
    end = veth.server
    command = ["nsenter", f"--net={netns.FOLDER / end.name}", sys.executable, "-c", HOLDER]
    with subprocess.Popen(
        [*command, str(tmp_path / "locks"), end.dev], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        expected = f"xdpguard load .pid {first.pid}. holds the lock of {end.dev}; waited 0 s; nothing changed"
        with pytest.raises(KernelError, match=expected):
            inside(end.name, take, [end.dev], tmp_path / "locks")
        first.kill()  # the kernel unlocks what a dead process held
        first.wait()
        inside(end.name, take, [end.dev], tmp_path / "locks")


def take(devices: list[str], folder: Path) -> None:
    with lock.held([link.find(dev) for dev in devices], "xdpguard unload", wait=0, folder=folder):
        pass


def test_a_waiting_holder_goes_on_when_the_first_lets_go(
    veth: Veth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    end = veth.server
    waiting, order, pause = threading.Event(), [], time.sleep

    def sleep(seconds: float) -> None:
        waiting.set()
        pause(seconds)

    monkeypatch.setattr(time, "sleep", sleep)

    def second() -> None:
        with lock.held([link.find(end.dev)], "second", wait=network.PATIENCE, folder=tmp_path / "locks"):
            order.append("second")

    def first() -> None:
        with lock.held([link.find(end.dev)], "first", folder=tmp_path / "locks"):
            thread.start()
            assert waiting.wait(network.PATIENCE)
            order.append("first")

    thread = threading.Thread(target=inside, args=(end.name, second))
    inside(end.name, first)
    thread.join()
    assert order == ["first", "second"]


def test_who_waits_for_a_file_that_was_removed_meanwhile_waits_for_the_one_of_that_name(
    veth: Veth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two commands with two files of one name would both be at work."""
    end, folder = veth.server, tmp_path / "locks"
    acquire, seen = lock._acquire, []

    def removed(file: int, *rest: object) -> None:
        acquire(file, *rest)  # type: ignore[arg-type]
        seen.append(os.fstat(file).st_ino)
        if len(seen) == 1:
            next(folder.iterdir()).unlink()

    def first() -> None:
        with lock.held([link.find(end.dev)], "first", folder=folder):
            assert next(folder.iterdir()).stat().st_ino == seen[-1]
            monkeypatch.undo()
            with pytest.raises(KernelError, match="holds the lock"):
                take([end.dev], folder)

    monkeypatch.setattr(lock, "_acquire", removed)
    inside(end.name, first)
    assert len(seen) == 2


def test_where_nothing_can_be_written_the_lock_is_held_all_the_same(
    veth: Veth, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full /run must not keep anybody from a confirmation."""

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    def first() -> None:
        one, folder = link.find(veth.server.dev), tmp_path / "locks"
        refused = pytest.raises(KernelError, match="another xdpguard command holds the lock")
        with lock.held([one], "first", folder=folder), refused:
            take([one.name], folder)

    monkeypatch.setattr(os, "pwrite", full)
    inside(veth.server.name, first)


def test_interfaces_of_two_namespaces_have_locks_of_their_own(veth: Veth, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "locks"  # not even its parent exists
    client, server = veth.client, veth.server

    def first() -> None:
        with lock.held([link.find("lo"), link.find(client.dev)], "first", folder=folder):
            inside(server.name, take, ["lo", server.dev], folder)
            with pytest.raises(KernelError, match="holds the lock of lo"):
                take([client.dev, "lo"], folder)

    inside(client.name, first)
    inside(client.name, take, ["lo", client.dev], folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {file.stat().st_mode & 0o777 for file in folder.iterdir()} == {0o600}
    assert {file.read_text() for file in folder.iterdir()} == {""}


def test_a_lock_folder_that_others_can_write_is_refused(veth: Veth, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    with pytest.raises(PrivilegeError, match="mode 0700"):
        inside(veth.server.name, take, [veth.server.dev], tmp_path)


def test_a_planted_link_in_the_place_of_a_lock_is_not_followed(veth: Veth, tmp_path: Path) -> None:
    end, target = veth.server, tmp_path / "target"
    inode = inside(end.name, netns.identity).inode
    folder = tmp_path / "locks"
    folder.mkdir(mode=0o700)
    (folder / f"{inode}-{end.ifindex}.lock").symlink_to(target)
    with pytest.raises(KernelError, match="cannot open the lock file"):
        inside(end.name, take, [end.dev], folder)
    assert not target.exists()
