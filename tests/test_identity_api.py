"""One GET over a unix socket: answers, refusals, and servers that mean harm."""

from __future__ import annotations

import errno
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from identity_support import A, B, Clock, answer, api, docker_config

from xdpguard.identity.api import Api
from xdpguard.identity.container import Container
from xdpguard.identity.docker import described
from xdpguard.identity.files import LIMIT, Notes

RETRY = 30.0
INSPECTED = {"Id": A, "Name": "/web", "Config": {"Image": "nginx:1", "Labels": None}}


@pytest.fixture
def sock() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # short: a socket's path has 107 bytes at most
        yield Path(folder) / "s"


class Asking:
    def __init__(self, timeout: float = 20.0) -> None:
        self.notes, self.clock = Notes(), Clock()
        self.api = Api(self.notes, self.clock, RETRY, timeout)

    def __call__(self, sock: Path) -> Container | None:
        return self.api.find(A, "docker", sock)


def test_the_name_and_image_are_in_the_answer(sock: Path) -> None:
    asking = Asking()
    with api(sock, lambda _: answer(INSPECTED)) as asked:
        assert asking(sock) == Container(A, "docker", "web", "nginx:1")
    assert asked == [f"/containers/{A}/json"]
    assert asking.notes.lines() == ()


def test_a_chunked_answer_is_read(sock: Path) -> None:
    body = answer(INSPECTED).partition(b"\r\n\r\n")[2]
    half = len(body) // 2
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:half], body[half:]))
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    with api(sock, lambda _: head + chunks + b"0\r\n\r\n"):
        assert Asking()(sock) is not None


def test_an_unknown_id_is_no_failure(sock: Path) -> None:
    asking = Asking()
    with api(sock, lambda _: answer({"message": "No such container"}, "404 Not Found")) as asked:
        assert asking(sock) is None
        assert asking(sock) is None
    assert len(asked) == 2
    assert asking.notes.lines() == ()


def test_an_answer_about_another_container_is_not_used(sock: Path) -> None:
    with api(sock, lambda _: answer({**INSPECTED, "Id": B})):
        assert Asking()(sock) is None


def test_a_runtime_that_is_not_there_is_nothing_to_report(sock: Path) -> None:
    asking = Asking()
    assert asking(sock) is None
    assert asking.notes.lines() == ()


BAD = {
    "no HTTP": b"SSH-2.0-OpenSSH\r\n",
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 OK\r\nContent-Le",
    "shorter than it says": b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{}",
    "no JSON": answer(b"<html>"),
    "deeply nested": answer(b"[" * 100_000),
    "an error of the server": answer({}, "500 Internal Server Error"),
    "a redirect": answer({}, "301 Moved Permanently"),
    "too many headers": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 1000 + b"\r\n",
    "bad chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_answer_is_one_note_and_no_exception(case: str, sock: Path) -> None:
    asking = Asking()
    with api(sock, lambda _: BAD[case]):
        assert asking(sock) is None
        asking.clock.now += RETRY
        assert asking(sock) is None
    (line,) = asking.notes.lines()
    assert line.startswith(f"docker: {sock}: ")
    assert line.endswith("names from files only, tried again every 30 s")
    assert "\n" not in line


def test_an_answer_without_an_end_is_given_up_at_the_limit(sock: Path) -> None:
    asking = Asking()
    with api(sock, lambda _: b"HTTP/1.1 200 OK\r\n\r\n" + b" " * (2 * LIMIT), hold=True):
        assert asking(sock) is None
    assert f"answer of more than {LIMIT} bytes" in asking.notes.lines()[0]


def test_a_socket_that_refuses_is_noted_once_and_left_alone_for_a_while(sock: Path) -> None:
    asking = Asking()
    sock.touch()  # a file, not a socket: connection refused
    for _ in range(5):
        assert asking(sock) is None
    assert asking.notes.lines() == (
        f"docker: {sock}: Connection refused: names from files only, tried again every 30 s",
    )
    sock.unlink()
    with api(sock, lambda _: answer(INSPECTED)) as asked:
        assert asking(sock) is None
        assert asked == []
        asking.clock.now += RETRY
        assert asking(sock) is not None


def test_a_server_that_never_ends_its_answer_costs_the_timeout_once(sock: Path) -> None:
    asking = Asking(timeout=0.01)
    with api(sock, lambda _: b"HTTP/1.1 200 OK\r\n", hold=True) as asked:
        assert asking(sock) is None
        assert asking(sock) is None
        assert len(asked) <= 1
    assert "timed out" in asking.notes.lines()[0]


def test_a_trickle_of_bytes_does_not_extend_the_time(sock: Path) -> None:
    asking = Asking(timeout=3.0)
    clock = asking.clock

    def later() -> float:
        clock.now += 1.0  # a second passes with each look at the clock
        return clock.now

    asking.api = Api(asking.notes, later, RETRY, timeout=3.0)
    with api(sock, lambda _: b"H" * (1 << 20), hold=True):
        assert asking(sock) is None
    assert "timed out" in asking.notes.lines()[0]


def test_a_path_too_long_for_a_socket_is_noted() -> None:
    asking = Asking()
    assert asking(Path("/" + "x" * 200)) is None
    assert "too long" in asking.notes.lines()[0]


def test_docker_s_file_and_its_api_are_described_alike(sock: Path) -> None:
    config = docker_config(A, "web", "nginx:1")
    with api(sock, lambda _: answer({**config, "Id": A})):
        assert Asking()(sock) == described(A, "docker", config)


def test_a_socket_that_may_not_be_asked_is_noted_once(sock: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Root may ask every socket: a security module may still refuse."""

    def denied(*_: object) -> bytes:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("xdpguard.identity.api._exchange", denied)
    asking = Asking()
    for _ in range(5):
        assert asking(sock) is None
    assert asking.notes.lines() == (
        f"docker: {sock}: Permission denied: names from files only, tried again every 30 s",
    )


def test_a_server_that_takes_no_more_clients_is_noted_and_not_waited_for(sock: Path) -> None:
    asking = Asking(timeout=0.01)
    with (
        socket.socket(socket.AF_UNIX) as server,
        socket.socket(socket.AF_UNIX) as first,
        socket.socket(socket.AF_UNIX) as second,
    ):
        server.bind(str(sock))
        server.listen(0)
        for client in (first, second):  # who waits to be accepted, beyond what listen() says
            client.setblocking(False)
            client.connect_ex(str(sock))
        assert asking(sock) is None
    [note] = asking.notes.lines()
    assert "names from files only" in note
