"""Fake hosts for the tests of ``identity/``: files below a folder, a /proc, a Docker API on a socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

A, B, C = "a" * 64, "b2" * 32, "0123456789abcdef" * 4
POD = "6d4b75cb-6d4b-4a4b-8a4b-0123456789ab"
POD_ = POD.replace("-", "_")
STATIC = "0123456789abcdef0123456789abcdef"
BURSTABLE = "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod"
KUBE = f"{BURSTABLE}{POD_}.slice"
USER = "/user.slice/user-1000.slice/user@1000.service"


class Clock:
    """Seconds that pass only when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def put(root: Path, path: str, content: object) -> Path:
    """A file below ``root``: text as it is, anything else as JSON."""
    file = root / path.lstrip("/")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(content if isinstance(content, str) else json.dumps(content))
    return file


def put_process(proc: Path, pid: int, **given: object) -> Path:
    """/proc/PID as Linux shows it; ``given`` replaces parts, None leaves a file out."""
    part: dict[str, object] = {
        "tgid": pid, "comm": "sh", "ppid": 1, "start": 500, "uid": 1000, "gid": 1000, "exe": "/bin/dash",
        "netns": 4026531840, "cgroup": "0::/user.slice\n",
    } | given  # fmt: skip
    place = proc / str(pid)
    ids = "\t".join
    zeros = " ".join(["0"] * 30)
    put(place, "stat", f"{pid} ({part['comm']}) S {part['ppid']} {'1 ' * 17}{part['start']} {zeros}\n")
    put(
        place,
        "status",
        f"Name:\t{part['comm']}\nTgid:\t{part['tgid']}\nPid:\t{pid}\nPPid:\t{part['ppid']}\n"
        f"Uid:\t{ids([str(part['uid'])] * 4)}\nGid:\t{ids([str(part['gid'])] * 4)}\n",
    )
    if part["cgroup"] is not None:
        put(place, "cgroup", str(part["cgroup"]))
    for name, target in (("exe", part["exe"]), ("ns/net", part["netns"] and f"net:[{part['netns']}]")):
        if target is not None:
            link = place / name
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(str(target))
    return place


def docker_config(identity: str, name: str, image: str = "busybox:1", **labels: str) -> dict[str, object]:
    return {"ID": identity, "Name": f"/{name}", "Config": {"Image": image, "Labels": labels}}


def answer(body: object, status: str = "200 OK") -> bytes:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


@contextmanager
def api(path: Path, reply: Callable[[str], bytes], hold: bool = False) -> Iterator[list[str]]:
    """A server on a unix socket: ``reply`` gets the request's path. Yields the paths asked for so far.

    ``hold``: the connection stays open after the reply until the end.
    """
    asked: list[str] = []
    held: list[socket.socket] = []
    path.parent.mkdir(parents=True, exist_ok=True)
    server = socket.socket(socket.AF_UNIX)
    server.bind(str(path))
    server.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = server.accept()
            except OSError:
                return
            request = b""
            while b"\r\n\r\n" not in request and (part := client.recv(4096)):
                request += part
            if not request:
                client.close()
                return
            asked.append(request.split()[1].decode())
            try:
                client.sendall(reply(asked[-1]))
            except OSError:
                pass  # the other side had enough
            held.append(client) if hold else client.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield asked
    finally:
        with socket.socket(socket.AF_UNIX) as last:  # an empty request ends the server
            last.connect(str(path))
        thread.join()
        for client in held:
            client.close()
        server.close()
        path.unlink()
