"""cgroup paths of every runtime, as Linux and the runtimes write them, and of nobody."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from identity_support import BURSTABLE, KUBE, POD, POD_, STATIC, USER, A, B, C

from xdpguard.identity.cgroup import ContainerRef, membership, of_path, unit

Ref = ContainerRef
NESTED = f"/docker/{A}/kubelet/kubepods/besteffort/pod{POD}/{B}"
PATHS = {
    # Docker
    f"/docker/{A}": Ref("docker", A),
    f"/system.slice/docker-{A}.scope": Ref("docker", A),
    f"/system.slice/docker-{A}.scope/init.scope": Ref("docker", A),
    f"/docker/{A}/syscont-cgroup-root/init.scope": Ref("docker", A),  # sysbox
    f"{USER}/user.slice/docker-{A}.scope": Ref("docker", A, owner=1000),
    f"{USER}/app.slice/docker-{A}.scope": Ref("docker", A, owner=1000),
    f"/custom.slice/docker-{A}.scope": Ref("docker", A),  # --cgroup-parent
    f"/actions_job/{A}": Ref(None, A),
    "/system.slice/docker.service": None,
    "/docker/buildkit/k3x0b1h2t9m3w9q4k1r5f7d2e": None,  # a build step, not a container
    # Kubernetes: cgroupfs driver, then systemd
    f"/kubepods/burstable/pod{POD}/{A}": Ref(None, A, POD),
    f"/kubepods/besteffort/pod{POD}/{A}": Ref(None, A, POD),
    f"/kubepods/pod{POD}/{A}": Ref(None, A, POD),
    f"/kubepods/burstable/pod{STATIC}/{A}": Ref(None, A, STATIC),
    f"/kubepods/burstable/pod{POD}/crio-{A}": Ref("cri-o", A, POD),
    f"{KUBE}/docker-{A}.scope": Ref("docker", A, POD),
    f"{KUBE}/cri-containerd-{A}.scope": Ref("containerd", A, POD),
    f"{KUBE}/crio-{A}.scope": Ref("cri-o", A, POD),
    f"{KUBE}/crio-{A}.scope/container": Ref("cri-o", A, POD),
    f"/kubepods.slice/kubepods-pod{POD_}.slice/crio-{A}.scope": Ref("cri-o", A, POD),
    f"{BURSTABLE}{STATIC}.slice/cri-containerd-{A}.scope": Ref("containerd", A, STATIC),
    f"/kubelet.slice/kubelet-kubepods.slice/kubelet-kubepods-pod{POD_}.slice/cri-containerd-{A}.scope": (
        Ref("containerd", A, POD)
    ),
    KUBE: None,
    f"{KUBE}/crio-conmon-{A}.scope": None,
    f"/kubepods/burstable/pod{POD}/crio-conmon-{A}": None,
    # containerd
    f"/k8s.io/{A}": Ref("containerd", A),
    f"/default/{A}": Ref("containerd", A),
    f"/system.slice/cri-containerd-{A}.scope": Ref("containerd", A),
    f"/system.slice/nerdctl-{A}.scope": Ref("containerd", A),
    f"/system.slice/containerd.service/kubepods-burstable-pod{POD_}.slice:cri-containerd:{A}": (
        Ref("containerd", A, POD)
    ),
    f"/system.slice:docker:{A}": Ref("docker", A),
    f"/system.slice:somebody:{A}": Ref(None, A),
    # CRI-O outside of kubelet
    f"/system.slice/crio-{A}.scope": Ref("cri-o", A),
    # podman
    f"/libpod_parent/libpod-{A}": Ref("podman", A),
    f"/libpod_parent/libpod-{A}/ctr": Ref("podman", A),
    f"/libpod_parent/libpod-{A}/supervisor": None,
    "/libpod_parent/conmon": None,
    f"/libpod_parent/{B}/libpod-{A}": Ref("podman", A),  # B is a podman pod
    f"/machine.slice/libpod-{A}.scope": Ref("podman", A),
    f"/machine.slice/libpod-{A}.scope/container": Ref("podman", A),
    f"/machine.slice/machine-libpod_pod_{B}.slice/libpod-{A}.scope/container": Ref("podman", A),
    f"/machine.slice/libpod-conmon-{A}.scope": None,
    f"{USER}/user.slice/libpod-{A}.scope/container": Ref("podman", A, owner=1000),
    f"{USER}/machine.slice/libpod-{A}.scope": Ref("podman", A, owner=1000),
    f"{USER}/user.slice/libpod-conmon-{A}.scope": None,
    f"{USER}/app.slice/web.service/libpod-payload-{A}": Ref("podman", A, owner=1000),
    f"/system.slice/web.service/libpod-payload-{A}": Ref("podman", A),
    "/system.slice/web.service/runtime": None,
    f"/user.slice/user-0.slice/user@0.service/user.slice/libpod-{A}.scope": Ref("podman", A),
    f"{USER}/user.slice/podman-4242.scope": None,
    # LXC, nspawn
    "/lxc/web-1": Ref("lxc", "web-1"),
    "/lxc.payload.web-1": Ref("lxc", "web-1"),
    "/lxc.payload.web-1/system.slice/cron.service": Ref("lxc", "web-1"),
    "/lxc.payload/web-1": Ref("lxc", "web-1"),
    "/lxc.monitor.web-1": None,
    "/lxc.payload.": None,
    "/lxc.payload.a b": None,
    "/machine.slice/machine-debian.scope": Ref("nspawn", "debian"),
    "/machine.slice/machine-my\\x2dbox.scope/payload": Ref("nspawn", "my-box"),
    "/machine.slice/systemd-nspawn@web.service/payload/init.scope": Ref("nspawn", "web"),
    "/machine.slice/systemd-nspawn@web.service/supervisor": None,
    "/machine.slice/machine-qemu\\x2d1\\x2dguest.scope/libvirt/emulator": None,  # a virtual machine
    "/machine.slice/machine-\\x2e\\x2e\\x2fetc.scope": None,
    # nested: the innermost wins, the outer ones stay known
    f"/docker/{A}/docker/{B}": Ref("docker", B, outer=Ref("docker", A)),
    NESTED: Ref(None, B, POD, outer=Ref("docker", A)),
    f"/kubepods/pod{POD}/{A}/docker/{B}": Ref("docker", B, outer=Ref(None, A, POD)),
    f"/system.slice/docker-{A}.scope/system.slice/docker-{B}.scope/machine.slice/libpod-{C}.scope": (
        Ref("podman", C, outer=Ref("docker", B, outer=Ref("docker", A)))
    ),
    f"/docker/{A}/machine.slice/libpod-conmon-{B}.scope": Ref("docker", A),  # conmon runs in the outer one
    "/lxc/outer/lxc/inner": Ref("lxc", "inner", outer=Ref("lxc", "outer")),
    # a number inside a container is not a uid of the host
    f"/system.slice/docker-{A}.scope{USER}/user.slice/libpod-{B}.scope": (
        Ref("podman", B, outer=Ref("docker", A))
    ),
    # cgroup namespaces
    "/": None,
    "/..": None,
    "/../..": None,
    f"/../../docker-{A}.scope": Ref("docker", A),
    f"/../pod{POD}/{A}": Ref(None, A, POD),
    f"/system.slice/docker-{A}.scope (deleted)": Ref("docker", A),
    # nobody's
    "": None,
    "/init.scope": None,
    "/system.slice/sshd.service": None,
    "/user.slice/user-1000.slice/session-3.scope": None,
    "/podruntime/kubelet": None,  # Talos
    f"/docker/{A[:-1]}": None,
    f"/docker/{A}0": None,
    f"/docker/{A.upper()}": None,
    f"/docker/{A[:-1]}g": None,
    f"/system.slice/docker-{A}.scope.d": None,
    f"/system.slice/docker-{A[:12]}.scope": None,
    f"/docker/{A[:-3]};id": None,
    f"/docker/$(reboot){A}": None,
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_names_its_innermost_container_or_none(path: str) -> None:
    assert of_path(path) == PATHS[path]


V1 = "11:pids:{0}\n10:memory:{0}\n3:cpu,cpuacct:{0}\n1:name=systemd:{0}\n"
TEXTS = {
    "v2": (f"0::/system.slice/docker-{A}.scope\n", f"/system.slice/docker-{A}.scope", A),
    "v1": (V1.format(f"/docker/{A}"), f"/docker/{A}", A),
    "hybrid, the v2 line without the container": (
        V1.format(f"/docker/{A}") + "0::/system.slice/containerd.service\n",
        f"/docker/{A}",
        A,
    ),
    "hybrid, the container on the v2 line only": (
        V1.format("/") + f"0::{USER}/user.slice/libpod-{A}.scope\n",
        f"{USER}/user.slice/libpod-{A}.scope",
        A,
    ),
    "v1, some controllers not in the container": (
        f"9:rdma:/\n8:memory:/docker/{A}\n7:cpuset:/\n1:name=systemd:/system.slice/docker.service\n",
        f"/docker/{A}",
        A,
    ),
    "v1, one controller knows the inner container": (
        f"8:memory:/docker/{A}\n1:name=systemd:/docker/{A}/docker/{B}\n",
        f"/docker/{A}/docker/{B}",
        B,
    ),
    "memory before others that say as much": (
        f"5:cpu:/docker/{A}\n4:memory:/docker/{B}\n",
        f"/docker/{B}",
        B,
    ),
    "no container: the path that says most": (
        "8:memory:/system.slice\n1:name=systemd:/system.slice/sshd.service\n0::/\n",
        "/system.slice/sshd.service",
        None,
    ),
    "cgroup namespace": ("0::/\n", "/", None),
    "removed cgroup": (f"0::/docker-{A}.scope (deleted)\n", f"/docker-{A}.scope", A),
    "colons in the path": (f"0::/a.slice:docker:{A}\n", f"/a.slice:docker:{A}", A),
}


@pytest.mark.parametrize("case", TEXTS)
def test_the_line_that_says_most_is_the_process_s_place(case: str) -> None:
    text, path, identity = TEXTS[case]
    found = membership(text)
    assert found is not None
    assert (found.path, found.container and found.container.id) == (path, identity)


@pytest.mark.parametrize("text", ["", "\n", "garbage", "0:/x", "0::", "0::relative\n"])
def test_a_text_without_a_path_is_no_membership(text: str) -> None:
    assert membership(text) is None


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/system.slice/sshd.service", "sshd.service"),
        (f"{USER}/app.slice/web.service", "web.service"),
        ("/user.slice/user-1000.slice/session-3.scope", "session-3.scope"),
        (f"/system.slice/web.service/libpod-payload-{A}", "web.service"),
        (f"/system.slice/docker-{A}.scope/system.slice/cron.service", "cron.service"),
        (f"/system.slice/docker-{A}.scope", None),
        (f"/docker/{A}", None),
        ("/system.slice", None),
        ("/", None),
    ],
)
def test_the_unit_is_the_innermost_one_that_is_no_container(path: str, name: str | None) -> None:
    assert unit(path) == name


# ---- whatever the text -------------------------------------------------------------------------------
VALID = re.compile(r"[0-9a-f]{64}|[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
PIECES = st.sampled_from(
    ["/", ":", "0::", "memory", "docker", "docker-", "crio-", "libpod-", "conmon-", ".scope", "/lxc/", "..",
     "\n", "machine-", "\\x2f", "\\xzz", "lxc.payload.", "user@1.service/", f"pod{POD}", A, A[:63], B.upper()]
)  # fmt: skip


@given(st.one_of(st.text(), st.lists(PIECES, max_size=30).map("".join)))
def test_no_text_raises_and_only_valid_ids_come_out(text: str) -> None:
    found = membership(text)
    refs = [of_path(text), found.container if found else None]
    for ref in refs:
        while ref is not None:
            assert VALID.fullmatch(ref.id)
            assert ref.runtime in ("lxc", "nspawn") or re.fullmatch("[0-9a-f]{64}", ref.id)
            ref = ref.outer


def test_a_path_of_thousands_of_containers_is_read_without_recursion_s_end() -> None:
    found = membership(f"0::{f'/docker/{A}' * 5000}/docker/{B}\n")
    assert found is not None
    assert found.container is not None
    assert found.container.id == B
