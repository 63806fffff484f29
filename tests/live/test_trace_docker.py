"""Real containers of a real Docker daemon: what they do is told with their names and ids.

Server, client and a container that lives 200 ms share one network namespace, which has a loopback only.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from docker_daemon import IMAGE, CannotRun, Docker, lacking, running
from trace_command import COMMAND, traced

PORT = 7000
ASK = f"wget -q -O - http://127.0.0.1:{PORT}/index.html"
LONG, BRIEF = f"{ASK}; sleep 1", f"{ASK}; sleep 0.15"
# Where the product looks for Docker, in a mount namespace of the trace's own: a host's Docker is not touched.
FILES = "mount -t tmpfs none /var/lib && mkdir /var/lib/docker && mount --bind {data} /var/lib/docker"
SOCKET = "mount -t tmpfs none /run && touch /run/docker.sock && mount --bind {socket} /run/docker.sock"


@dataclass(slots=True)
class Case:
    """One server and its clients, under one trace. ``ids``: name -> container id."""

    ids: dict[str, str] = field(default_factory=dict)
    events: list[dict[str, Any]] = field(default_factory=list)

    def of(self, kind: str, **ends: int) -> list[dict[str, Any]]:
        """``peer`` or ``local``: its port."""
        return [
            one
            for one in self.events
            if one["event"] == kind and all(one[f"network.{end}.port"] == port for end, port in ends.items())
        ]


@pytest.fixture(scope="session")
def docker(clean_host: None) -> Iterator[Docker]:
    if reason := lacking():
        # Where every change is checked (.ci/run) a test that is skipped is a fault.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    try:
        with running() as daemon:
            yield daemon
    except CannotRun as error:
        pytest.skip(f"dockerd does not run here: {error}")


def seen_as(docker: Docker, mounts: str) -> tuple[str, ...]:
    prepared = mounts.format(data=shlex.quote(str(docker.data)), socket=shlex.quote(str(docker.socket)))
    script = f'{prepared} && exec "$@"'
    return "unshare", "--mount", "--propagation", "private", "sh", "-euc", script, "sh", *COMMAND


def visit(docker: Docker, tag: str, *words: str, mounts: str = FILES) -> Case:
    """A trace, then a server, a client and a short-lived one."""
    case = Case()
    server = f"web-{tag}"
    try:
        with traced("--netns", "all", *words, command=seen_as(docker, mounts)) as said:
            run = ["run", "--name", server, "--network=none", "--detach", IMAGE]
            case.ids[server] = docker(*run, "httpd", "-f", "-p", f"127.0.0.1:{PORT}", "-h", "/")
            for name, code in ((f"asks-{tag}", LONG), (f"brief-{tag}", BRIEF)):
                file = docker.folder / f"{name}.id"
                run = ["run", "--rm", f"--name={name}", f"--network=container:{server}", f"--cidfile={file}"]
                assert docker(*run, IMAGE, "sh", "-c", code) == "hello"
                case.ids[name] = file.read_text()
    finally:
        docker("rm", "--force", server)
    case.events = said.events
    return case


@pytest.fixture(scope="module")
def case(docker: Docker) -> Case:
    return visit(docker, "files")


def names(event: dict[str, Any]) -> tuple[str | None, ...]:
    keys = ("container.name", "container.id", "container.runtime.name", "container.image.name")
    return tuple(event[key] for key in keys)


def test_a_client_has_the_name_and_the_id_of_its_container(case: Case) -> None:
    told = [names(one) for one in case.of("connect", peer=PORT)]
    wanted = [(name, case.ids[name], "docker", IMAGE) for name in ("asks-files", "brief-files")]
    assert told == wanted


def test_a_container_that_lives_200_ms_is_named_in_each_of_its_events(case: Case) -> None:
    brief = case.ids["brief-files"]
    told = [one for one in case.events if one["container.id"] == brief]
    assert [one["event"] for one in told] == ["connect", "close"]
    assert {names(one) for one in told} == {("brief-files", brief, "docker", IMAGE)}


def test_a_server_has_the_name_and_the_id_of_its_container(case: Case) -> None:
    server = ("web-files", case.ids["web-files"], "docker", IMAGE)
    assert [names(one) for one in case.of("listen", local=PORT)] == [server]
    assert [names(one) for one in case.of("accept", local=PORT)] == [server] * 2
    assert [names(one) for one in case.of("close", local=PORT)] == [server] * 2


def test_no_event_of_a_container_lacks_its_process(case: Case) -> None:
    told = [one for one in case.events if PORT in (one["network.local.port"], one["network.peer.port"])]
    assert {(one["attribution"], one["thread.name"]) for one in told} == {
        ("exact", "httpd"),
        ("exact", "wget"),
    }
    programs = {one["process.executable.path"] for one in told}  # of the last two, one is a link to the other
    assert programs - {"/bin/sh"} <= {"/bin/httpd", "/bin/busybox"}


def test_names_come_from_dockers_socket_where_its_files_are_elsewhere(docker: Docker) -> None:
    """A container may be gone before Docker answers: then it is not known, and nothing is said of it."""
    case = visit(docker, "socket", mounts=SOCKET)
    assert {names(one) for one in case.of("accept", local=PORT)} == {
        ("web-socket", case.ids["web-socket"], "docker", IMAGE)
    }
    told = [names(one) for one in case.of("connect", peer=PORT)]
    for name, one in zip(("asks-socket", "brief-socket"), told, strict=True):
        known = (name, case.ids[name], "docker", IMAGE)
        assert one in (known, (None, case.ids[name], "docker", None), (None,) * 4)


def test_a_container_can_be_asked_for_before_it_exists(docker: Docker) -> None:
    case = visit(docker, "wanted", "--container", "asks-wanted")
    assert {one["container.name"] for one in case.events} == {"asks-wanted"}
    assert [one["event"] for one in case.events] == ["connect", "close"]
