"""What the lab reads and writes, without a boot: topologies, kernels.toml, boot plans, docs/kernels.md."""

from __future__ import annotations

import itertools
import os
import shlex
import sys
from pathlib import Path

import pytest
from vmlab import boot, kernels, kernels_command, machine, report, topology
from vmlab.errors import LabError, NotFetched
from vmlab.kernels import Kernel
from vmlab.lab import _network_script
from vmlab.report import Row
from vmlab.topology import Interface, Machine
from vmlab.trial import FEATURES, PROGRAMS

TABLE = kernels_command.TABLE
LIMITATIONS = boot.PROJECT / "docs" / "limitations.md"
LISTED = pytest.mark.parametrize("kernel", kernels.listed(), ids=lambda kernel: kernel.name)

_VIRTME = """/usr/bin/qemu-system-x86_64 -fsdev local,id=virtfs1,path=/,readonly=on
 -device virtio-9p-pci,fsdev=virtfs1,mount_tag=/dev/root -device i6300esb,id=watchdog0 -machine q35 -cpu max
 -m 1G -smp 2 -net none -serial chardev:console -chardev file,id=console,path=/proc/self/fd/2
 -chardev stdio,id=stdin,signal=on,mux=off -device virtio-serial-pci
 -device virtserialport,name=virtme.stdin,chardev=stdin -no-reboot -kernel /cache/vmlinuz
 -append 'console=ttyS0 virtme.exec=`YmFzaA==` panic=-1' -initrd /tmp/initramfs"""


def _topology(folder: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "made.yaml").write_text(text)
    monkeypatch.setattr(topology, "FOLDER", folder)


def test_a_topology_holds_machines_interfaces_and_links(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _topology(
        tmp_path,
        """
        left: {interfaces: {a0: {link: wire, mac: "02:00:00:00:00:01", addresses: [192.0.2.1/24]}}, cpus: 2}
        right:
          forward: true
          interfaces:
            b0: {link: wire, mac: "02:00:00:00:00:02", capture: true}
            b1: {mac: "02:00:00:00:00:03"}
          routes: ["198.51.100.0/24 via 192.0.2.1"]
        """,
        monkeypatch,
    )
    found = topology.read("made")
    assert found.machines["left"] == Machine(
        "left", (Interface("a0", "02:00:00:00:00:01", "wire", ("192.0.2.1/24",)),), cpus=2
    )
    right = found.machines["right"]
    assert (right.forward, right.routes, right.cpus) == (True, ("198.51.100.0/24 via 192.0.2.1",), 1)
    assert [(one.name, one.link, one.capture) for one in right.interfaces] == [
        ("b0", "wire", True),
        ("b1", None, False),
    ]
    assert found.links() == {"wire": [("left", "a0"), ("right", "b0")]}


@pytest.mark.parametrize("ends", [1, 3])
def test_a_link_joins_two_interfaces(ends: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    machines = [
        f'm{n}: {{interfaces: {{a0: {{link: wire, mac: "02:00:00:00:00:0{n}"}}}}}}' for n in range(ends)
    ]
    _topology(tmp_path, "\n".join(machines), monkeypatch)
    with pytest.raises(LabError, match=rf"^made.yaml: link wire has {ends} ends; a link joins two$"):
        topology.read("made")


def test_an_unknown_topology_is_told_with_those_that_there_are() -> None:
    with pytest.raises(LabError, match=r"^no topology called ring; there are pair, redirect, single"):
        topology.read("ring")


@pytest.mark.parametrize("name", topology.available())
def test_every_topology_can_be_read_and_no_two_interfaces_share_a_mac_address(name: str) -> None:
    machines = topology.read(name).machines.values()
    macs = [interface.mac for machine in machines for interface in machine.interfaces]
    assert len(set(macs)) == len(macs) > 0


def test_interfaces_get_their_names_by_mac_address_and_ipv6_addresses_at_once() -> None:
    interface = Interface("a0", "02:00:00:00:00:01", None, ("192.0.2.1/24", "2001:db8::1/64"))
    script = _network_script(Machine("m", (interface,), ("2001:db8:1::/64 via 2001:db8::2",)))
    assert "grep -qi '02:00:00:00:00:01'" in script
    assert "ip address add 2001:db8::1/64 dev a0 nodad" in script
    assert "ip -6 route add 2001:db8:1::/64 via 2001:db8::2" in script
    assert "forward" not in script


def test_the_list_of_kernels_is_read_from_its_file(tmp_path: Path) -> None:
    entry = (
        'name = "9.9"\nsuite = "next"\narchive = "Debian"\npackage = "linux"\nmust = ["btf"]\nlacks = []\n'
    )
    (tmp_path / "list.toml").write_text(f"[[kernel]]\n{entry}")
    assert kernels.listed(tmp_path / "list.toml") == (Kernel("9.9", "next", "Debian", "linux", ("btf",), ()),)


def test_an_unknown_kernel_is_told_with_those_that_there_are() -> None:
    with pytest.raises(
        NotFetched, match=r"^kernel 2.4: not in kernels.toml; there are 5.10, 6.1, 6.12, newest$"
    ):
        kernels.by_name("2.4")


def test_the_command_tells_an_unknown_kernel_in_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["vmtests/kernels", "fetch", "2.4"])
    assert kernels_command.main() == 1
    assert capsys.readouterr().err.startswith("vmtests/kernels: error: kernel 2.4: not in kernels.toml")


def test_of_virtmes_plan_the_root_file_system_and_the_console_are_kept() -> None:
    kept, command_line = boot._kept(shlex.split(_VIRTME))
    assert command_line == "console=ttyS0 virtme.exec=`YmFzaA==` panic=-1"
    assert shlex.join(kept) == (
        "/usr/bin/qemu-system-x86_64 -fsdev local,id=virtfs1,path=/,readonly=on "
        "-device virtio-9p-pci,fsdev=virtfs1,mount_tag=/dev/root -machine q35 -cpu max -net none "
        "-serial chardev:console -chardev file,id=console,path=/proc/self/fd/2 -no-reboot "
        "-kernel /cache/vmlinuz -initrd /tmp/initramfs"
    )


@pytest.mark.parametrize("cpus", [1, 2])
def test_all_cpus_of_a_machine_are_emulated_by_one_thread(cpus: int, tmp_path: Path) -> None:
    """Of QEMU's arguments, as a program in its place got them."""
    spec = Machine("host", cpus=cpus)
    with machine.Machine(spec, boot.Plan(("echo",), ""), [], tmp_path) as made:
        os.waitid(os.P_PID, made.pid, os.WEXITED | os.WNOWAIT)
    arguments = shlex.split(made.console.read_text())
    options = dict(itertools.pairwise(arguments))
    assert (options["-accel"], options["-smp"]) == ("tcg,thread=single", str(cpus))
    assert arguments.count("-accel") == 1


@LISTED
def test_every_feature_is_either_a_must_or_known_to_be_lacking(kernel: Kernel) -> None:
    assert sorted(kernel.must + kernel.lacks) == sorted(FEATURES)


@LISTED
def test_what_a_kernel_lacks_has_a_line_in_the_limitations_that_names_it(kernel: Kernel) -> None:
    _, _, section = LIMITATIONS.read_text().partition("\n## Older kernels\n")
    lines = [line for line in section.partition("\n## ")[0].splitlines() if line.startswith("- **")]
    named = {line.split("**")[1]: line.split("(")[1].split(")")[0].split(", ") for line in lines}
    assert [name for name in kernel.lacks if kernel.name not in named.get(name, [])] == []
    assert [name for name, names in named.items() if kernel.name in names and name not in kernel.lacks] == []


def test_the_table_of_kernels_is_as_the_generator_writes_it_and_names_every_kernel() -> None:
    _, rows = report.read(TABLE.read_text())
    assert [row.name for row in rows] == [kernel.name for kernel in kernels.listed()]


@LISTED
def test_the_table_says_what_the_list_of_kernels_says(kernel: Kernel) -> None:
    _, rows = report.read(TABLE.read_text())
    [row] = [row for row in rows if row.name == kernel.name]
    if not row.works:
        pytest.skip(f"{TABLE.name}: {kernel.name}: {row.release}")
    assert {name for name, works in row.works.items() if works} == set(kernel.must)


def test_a_table_is_read_back_as_it_was_written() -> None:
    works = dict.fromkeys(FEATURES, True)
    numbers = dict.fromkeys(PROGRAMS, "1,234")
    rows = [
        Row("one", "5.5.5", numbers, works | {"btf": False}),
        report.not_tried("two", "kernel two: no mirror"),
        Row("three", "6.6.6", numbers | {"xdp-multi": "not on this kernel"}, works),
    ]
    text = report.render("a compiler 1.0", rows)
    assert f"| two | not tried: kernel two: no mirror |{' - |' * len(PROGRAMS)}" in text
    assert "| `btf`: the kernel describes its types (BTF) | no | - | yes |" in text
    assert report.read(text) == ("a compiler 1.0", rows)


def test_a_table_that_was_edited_is_refused() -> None:
    text = report.render("a compiler 1.0", [])
    with pytest.raises(LabError, match=r"not as vmtests/kernels table writes it"):
        report.read(text.replace("What works", "What does not"))
