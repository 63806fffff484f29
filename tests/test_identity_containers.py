"""Who is asked about a container, in which order, how often; and whom a user may not pose as."""

from __future__ import annotations

import errno
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from identity_support import POD, A, B, C, Clock, answer, api, docker_config, put

from xdpguard.identity.cgroup import ContainerRef, of_path
from xdpguard.identity.container import Container
from xdpguard.identity.containers import Containers, Patience
from xdpguard.identity.files import Notes
from xdpguard.identity.users import Accounts

DOCKER = ContainerRef("docker", A)
ALICE = "alice:x:1000:1000::/home/alice:/bin/sh\n"


class Host:
    """A fake host and the containers on it."""

    def __init__(self, root: Path) -> None:
        self.root, self.clock, self.notes = root, Clock(), Notes()
        self.known = Containers(root, Accounts(root, self.notes), self.notes, self.clock)

    def docker(self, identity: str, name: str, folder: str = "var/lib/docker") -> Path:
        return put(self.root, f"{folder}/containers/{identity}/config.v2.json", docker_config(identity, name))

    def name(self, ref: ContainerRef = DOCKER) -> str | None:
        return self.known.of(ref).name


@pytest.fixture
def host() -> Iterator[Host]:
    with tempfile.TemporaryDirectory() as folder:  # short: a socket's path has 107 bytes at most
        yield Host(Path(folder))


def inspected(identity: str, name: str) -> bytes:
    return answer({"Id": identity, "Name": f"/{name}", "Config": {"Image": "busybox:1"}})


def test_files_are_asked_before_the_socket(host: Host) -> None:
    host.docker(A, "from-file")
    with api(host.root / "run/docker.sock", lambda _: inspected(A, "from-api")) as asked:
        assert host.name() == "from-file"
        assert asked == []


def test_the_socket_is_asked_when_no_file_knows(host: Host) -> None:
    with api(host.root / "run/docker.sock", lambda _: inspected(A, "from-api")):
        assert host.known.of(DOCKER) == Container(A, "docker", "from-api", "busybox:1")


def test_podman_s_socket_answers_for_podman_s_containers(host: Host) -> None:
    with (
        api(host.root / "run/docker.sock", lambda _: inspected(A, "docker-s")) as docker,
        api(host.root / "run/podman/podman.sock", lambda _: inspected(A, "podman-s")),
    ):
        found = host.known.of(ContainerRef("podman", A))
        assert (found.name, found.runtime, docker) == ("podman-s", "podman", [])


def test_an_id_whose_path_names_no_runtime_is_asked_of_all(host: Host) -> None:
    host.docker(A, "web")
    found = host.known.of(ContainerRef(None, A, POD))
    assert (found.name, found.runtime, found.pod_uid) == ("web", "docker", POD)


def test_a_runtime_s_path_is_not_answered_by_another_runtime(host: Host) -> None:
    host.docker(A, "web")
    assert host.name(ContainerRef("cri-o", A)) is None


def test_a_container_that_nobody_knows_has_its_id_and_no_name(host: Host) -> None:
    assert host.known.of(DOCKER) == Container(A, "docker")
    assert host.notes.lines() == ()


def test_a_container_of_lxc_or_nspawn_is_named_by_its_path(host: Host) -> None:
    assert host.known.of(ContainerRef("lxc", "web-1")) == Container("web-1", "lxc", "web-1")


def test_a_socket_that_is_denied_is_one_note_for_any_number_of_events(host: Host) -> None:
    put(host.root, "run/docker.sock", "not a socket")
    for number in range(50):
        host.name(ContainerRef("docker", f"{number:064x}"))
    assert len(host.notes.lines()) == 1


def test_files_that_are_denied_are_one_note_for_any_number_of_events(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def denied(path: Path, *_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr("xdpguard.identity.files.os.open", denied)  # root may read every file
    for number in range(50):
        assert host.name(ContainerRef("docker", f"{number:064x}")) is None
    (line,) = host.notes.lines()
    assert line.endswith("Permission denied: not used for names")


# ---- nested ------------------------------------------------------------------------------------------
def test_the_innermost_container_is_the_answer_and_the_outer_one_is_kept(host: Host) -> None:
    host.docker(A, "kind-control-plane")
    ref = of_path(f"/docker/{A}/kubelet/kubepods/pod{POD}/{B}")
    assert ref is not None
    found = host.known.of(ref)
    assert (found.id, found.name, found.pod_uid) == (B, None, POD)
    assert found.outer == Container(A, "docker", "kind-control-plane", "busybox:1")


# ---- rootless ----------------------------------------------------------------------------------------
def test_a_user_s_container_is_looked_up_in_that_user_s_home(host: Host) -> None:
    put(host.root, "etc/passwd", ALICE)
    host.docker(A, "hers", "home/alice/.local/share/docker")
    found = host.known.of(ContainerRef("docker", A, owner=1000))
    assert (found.name, found.owner) == ("hers", 1000)


def test_a_user_cannot_pose_as_a_container_of_the_system(host: Host) -> None:
    # Below user@1000.service that user may create a cgroup of any name, so also one with root's id.
    put(host.root, "etc/passwd", ALICE)
    host.docker(A, "roots")
    with api(host.root / "run/docker.sock", lambda _: inspected(A, "roots")) as asked:
        ref = of_path(f"/user.slice/user-1000.slice/user@1000.service/docker-{A}.scope")
        assert ref is not None
        assert (host.known.of(ref).name, host.known.of(ref).owner, asked) == (None, 1000, [])
    assert host.name() == "roots"


def test_a_user_s_own_socket_is_asked_for_that_user_s_containers(host: Host) -> None:
    put(host.root, "etc/passwd", ALICE)
    with api(host.root / "run/user/1000/docker.sock", lambda _: inspected(A, "hers")):
        assert host.name(ContainerRef("docker", A, owner=1000)) == "hers"


def test_a_user_nobody_knows_has_containers_without_names(host: Host) -> None:
    assert host.name(ContainerRef("podman", A, owner=4242)) is None


# ---- memory -------------------------------------------------------------------------------------------
def test_a_name_outlives_its_container(host: Host) -> None:
    file = host.docker(A, "short-lived")
    assert host.name() == "short-lived"
    file.unlink()
    host.clock.now += 1000
    assert host.name() == "short-lived"


def test_a_renamed_container_has_its_new_name_after_a_while(host: Host) -> None:
    host.docker(A, "old")
    assert host.name() == "old"
    host.docker(A, "new")
    assert host.name() == "old"
    host.clock.now += Patience().named
    assert host.name() == "new"


def test_an_unknown_container_is_asked_for_again_after_a_while_and_not_before(host: Host) -> None:
    assert host.name() is None
    host.docker(A, "late")
    host.clock.now += Patience().unnamed - 0.1
    assert host.name() is None
    host.clock.now += 0.1
    assert host.name() == "late"


def test_what_is_remembered_is_bounded_and_the_oldest_goes_first(tmp_path: Path) -> None:
    host = Host(tmp_path)
    host.known = Containers(
        tmp_path, Accounts(tmp_path, host.notes), host.notes, host.clock, patience=Patience(size=2)
    )
    files = [host.docker(identity, "x") for identity in (A, B)]
    for identity in (A, B, A, C):
        host.name(ContainerRef("docker", identity))
    for file in files:
        file.unlink()
    assert host.name(ContainerRef("docker", A)) == "x"
    assert host.name(ContainerRef("docker", B)) is None


# ---- never a program ----------------------------------------------------------------------------------
def test_no_program_is_run_and_no_path_is_built_of_an_id_that_is_none(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object, **__: object) -> None:
        raise AssertionError("a program was run")

    for place, name in ((os, "system"), (os, "popen"), (os, "posix_spawn"), (subprocess, "Popen")):
        monkeypatch.setattr(place, name, refused)
    for text in (f"$(reboot){A}", f"../../{A}", f"{A};reboot", f"`reboot`{A}", f"{A}\0"):
        assert of_path(f"/docker/{text}") != ContainerRef("docker", text)
    assert host.name() is None
