"""What can go wrong in the lab itself: each ends in an error that names it, in time, with no process left."""

from __future__ import annotations

import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from vmlab import kernels, machine, topology
from vmlab.boot import PROJECT
from vmlab.errors import LabError, NotFetched
from vmlab.kernels import Image, Kernel
from vmlab.lab import Lab
from vmlab.machine import Machine
from vmlab.topology import Topology

_NAMES = ("busy", "panicking", "hanging")
_SHAPE = Topology("failures", {name: topology.Machine(name, memory_mb=512) for name in _NAMES})
_ALONE = Topology("alone", {"alone": topology.Machine("alone", memory_mb=512)})
_PATIENCE = 30.0  # seconds; only a failing test waits that long
_BOOT = machine.BOOT_SECONDS + 120.0

_STARTS_A_LAB = """
import signal, sys
from vmlab import kernels, topology
from vmlab.lab import Lab
shape = topology.Topology("alone", {"alone": topology.Machine("alone", memory_mb=512)})
with Lab(shape, kernels.fetch(kernels.by_name(sys.argv[1]))) as lab:
    print(lab.folder, lab["alone"].pid, flush=True)
    signal.pause()
"""


@pytest.fixture(scope="module")
def failing(image: Image) -> Iterator[Lab]:
    """One machine for each way to fail, none of which is of use afterwards."""
    with Lab(_SHAPE, image) as lab:
        yield lab


def test_a_command_that_does_not_end_is_named_and_the_machine_still_answers(failing: Lab) -> None:
    busy = failing["busy"]
    with pytest.raises(LabError, match=r"^busy: sleep 1000: no end within 1 s"):
        busy.run("sleep", "1000", timeout=1)
    commands = busy.check("bash", "-c", "cat /proc/[0-9]*/comm").split()
    assert "cat" in commands
    assert "sleep" not in commands


def test_a_command_that_cannot_be_run_is_a_result_and_one_that_must_succeed_an_error(failing: Lab) -> None:
    result = failing["busy"].run("no-such-command")
    assert (result.code, result.err) == (127, "no-such-command: No such file or directory\n")
    with pytest.raises(LabError, match=r"^busy: false: exit code 1"):
        failing["busy"].check("false")


def test_a_machine_that_panics_is_told_by_its_panic(failing: Lab) -> None:
    panicking = failing["panicking"]
    ended = os.pidfd_open(panicking.pid)
    with pytest.raises(LabError, match=r"the machine panicked: .*Kernel panic") as error:
        panicking.run("bash", "-c", "echo c >/proc/sysrq-trigger", timeout=_PATIENCE)
    assert str(error.value).startswith("panicking: bash -c echo c >/proc/sysrq-trigger: ")
    assert "the console's last lines" in str(error.value)
    assert _ends(ended), "QEMU ends with its machine"


def test_a_machine_that_hangs_is_an_error_in_time_and_is_not_asked_again(
    failing: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    hanging = failing["hanging"]
    monkeypatch.setattr(machine, "_GRACE_SECONDS", 1)
    os.kill(hanging.pid, signal.SIGSTOP)
    began = time.monotonic()
    with pytest.raises(LabError, match=r"^hanging: true: no answer within 2 s: the machine hangs") as error:
        hanging.run("true", timeout=1)
    assert time.monotonic() - began < _PATIENCE
    os.kill(hanging.pid, signal.SIGCONT)
    with pytest.raises(LabError) as again:
        hanging.run("echo", "an answer to the wrong question")
    assert again.value is error.value


def test_a_lab_that_does_not_boot_in_time_leaves_no_process_and_no_file(
    image: Image, monkeypatch: pytest.MonkeyPatch
) -> None:
    patient = Machine.wait_ready
    monkeypatch.setattr(Machine, "wait_ready", lambda self: patient(self, 0.1))
    lab = Lab(_ALONE, image)
    with pytest.raises(LabError, match=r"^alone: boot: no answer within 1 s: the machine hangs"), lab:
        pytest.fail("a machine that boots in 0.1 s")
    with pytest.raises(ProcessLookupError):
        os.kill(lab["alone"].pid, 0)
    assert not lab.folder.exists()


def test_a_kernel_that_is_none_ends_with_what_qemu_said(image: Image, tmp_path: Path) -> None:
    broken = tmp_path / image.vmlinuz.name
    broken.write_bytes(image.vmlinuz.read_bytes()[:100_000].replace(b"HdrS", b"none"))
    lab = Lab(_ALONE, Image(image.kernel, image.version, broken, image.folder))
    with pytest.raises(LabError, match=r"alone: boot: QEMU ended with exit code|virtme-run failed"), lab:
        pytest.fail("a machine without a kernel")
    assert not lab.folder.exists()


def test_not_even_a_machine_that_hangs_outlives_a_killed_test_process(image: Image) -> None:
    """Hanging, it cannot see that the host is gone, and end by itself."""
    child = subprocess.Popen(
        [sys.executable, "-c", _STARTS_A_LAB, image.kernel.name],
        env={**os.environ, "PYTHONPATH": str(PROJECT / "vmtests")},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout is not None
    try:
        assert select.select([child.stdout], [], [], _BOOT)[0], "the child's lab is not up"
        folder, number = child.stdout.readline().split()
        qemu = os.pidfd_open(int(number))
        signal.pidfd_send_signal(qemu, signal.SIGSTOP)
    finally:
        child.kill()
        child.wait()
        child.stdout.close()
    shutil.rmtree(folder)  # nobody is left who would
    ended = bool(select.select([qemu], [], [], _PATIENCE)[0])
    if not ended:
        signal.pidfd_send_signal(qemu, signal.SIGKILL)
    os.close(qemu)
    assert ended


def test_qemu_missing_is_told_before_anything_is_started(
    image: Image, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    lab = Lab(_ALONE, image)
    with pytest.raises(LabError, match=r"^qemu-system-x86_64 is not installed: apt-get install"), lab:
        pytest.fail("a lab without QEMU")
    assert not lab.machines
    assert not lab.folder.exists()


def test_virtme_ng_missing_is_told(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "/usr/bin/python3")
    with pytest.raises(
        LabError, match=r"^virtme-ng is not installed beside /usr/bin/python3: scripts/setup vm"
    ):
        Lab(_ALONE, image).__enter__()


def test_a_kernel_of_an_archive_that_the_host_has_no_mirror_of_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel = Kernel("old", "etch", "No-Such-Archive", "linux-image-amd64", (), ())
    with pytest.raises(
        NotFetched, match=r"^kernel old: .* no source with the label No-Such-Archive, so .* etch"
    ):
        kernels.fetch(kernel)
    assert _kept(tmp_path) == ["old.lock"]


def test_a_kernel_of_a_mirror_that_does_not_answer_is_not_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr(kernels.Apt, "_mirror", lambda _: f"file:{tmp_path}/nothing-here")
    kernel = Kernel("old", "etch", "Debian", "linux-image-amd64", (), ())
    with pytest.raises(NotFetched, match=r"^kernel old: apt-get failed with 100: E"):
        kernels.fetch(kernel)
    assert _kept(tmp_path) == ["old.lock"]


def _kept(cache: Path) -> list[str]:
    return sorted(path.name for path in (cache / "xdpguard" / "kernels").iterdir())


def _ends(descriptor: int) -> bool:
    """Has the process of a pidfd ended, or does it within the time?"""
    try:
        return bool(select.select([descriptor], [], [], _PATIENCE)[0])
    finally:
        os.close(descriptor)
