"""The files of each runtime -> names, in the forms those runtimes write."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from identity_support import POD, STATIC, A, B, docker_config, put

from xdpguard.identity import containerd, crio, docker, kubelet
from xdpguard.identity.cgroup import ContainerRef
from xdpguard.identity.container import Container, Finder, Place
from xdpguard.identity.files import Notes
from xdpguard.identity.podman import Podman

REF = ContainerRef(None, A)
TASK = "io.containerd.runtime.v2.task"
STORAGE = "var/lib/containers/storage"


@pytest.fixture
def host(tmp_path: Path) -> Place:
    return Place(tmp_path, None, None, Notes())


@pytest.fixture
def alice(tmp_path: Path) -> Place:
    return Place(tmp_path, 1000, tmp_path / "home/alice", Notes())


def cri(**values: str) -> dict[str, object]:
    """An OCI configuration with containerd's annotations; ``_`` stands for ``-`` in a key."""
    return {
        "annotations": {f"io.kubernetes.cri.{key.replace('_', '-')}": value for key, value in values.items()}
    }


# ---- Docker -----------------------------------------------------------------------------------------
def test_docker_s_name_and_image_come_from_its_configuration(host: Place) -> None:
    put(host.root, f"var/lib/docker/containers/{A}/config.v2.json", docker_config(A, "web", "nginx:1.27"))
    assert docker.find(REF, host) == Container(A, "docker", "web", "nginx:1.27")


@pytest.mark.parametrize(
    "folder",
    ["var/lib/docker", "var/lib/docker/100000.100000", "var/snap/docker/common/var-lib-docker", "srv/d"],
)
def test_docker_s_data_root_is_found(folder: str, host: Place) -> None:
    if folder == "srv/d":
        put(host.root, "etc/docker/daemon.json", {"data-root": "/srv/d"})
    put(host.root, f"{folder}/containers/{A}/config.v2.json", docker_config(A, "web"))
    found = docker.find(REF, host)
    assert found is not None
    assert found.name == "web"


def test_docker_s_configuration_of_another_id_is_not_used(host: Place) -> None:
    put(host.root, f"var/lib/docker/containers/{A}/config.v2.json", docker_config(B, "other"))
    assert docker.find(REF, host) is None


def test_cri_dockerd_s_labels_name_the_pod(host: Place) -> None:
    labels = {
        "io.kubernetes.pod.name": "web-7", "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": POD,
        "io.kubernetes.container.name": "nginx", "io.kubernetes.docker.type": "container",
    }  # fmt: skip
    name = "k8s_nginx_web-7_shop_0"
    put(host.root, f"var/lib/docker/containers/{A}/config.v2.json", docker_config(A, name, "nginx", **labels))
    assert docker.find(REF, host) == Container(A, "docker", name, "nginx", "web-7", "shop", "nginx", POD)


def test_a_pause_container_is_marked(host: Place) -> None:
    config = docker_config(A, "k8s_POD", **{"io.kubernetes.docker.type": "podsandbox"})
    put(host.root, f"var/lib/docker/containers/{A}/config.v2.json", config)
    found = docker.find(REF, host)
    assert found is not None
    assert found.sandbox


def test_rootless_docker_keeps_its_containers_in_its_user_s_home(alice: Place) -> None:
    put(alice.root, f"var/lib/docker/containers/{A}/config.v2.json", docker_config(A, "root-s"))
    assert docker.find(REF, alice) is None
    put(
        alice.root,
        f"home/alice/.local/share/docker/containers/{A}/config.v2.json",
        docker_config(A, "alice-s"),
    )
    found = docker.find(REF, alice)
    assert found is not None
    assert found.name == "alice-s"


# ---- containerd -------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "state",
    ["run/containerd", "run/k3s/containerd", "run/k0s/containerd", "var/snap/microk8s/common/run/containerd"],
)
def test_containerd_s_annotations_name_the_pod(state: str, host: Place) -> None:
    config = cri(
        container_name="nginx", container_type="container", image_name="docker.io/nginx:1", sandbox_id=B,
        sandbox_name="web-7", sandbox_namespace="shop", sandbox_uid=POD,
    )  # fmt: skip
    put(host.root, f"{state}/{TASK}/k8s.io/{A}/config.json", config)
    assert containerd.find(REF, host) == Container(
        A, "containerd", "nginx", "docker.io/nginx:1", "web-7", "shop", "nginx", POD
    )


def test_an_old_containerd_s_pod_names_come_from_the_sandbox(host: Place) -> None:
    tasks = f"run/containerd/{TASK}/k8s.io"
    own = cri(container_name="nginx", container_type="container", sandbox_id=B)
    pod = cri(container_type="sandbox", sandbox_name="web-7", sandbox_namespace="shop", sandbox_uid=STATIC)
    put(host.root, f"{tasks}/{A}/config.json", own)
    put(host.root, f"{tasks}/{B}/config.json", pod)
    found = containerd.find(REF, host)
    assert found == Container(A, "containerd", "nginx", None, "web-7", "shop", "nginx", STATIC)
    sandbox = containerd.find(ContainerRef(None, B), host)
    assert sandbox is not None
    assert (sandbox.sandbox, sandbox.pod) == (True, "web-7")


def test_a_sandbox_id_that_is_none_is_not_followed(host: Place) -> None:
    tasks = f"run/containerd/{TASK}/k8s.io"
    put(host.root, f"{tasks}/{A}/config.json", cri(container_name="nginx", sandbox_id="../../evil"))
    put(host.root, "run/containerd/evil/config.json", cri(sandbox_name="evil"))
    found = containerd.find(REF, host)
    assert found is not None
    assert found.pod is None


def test_nerdctl_s_name_is_used(host: Place) -> None:
    put(
        host.root,
        f"run/containerd/{TASK}/default/{A}/config.json",
        {"annotations": {"nerdctl/name": "web-1"}},
    )
    assert containerd.find(REF, host) == Container(A, "containerd", "web-1")


def test_docker_s_tasks_below_containerd_are_left_to_docker(host: Place) -> None:
    put(host.root, f"run/containerd/{TASK}/moby/{A}/config.json", {"annotations": {}})
    assert containerd.find(REF, host) is None


# ---- CRI-O and podman: one storage ------------------------------------------------------------------
CRIO = {
    "annotations": {
        "io.container.manager": "cri-o", "io.kubernetes.cri-o.Name": "k8s_redis_web-7_shop_0",
        "io.kubernetes.cri-o.ContainerType": "container", "io.kubernetes.cri-o.ImageName": "quay.io/redis:1",
        "io.kubernetes.pod.name": "web-7", "io.kubernetes.pod.namespace": "shop",
        "io.kubernetes.pod.uid": POD,
        "io.kubernetes.container.name": "redis",
    }
}  # fmt: skip


@pytest.mark.parametrize("folder", ["run/containers/storage", STORAGE, "srv/graph"])
def test_crio_s_annotations_name_the_pod(folder: str, host: Place) -> None:
    if folder == "srv/graph":
        put(
            host.root,
            "etc/containers/storage.conf",
            '[storage]\ndriver = "overlay"\ngraphroot = "/srv/graph"\n',
        )
    put(host.root, f"{folder}/overlay-containers/{A}/userdata/config.json", CRIO)
    assert crio.find(REF, host) == Container(
        A, "cri-o", "k8s_redis_web-7_shop_0", "quay.io/redis:1", "web-7", "shop", "redis", POD
    )


def test_podman_s_configuration_is_not_taken_for_crio_s(host: Place) -> None:
    config = {"annotations": {"io.container.manager": "libpod"}}
    put(host.root, f"{STORAGE}/overlay-containers/{A}/userdata/config.json", config)
    assert crio.find(REF, host) is None


def listed(identity: str, name: str, **metadata: str) -> dict[str, object]:
    return {"id": identity, "names": [name], "image": "d7af", "metadata": json.dumps(metadata)}


@pytest.mark.parametrize("name", ["containers.json", "volatile-containers.json"])
@pytest.mark.parametrize("driver", ["overlay", "vfs", "btrfs", "zfs"])
def test_podman_s_lists_have_names_and_images(driver: str, name: str, host: Place) -> None:
    entries = [listed(B, "other"), listed(A, "web", **{"image-name": "docker.io/nginx:1"})]
    put(host.root, f"{STORAGE}/{driver}-containers/{name}", entries)
    assert Podman().find(REF, host) == Container(A, "podman", "web", "docker.io/nginx:1")


def test_rootless_podman_s_list_is_in_its_user_s_home(alice: Place) -> None:
    put(alice.root, f"{STORAGE}/overlay-containers/containers.json", [listed(A, "root-s")])
    assert Podman().find(REF, alice) is None
    home = "home/alice/.local/share/containers/storage/overlay-containers/containers.json"
    put(alice.root, home, [listed(A, "alice-s")])
    found = Podman().find(REF, alice)
    assert found is not None
    assert found.name == "alice-s"


def test_crio_s_entries_in_the_same_list_are_not_podman_s(host: Place) -> None:
    entry = listed(A, "k8s_redis", **{"pod-name": "k8s_POD", "image-name": "redis"})
    put(host.root, f"{STORAGE}/overlay-containers/containers.json", [entry])
    assert Podman().find(REF, host) is None


def test_a_container_that_podman_adds_later_is_found(host: Place) -> None:
    podman = Podman()
    file = put(host.root, f"{STORAGE}/overlay-containers/containers.json", [listed(B, "other")])
    assert podman.find(REF, host) is None
    put(host.root, "new", [listed(B, "other"), listed(A, "web")]).replace(file)
    assert podman.find(REF, host) is not None


def test_a_storage_conf_that_is_no_toml_is_noted_and_the_usual_places_searched(host: Place) -> None:
    put(host.root, "etc/containers/storage.conf", "= =")
    put(host.root, f"{STORAGE}/overlay-containers/containers.json", [listed(A, "web")])
    assert Podman().find(REF, host) is not None
    assert "storage.conf" in host.notes.lines()[0]


# ---- kubelet ----------------------------------------------------------------------------------------
def test_kubelet_s_log_link_names_a_container_whose_runtime_says_nothing(host: Place) -> None:
    put(host.root, f"var/log/containers/web-7_shop_nginx-proxy-{A}.log", "")
    put(host.root, f"var/log/containers/other_shop_redis-{B}.log", "")
    found = kubelet.find(ContainerRef(None, A, POD), host)
    assert found == Container(A, None, "nginx-proxy", None, "web-7", "shop", "nginx-proxy")
    assert kubelet.find(REF, host) is None  # not of a pod


# ---- whatever is written there ----------------------------------------------------------------------
JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.sampled_from([A, "x" * 2000])),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["ID", "Id", "id", "Name", "names", "Config", "Labels", "Image", "annotations",
                             "metadata", "io.container.manager", "io.kubernetes.cri.sandbox-id",
                             "data-root", "storage"]),
            inner,
            max_size=5,
        ),
    ),
    max_leaves=12,
)  # fmt: skip
PLACES: dict[str, Finder] = {
    f"var/lib/docker/containers/{A}/config.v2.json": docker.find,
    "etc/docker/daemon.json": docker.find,
    f"run/containerd/{TASK}/k8s.io/{A}/config.json": containerd.find,
    f"{STORAGE}/overlay-containers/{A}/userdata/config.json": crio.find,
    f"{STORAGE}/overlay-containers/containers.json": Podman().find,
}


@pytest.mark.parametrize("path", PLACES)
@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(document=JSON)
def test_no_document_raises_and_names_are_bounded_text(path: str, document: object, host: Place) -> None:
    file = put(host.root, path, document)
    os.utime(file)
    found = PLACES[path](REF, host)
    if found is not None:
        assert found.id == A
        for value in (found.name, found.image, found.pod, found.namespace, found.container_name):
            assert value is None or (isinstance(value, str) and 0 < len(value) <= 1024)
