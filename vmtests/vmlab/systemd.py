"""A machine whose first process is systemd: Debian's packages, a disk that lasts, and the boot with both.

The packages are unpacked into the cache, not installed: a udevd of the host would be started in every other
machine too, and installing one may start it on the host. The libraries that they need are the host's.
"""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from vmlab import kernels
from vmlab.boot import PROJECT, Plan, share
from vmlab.errors import LabError, NotFetched
from vmlab.kernels import Apt, Kernel

_PACKAGES = ("systemd", "udev", "libsystemd-shared", "libsystemd0", "libudev1")  # of one version
_FIRST = PROJECT / "vmtests" / "vmlab" / "guest" / "systemd.sh"
_DISK_BYTES = 32 << 20
_MERGED = ("bin", "sbin", "lib")  # links into usr, as on the host, which lies below
_DROPPED = ("virtme.exec=", "init=")


def fetch() -> Path:
    """The folder of the unpacked packages. NotFetched: why they cannot be had."""
    release = platform.freedesktop_os_release().get("VERSION_CODENAME", "unknown")
    folder = kernels.cache() / "systemd" / release
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{release}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            _download(Kernel("systemd", release, "Debian", "systemd", (), ()), folder)
    return folder


def _download(wanted: Kernel, folder: Path) -> None:
    """As a kernel is: beside ``folder``, then in its place in one rename."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as scratch:
        try:
            Apt(wanted, Path(scratch)).run("apt-get", "-q", "download", *_PACKAGES)
        except NotFetched as error:
            raise NotFetched(str(error).removeprefix("kernel ")) from None
        made = Path(scratch) / "unpacked"
        for name in _MERGED:
            (made / "usr" / name).mkdir(parents=True)
            (made / name).symlink_to(f"usr/{name}")
        for package in sorted(Path(scratch).glob("*.deb")):
            _unpack(package, made)
        made.rename(folder)


def _unpack(package: Path, into: Path) -> None:
    archive = package.with_suffix(".tar")
    with archive.open("wb") as file:
        _run("dpkg-deb", "--fsys-tarfile", str(package), stdout=file.fileno())
    _run("tar", "-x", "-f", str(archive), "-C", str(into), "--keep-directory-symlink", "--no-same-owner")


def disk(path: Path, settings: Mapping[str, str]) -> Path:
    """An ext4 image: ``settings`` are the files of the machine's /etc/systemd; no records of xdpguard yet."""
    if shutil.which("mkfs.ext4") is None:
        raise LabError("mkfs.ext4 is not installed: apt-get install e2fsprogs")
    with tempfile.TemporaryDirectory(dir=path.parent) as holds:
        Path(holds).chmod(0o755)
        (Path(holds) / "records").mkdir()
        for name, text in settings.items():
            file = Path(holds) / "etc" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        with path.open("wb") as image:
            image.truncate(_DISK_BYTES)
        _run("mkfs.ext4", "-q", "-E", "root_owner=0:0", "-d", holds, str(path))
    return path


def plan(base: Plan, packages: Path, image: Path) -> Plan:
    """``base`` with systemd in place of the lab's own first program, and told on the console."""
    words = [word for word in base.command_line.split(" ") if not word.startswith(_DROPPED)]
    words += [f"lab_project={PROJECT}", f"lab_python={sys.executable}", f"init={_FIRST}"]
    words.append("systemd.show_status=1")  # on the console, whose last lines an error shows
    # What the guest has synced is in the host's memory, and so survives the end of QEMU, as on a disk.
    drive = f"file={image},format=raw,if=virtio,cache=writeback"
    return Plan((*base.qemu, *share("systemd", packages, readonly=True), "-drive", drive), " ".join(words))


def _run(*argv: str, stdout: int = subprocess.DEVNULL) -> None:
    done = subprocess.run(
        argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True, timeout=120,
        env={**os.environ, "LC_ALL": "C"}, check=False,
    )  # fmt: skip
    if done.returncode:
        raise LabError(f"{argv[0]} failed with {done.returncode}: {done.stderr.strip()[-300:]}")
