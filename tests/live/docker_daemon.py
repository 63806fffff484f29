"""A Docker daemon of the test's own: its data, sockets and processes lie below one folder and end with it.

What must never break: a daemon or a container of the host is neither used nor touched. A run that was killed
leaves its folder, whose pid files name what the next run has to end.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PREFIX = "xgt-docker-"
BUSYBOX = Path("/bin/busybox")
PROGRAMS = ("dockerd", "docker", "containerd", "containerd-shim-runc-v2", "runc")
# Where scripts/setup unpacks them; what is not there is looked for among the installed ones.
UNPACKED = Path(os.environ.get("XDPGUARD_TEST_DOCKER") or Path.home() / ".cache/xdpguard/docker")
ENVIRONMENT = os.environ | {
    "PATH": os.pathsep.join(
        [f"{UNPACKED}/usr/sbin", f"{UNPACKED}/usr/bin", os.environ.get("PATH", os.defpath)]
    )
}
IMAGE = "busybox:xgt"
_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Docker:
    """``docker(...)`` runs the client. ``data``: the daemon's data root. ``socket``: where it listens."""

    folder: Path

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def socket(self) -> Path:
        return self.folder / "docker.sock"

    def __call__(self, *words: str) -> str:
        argv = [program("docker"), "--host", f"unix://{self.socket}", *words]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=_SECONDS)
        assert done.returncode == 0, f"docker {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()


def program(name: str) -> str:
    """Its path, or if there is none its name."""
    return shutil.which(name, path=ENVIRONMENT["PATH"]) or name


def lacking() -> str | None:
    """Why there can be no daemon here. None: nothing is missing."""
    missing = [name for name in PROGRAMS if program(name) == name]
    if missing:
        return f"no {', '.join(missing)} in {UNPACKED} nor installed: scripts/setup live fetches them"
    return None if BUSYBOX.exists() else "no /bin/busybox: install Debian's busybox-static"


class CannotRun(Exception):
    """The daemon does not run on this kernel. Its last words."""


@contextmanager
def running() -> Iterator[Docker]:
    """A daemon without a bridge of its own, and IMAGE in it."""
    remove_left_over()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX))
    docker = Docker(folder)
    daemon = _begun(docker)
    try:
        _await(docker, daemon)
        _import_image(docker)
        yield docker
    finally:
        _remove(folder)
        daemon.wait(_SECONDS)


def _begun(docker: Docker) -> subprocess.Popen[bytes]:
    """Containers share no network with the host: none gets one but by --network."""
    folder = docker.folder
    (folder / "pid").write_text(str(os.getpid()))  # of the run, for remove_left_over
    argv = [
        program("dockerd"), "--storage-driver=vfs", f"--data-root={docker.data}",
        f"--exec-root={folder / 'exec'}", f"--host=unix://{docker.socket}",
        f"--pidfile={folder / 'dockerd.pid'}", "--bridge=none", "--iptables=false",
        "--ip6tables=false", "--ip-forward=false", "--ip-masq=false",
        f"--config-file={folder / 'none.json'}", "--log-level=warn",
    ]  # fmt: skip
    (folder / "none.json").write_text("{}")
    with (folder / "log").open("wb") as log:
        return subprocess.Popen(
            argv, env=ENVIRONMENT, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
        )


def _await(docker: Docker, daemon: subprocess.Popen[bytes]) -> None:
    """Until it answers: nothing tells of that."""
    until = time.monotonic() + _SECONDS
    while True:
        asked = subprocess.run(
            [program("docker"), "--host", f"unix://{docker.socket}", "version"],
            check=False,
            capture_output=True,
        )
        if asked.returncode == 0:
            return
        if daemon.poll() is not None or time.monotonic() > until:
            raise CannotRun((docker.folder / "log").read_text(errors="replace")[-600:])
        time.sleep(0.1)


def _import_image(docker: Docker) -> None:
    tree = docker.folder / "tree"
    (tree / "bin").mkdir(parents=True)
    shutil.copy(BUSYBOX, tree / "bin/busybox")
    for name in ("sh", "nc", "sleep", "httpd", "wget"):
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "index.html").write_text("hello\n")
    archive = docker.folder / "tree.tar"
    subprocess.run(["tar", "-C", str(tree), "-cf", str(archive), "."], check=True)
    docker("import", str(archive), IMAGE)


def remove_left_over() -> None:
    """Of runs whose process is gone."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        owner = folder / "pid"
        if not (owner.is_file() and Path("/proc", owner.read_text()).exists()):
            _remove(folder)


def _remove(folder: Path) -> None:
    """The daemon ends its containers and its containerd itself; what does not end in time is killed."""
    files = [folder / "dockerd.pid", *folder.glob("exec/containerd/containerd.pid")]
    for file, number in ((file, signal.SIGTERM) for file in files if file.is_file()):
        _end(folder, file, number)
    for shim in _processes_of(folder):
        os.kill(shim, signal.SIGKILL)
    mounts = [line.split()[1] for line in Path("/proc/self/mounts").read_text().splitlines()]
    for mount in reversed([one for one in mounts if one.startswith(f"{folder}/")]):
        subprocess.run(["umount", "-l", mount], check=False, capture_output=True)
    shutil.rmtree(folder, ignore_errors=True)


def _end(folder: Path, file: Path, number: int) -> None:
    pid = int(file.read_text())
    if pid not in _processes_of(folder):
        return  # another process by now
    os.kill(pid, number)
    until = time.monotonic() + _SECONDS / 4
    while pid in _processes_of(folder):
        if time.monotonic() > until:
            os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def _processes_of(folder: Path) -> set[int]:
    """Daemon, containerd and its shims: their command lines name the folder."""
    found = set()
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = file.read_bytes().split(b"\0")
        except OSError:
            continue
        if Path(os.fsdecode(words[0])).name.startswith(("dockerd", "containerd")) and any(
            os.fsencode(folder) in word for word in words
        ):
            found.add(int(file.parent.name))
    return found
