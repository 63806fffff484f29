"""How a kernel is booted with this host's root file system: virtme-ng's plan, as QEMU arguments.

virtme-ng makes the initramfs and the kernel's command line; QEMU is then run by ``machine.py`` itself, so
that it dies with its parent. Of virtme-ng's devices only the root file system and the console are kept:
requests go over a port of our own, because the ones for scripts need a udev in the guest.
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from vmlab.errors import LabError
from vmlab.kernels import Image

PROJECT = Path(__file__).resolve().parents[2]
_BOOT_SCRIPT = Path(__file__).parent / "guest" / "boot.sh"
_PLAN_SECONDS = 120
_DROPPED_DEVICES = ("virtserialport", "virtio-serial-pci", "i6300esb")


@dataclass(frozen=True, slots=True)
class Plan:
    """QEMU's arguments without memory, CPUs and network; ``command_line`` is the kernel's."""

    qemu: tuple[str, ...]
    command_line: str


def plan(image: Image, folder: Path, bytecode: Path) -> Plan:
    """``folder``: where the initramfs goes. ``bytecode``: compiled programs kept for the next machine."""
    if shutil.which("qemu-system-x86_64") is None:
        raise LabError("qemu-system-x86_64 is not installed: apt-get install qemu-system-x86")
    # The guest's own /lib/modules is mounted over this one, which must exist; it stays empty.
    Path("/lib/modules").mkdir(parents=True, exist_ok=True)
    words = shlex.split(_dry_run(image, folder / f"initramfs-{image.kernel.name}"))
    kept, command_line = _kept(words)
    shares = [*share("lab", Path("/"), readonly=True), *share("bytecode", bytecode, readonly=False)]
    return Plan((*kept, *shares), command_line)


def _dry_run(image: Image, initramfs: Path) -> str:
    virtme = Path(sys.executable).parent / "virtme-run"
    if not virtme.is_file():
        raise LabError(f"virtme-ng is not installed beside {sys.executable}: scripts/setup vm")
    argv = [
        str(virtme),
        "--kimg",
        str(image.vmlinuz),
        "--mods",
        "auto",
        "--disable-kvm",
        "--show-boot-console",
    ]
    argv += ["--script-sh", f"bash {_BOOT_SCRIPT} {PROJECT} {sys.executable}"]
    argv += ["--save-initramfs", str(initramfs), "--dry-run", "--show-command"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PLAN_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise LabError(f"virtme-run gave no plan within {_PLAN_SECONDS} s") from None
    if done.returncode or not done.stdout.strip():
        raise LabError(f"virtme-run failed with {done.returncode}: {done.stderr.strip()[-500:]}")
    return done.stdout.strip().splitlines()[-1]


def _kept(words: list[str]) -> tuple[list[str], str]:
    """The wanted options of virtme-run's command, and the kernel's command line."""
    kept, command_line = [words[0]], ""
    position = 1
    while position < len(words):
        option = words[position]
        value = (
            words[position + 1]
            if position + 1 < len(words) and not words[position + 1].startswith("-")
            else None
        )
        position += 1 if value is None else 2
        if option == "-append":
            command_line = value or ""
        elif option in ("-m", "-smp") or _is_dropped(option, value or ""):
            continue
        else:
            kept += [option] if value is None else [option, value]
    return kept, command_line


def _is_dropped(option: str, value: str) -> bool:
    if option == "-device":
        return value.startswith(_DROPPED_DEVICES)
    return option == "-chardev" and "id=console" not in value


def share(tag: str, path: Path, *, readonly: bool) -> list[str]:
    settings = f"local,path={path},mount_tag={tag},security_model=none,multidevs=remap"
    return ["-virtfs", f"{settings},readonly={'on' if readonly else 'off'}"]
