"""The front of the room on a fake host, cgroup ids, and what an earlier tool of this kind got wrong."""

from __future__ import annotations

from pathlib import Path

import pytest
from identity_support import KUBE, POD, A, Clock, docker_config, put, put_process

from xdpguard.identity.cgroupfs import CgroupPaths
from xdpguard.identity.files import Notes
from xdpguard.identity.resolver import Resolver


@pytest.fixture
def host(tmp_path: Path) -> Path:
    put(tmp_path, "etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\n")
    put(tmp_path, "etc/group", "root:x:0:\nwww:x:33:\n")
    put(tmp_path, f"var/lib/docker/containers/{A}/config.v2.json", docker_config(A, "web", "nginx:1"))
    put_process(
        tmp_path / "proc", 42, comm="nginx", uid=33, gid=33, cgroup=f"0::/system.slice/docker-{A}.scope\n"
    )
    return tmp_path


def test_a_pid_leads_to_user_group_and_container(host: Path) -> None:
    resolver = Resolver(host)
    found = resolver.process(42)
    assert found is not None
    assert found.cgroup is not None
    container = resolver.container(found.cgroup)
    assert container is not None
    assert (found.comm, resolver.user(found.uid), resolver.group(found.gid)) == ("nginx", "web", "www")
    assert (container.name, container.image, container.runtime) == ("web", "nginx:1", "docker")
    assert resolver.notes == ()


def test_a_path_without_a_container_is_none(host: Path) -> None:
    assert Resolver(host).container("/system.slice/sshd.service") is None


def test_a_container_s_own_passwd_does_not_name_a_user(host: Path) -> None:
    root = host / "proc/42/root"
    put(root, "etc/passwd", "mallory:x:33:33::/:/bin/sh\n")
    assert Resolver(host).user(33) == "web"


def test_what_cannot_be_asked_is_told_once(host: Path) -> None:
    sock = put(host, "s", "not a socket")
    resolver = Resolver(host, docker_socket=sock)
    for number in range(3):
        resolver.container(f"/docker/{number:064x}")
    assert len(resolver.notes) == 1


def test_two_resolvers_share_no_names(host: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    other = tmp_path_factory.mktemp("other")
    assert Resolver(host).user(33) == "web"
    assert Resolver(other).user(33) is None


# ---- libebpfflow's defects that concern naming (its numbers) --------------------------------------------
def test_1_pid_and_tid_are_not_swapped(host: Path) -> None:
    put_process(host / "proc", 43, tgid=42, comm="worker")
    put(host, "proc/42/task/43/comm", "worker\n")
    found = Resolver(host).process(43)
    assert found is not None
    assert (found.pid, found.tgid) == (43, 42)
    assert Resolver(host).thread_name(42, 43) == "worker"


def test_4_a_user_is_looked_up_by_uid(host: Path) -> None:
    put(host, "etc/passwd", "root:x:0:0::/root:/bin/sh\nweb:x:33:33::/srv:/bin/sh\npid:x:42:42::/:/bin/sh\n")
    found = Resolver(host).process(42)
    assert found is not None
    assert Resolver(host).user(found.uid) == "web"


def test_8_a_scope_of_77_characters_is_not_cut(host: Path) -> None:
    path = f"/system.slice/docker-{A}.scope"
    assert len(path.rpartition("/")[2]) == 77
    found = Resolver(host).container(path)
    assert found is not None
    assert found.id == A


@pytest.mark.parametrize("prefix", ["crio", "cri-containerd", "libpod"])
def test_9_other_runtimes_than_docker_are_known(prefix: str, host: Path) -> None:
    found = Resolver(host).container(f"{KUBE}/{prefix}-{A}.scope")
    assert found is not None
    assert (found.id, found.pod_uid) == (A, POD)
    assert found.runtime != "docker"


@pytest.mark.parametrize("text", [f"{A[:-8]}$(reboot", f"{A[:-1]}'", f"{A} ", f"{A}|reboot"])
def test_10_what_is_no_id_is_no_container(text: str, host: Path) -> None:
    found = Resolver(host).container(f"/docker/{text}.scope")
    assert found is None


def test_14_and_16_id_and_runtime_are_at_the_top_of_a_container(host: Path) -> None:
    found = Resolver(host).container(f"/docker/{A}")
    assert found is not None
    assert (found.id, found.runtime) == (A, "docker")


# ---- cgroup ids ---------------------------------------------------------------------------------------
def tree(root: Path, v2: str = "sys/fs/cgroup") -> Path:
    place = root / v2 / f"system.slice/docker-{A}.scope"
    place.mkdir(parents=True)
    return place


def test_a_cgroup_id_leads_to_its_path(tmp_path: Path) -> None:
    place = tree(tmp_path)
    put(tmp_path, "sys/fs/cgroup/cgroup.controllers", "memory")
    resolver = Resolver(tmp_path)
    assert resolver.cgroup_path(place.stat().st_ino) == f"/system.slice/docker-{A}.scope"
    assert resolver.cgroup_path((tmp_path / "sys/fs/cgroup").stat().st_ino) == "/"
    assert resolver.cgroup_path(0) is None


def test_a_hybrid_host_s_v2_hierarchy_is_used(tmp_path: Path) -> None:
    place = tree(tmp_path, "sys/fs/cgroup/unified")
    (tmp_path / "sys/fs/cgroup/memory/x").mkdir(parents=True)
    assert Resolver(tmp_path).cgroup_path(place.stat().st_ino) == f"/system.slice/docker-{A}.scope"
    assert Resolver(tmp_path).cgroup_path((tmp_path / "sys/fs/cgroup/memory/x").stat().st_ino) is None


def test_a_removed_cgroup_s_path_is_kept(tmp_path: Path) -> None:
    clock, place = Clock(), tree(tmp_path, "sys/fs/cgroup/unified")
    paths = CgroupPaths(tmp_path, Notes(), clock)
    identity = place.stat().st_ino
    path = paths.path(identity)
    place.rmdir()
    clock.now += 60
    assert paths.path(0) is None  # walks again
    assert path is not None
    assert paths.path(identity) == path


def test_a_new_cgroup_is_found_by_the_next_walk_and_walks_are_rationed(tmp_path: Path) -> None:
    clock, top = Clock(), tree(tmp_path, "sys/fs/cgroup/unified").parent
    paths = CgroupPaths(tmp_path, Notes(), clock)
    assert paths.path(0) is None
    (top / "late").mkdir()
    identity = (top / "late").stat().st_ino
    assert paths.path(identity) is None
    clock.now += 1
    assert paths.path(identity) == "/system.slice/late"


def test_a_new_cgroup_whose_path_is_told_is_found_without_a_walk(tmp_path: Path) -> None:
    top = tree(tmp_path, "sys/fs/cgroup/unified").parent
    paths = CgroupPaths(tmp_path, Notes(), Clock())
    assert paths.path(0) is None
    (top / "late").mkdir()
    identity = (top / "late").stat().st_ino
    assert not paths.lies_at(identity, f"/system.slice/docker-{A}.scope")
    assert not paths.lies_at(identity, "/system.slice/gone")
    assert paths.path(identity) is None
    assert paths.lies_at(identity, "/system.slice/late")
    assert paths.path(identity) == "/system.slice/late"


def test_more_cgroups_than_are_walked_is_noted(tmp_path: Path) -> None:
    tree(tmp_path, "sys/fs/cgroup/unified")
    notes = Notes()
    paths = CgroupPaths(tmp_path, notes, Clock(), size=2)
    top = (tmp_path / "sys/fs/cgroup/unified").stat().st_ino
    assert paths.path(top) == "/"
    assert "more than 2" in notes.lines()[0]


def test_a_host_without_cgroups_has_no_paths(tmp_path: Path) -> None:
    assert Resolver(tmp_path).cgroup_path(1) is None
