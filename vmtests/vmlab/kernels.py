"""The list of kernels, and how each gets into the cache: by apt from Debian, unpacked, not installed.

apt runs with an index and a configuration of its own, so that the host's package state is neither used nor
changed; only which mirror to ask, and the archive's keys, are the host's.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vmlab.errors import NotFetched

LIST = Path(__file__).parent.parent / "kernels.toml"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
# Parts of a kernel package that no test needs: half of its size.
_LEFT_OUT = ("usr/share", "*/kernel/sound", "*/kernel/drivers/gpu", "*/kernel/drivers/media")
_FETCH_SECONDS = 600


@dataclass(frozen=True, slots=True)
class Kernel:
    """One entry of kernels.toml."""

    name: str
    suite: str
    archive: str
    package: str
    must: tuple[str, ...]
    lacks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Image:
    """An unpacked kernel. ``folder`` holds ``lib/modules/VERSION``."""

    kernel: Kernel
    version: str
    vmlinuz: Path
    folder: Path


def listed(path: Path = LIST) -> tuple[Kernel, ...]:
    entries = tomllib.loads(path.read_text())["kernel"]
    return tuple(
        Kernel(**{**entry, "must": tuple(entry["must"]), "lacks": tuple(entry["lacks"])}) for entry in entries
    )


def by_name(name: str) -> Kernel:
    for kernel in listed():
        if kernel.name == name:
            return kernel
    raise NotFetched(f"kernel {name}: not in {LIST.name}; there are {', '.join(k.name for k in listed())}")


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "xdpguard"


def fetch(kernel: Kernel, *, refresh: bool = False) -> Image:
    """The kernel, from the cache, or downloaded into it. NotFetched: why it cannot be had."""
    folder = cache() / "kernels" / kernel.name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f"{kernel.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if refresh or not folder.is_dir():
            _download(kernel, folder)
    return _image(kernel, folder)


def cached(kernel: Kernel) -> str | None:
    """The version that is in the cache, if any."""
    folder = cache() / "kernels" / kernel.name
    return _image(kernel, folder).version if folder.is_dir() else None


def _image(kernel: Kernel, folder: Path) -> Image:
    versions = [path.name for path in (folder / "lib" / "modules").iterdir()]
    if len(versions) != 1:
        raise NotFetched(
            f"kernel {kernel.name}: {folder} holds {len(versions)} kernels; remove it and fetch again"
        )
    version = versions[0]
    places = (folder / "boot" / f"vmlinuz-{version}", folder / "lib" / "modules" / version / "vmlinuz")
    for vmlinuz in places:
        if vmlinuz.is_file():
            return Image(kernel, version, vmlinuz, folder)
    raise NotFetched(f"kernel {kernel.name}: no vmlinuz of {version} in {folder}; remove it and fetch again")


def _download(kernel: Kernel, folder: Path) -> None:
    """Download and unpack beside ``folder``, then put it in its place in one rename."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{kernel.name}-") as scratch:
        apt = Apt(kernel, Path(scratch))
        packages = apt.kernel_packages()
        apt.run("apt-get", "-q", "download", *packages)
        made = Path(scratch) / "unpacked"
        made.mkdir()
        for package in sorted(Path(scratch).glob("*.deb")):
            _unpack(kernel, package, made)
        _as_one_image(kernel, made)
        shutil.rmtree(folder, ignore_errors=True)
        made.rename(folder)


class Apt:
    """apt with a state of its own in ``scratch``, for one suite."""

    def __init__(self, kernel: Kernel, scratch: Path) -> None:
        self._kernel = kernel
        self._scratch = scratch
        for name in ("lists/partial", "archives/partial", "parts"):
            (scratch / name).mkdir(parents=True)
        (scratch / "status").touch()
        source = f"deb [arch=amd64 signed-by={_KEYRING}] {self._mirror()} {kernel.suite} main\n"
        (scratch / "sources.list").write_text(source)
        settings = {
            "Dir::Etc::sourcelist": "sources.list",
            "Dir::Etc::sourceparts": "parts",
            "Dir::Etc::preferencesparts": "parts",
            "Dir::State": "",
            "Dir::State::lists": "lists",
            "Dir::State::status": "status",
            "Dir::Cache": "",
        }
        self._options = [f"-o{key}={scratch / value}" for key, value in settings.items()]
        self._options += [
            "-oAPT::Architecture=amd64",
            "-oAPT::Architectures=amd64",
            "-oAPT::Sandbox::User=root",
        ]
        self._options += ["-oAcquire::Languages=none", "-oAPT::Install-Recommends=false"]
        self.run("apt-get", "-q", "update")

    def _mirror(self) -> str:
        target = "$(REPO_URI)"
        text = self.run(
            "apt-get",
            "indextargets",
            "Created-By: Packages",
            f"Label: {self._kernel.archive}",
            "--format",
            target,
        )
        if not text.strip():
            raise NotFetched(
                f"kernel {self._kernel.name}: this host's apt has no source with the label "
                f"{self._kernel.archive}, so there is no mirror to ask for {self._kernel.suite}"
            )
        return text.split()[0]

    def kernel_packages(self) -> list[str]:
        """The packages that the meta package stands for: image, and for newer kernels modules and base."""
        text = self.run(
            "apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
            "--no-breaks", "--no-replaces", "--no-enhances", self._kernel.package,
        )  # fmt: skip
        names = {line.strip() for line in text.splitlines() if line and not line.startswith(" ")}
        kinds = ("linux-image-", "linux-binary-", "linux-modules-", "linux-base-")
        found = sorted(name for name in names if name.startswith(kinds) and name.split("-")[2][:1].isdigit())
        if not found:
            raise NotFetched(
                f"kernel {self._kernel.name}: {self._kernel.suite} has no {self._kernel.package}"
            )
        return found

    def run(self, command: str, *arguments: str) -> str:
        options = getattr(self, "_options", [])
        return _run(self._kernel, [command, *options, *arguments], cwd=self._scratch)


def _run(kernel: Kernel, argv: Sequence[str], *, cwd: Path | None = None) -> str:
    try:
        done = subprocess.run(
            argv, cwd=cwd, capture_output=True, text=True, timeout=_FETCH_SECONDS, check=False
        )
    except FileNotFoundError:
        raise NotFetched(f"kernel {kernel.name}: {argv[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise NotFetched(f"kernel {kernel.name}: {argv[0]} took more than {_FETCH_SECONDS} s") from None
    if done.returncode:
        errors = [line for line in done.stderr.splitlines() if line.startswith(("E:", "Err"))] or [
            done.stderr.strip()
        ]
        raise NotFetched(f"kernel {kernel.name}: {argv[0]} failed with {done.returncode}: {errors[0][:300]}")
    return done.stdout


def _unpack(kernel: Kernel, package: Path, into: Path) -> None:
    excludes = [f"--exclude=./{pattern}" for pattern in _LEFT_OUT]
    archive = package.with_suffix(".tar")
    with archive.open("wb") as file:
        subprocess.run(
            ["dpkg-deb", "--fsys-tarfile", str(package)], stdout=file, check=True, timeout=_FETCH_SECONDS
        )
    _run(kernel, ["tar", "-x", "-f", str(archive), "-C", str(into), "--no-same-owner", *excludes])
    archive.unlink()
    package.unlink()


def _as_one_image(kernel: Kernel, made: Path) -> None:
    """Newer packages have no /lib: modules lie in /usr/lib. Both places must lead to them."""
    if not (made / "lib").exists():
        (made / "lib").symlink_to("usr/lib")
    image = _image(kernel, made)
    _run(kernel, ["depmod", "-a", "-b", str(made), image.version])
