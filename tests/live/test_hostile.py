"""Hostile situations through the console script: exit code, one line that tells why, the host unchanged."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import lab as network
import pytest
from lab import Lab, inside
from test_lifecycle_support import (
    CLEAN,
    CONSOLE,
    TOGGLED,
    Done,
    Site,
    await_state,
    dropping,
    keep_judges,
    run,
    state,
)  # fmt: skip

from xdpguard.cli import main
from xdpguard.errors import KernelError, NotLoadedError
from xdpguard.generation import slots
from xdpguard.guard import attach, preflight, stage, targets
from xdpguard.kernel import bpf, link, lock, maps, pins, tc, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED
Program = Callable[..., int]


@pytest.fixture
def site(lab: Lab, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    keep_judges(monkeypatch)
    one = Site.of(lab.veth(ipv6=False), tmp_path)
    yield one
    try:
        one.unload()
    except NotLoadedError:
        pass  # the test unloaded, or loaded nothing


def ingress(*rules: str) -> str:
    return "version: 1\ningress:\n" + "".join(f"  - {rule}\n" for rule in rules)


# --- rule files ---------------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[str | bytes, str]] = {
    "unknown action": (ingress("{name: a, action: reject}"), "rules.yaml:3:23: error: "),
    "port 70000": (ingress("{name: a, proto: tcp, dport: 70000, action: drop}"), "65535"),
    "range backwards": (ingress("{name: a, proto: tcp, dport: 9-1, action: drop}"), "9-1"),
    "unknown set": (ingress('{name: a, src: "@nosuch", action: drop}'), "nosuch"),
    "duplicate name": (ingress("{name: a, action: drop}", "{name: a, action: pass}"), "duplicate rule name"),
    "duplicate key": (ingress("{name: a, action: drop, action: pass}"), "duplicate key"),
    "empty": ("", "rules.yaml"),
    "100,000 brackets": ("[" * 100_000, "rules.yaml"),
    "binary garbage": (bytes(range(256)) * 64, "rules.yaml"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_refused_rule_file_names_its_place_and_changes_nothing(site: Site, case: str) -> None:
    content, expected = REFUSED[case]
    path = site.write("")
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = site.console("load", path).refusal(1)
    assert "rules.yaml" in line
    assert expected in line
    assert state(site.end) == CLEAN


def test_a_rule_file_that_others_can_write_or_nobody_can_read_is_refused(site: Site) -> None:
    path = site.write(dropping(A))
    path.chmod(0o666)
    assert "mode 0666" in site.console("load", path).refusal(1)
    path.unlink()
    assert "No such file" in site.console("load", path).refusal(1)
    path.mkdir()
    assert "is a folder" in site.console("load", path).refusal(1)
    assert state(site.end) == CLEAN


def test_host_bits_of_a_prefix_are_accepted_and_told(site: Site) -> None:
    done = site.console("load", site.write(ingress("{name: a, src: 192.0.2.77/24, action: pass}")))
    assert done.code == 0
    assert "192.0.2.0/24" in done.err


# --- interfaces and callers ---------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["load", "confirm", "rollback", "unload", "status", "stats"])
def test_a_missing_interface_or_namespace_is_named(site: Site, command: str) -> None:
    rules = [site.write(dropping(A))] if command == "load" else []
    there = [CONSOLE, command, *rules, "--netns", site.end.name, "-i", "nosuch"]
    assert "no such interface: nosuch" in run(*there).refusal(4)
    elsewhere = [CONSOLE, command, *rules, "--netns", "no-such-netns", "-i", site.end.dev]
    assert "no such network namespace: no-such-netns" in run(*elsewhere).refusal(4)


AS_NOBODY = """
import os, sys
import xdpguard.classify.compile, xdpguard.cli.commands, xdpguard.guard.load, xdpguard.guard.status
import xdpguard.guard.verbs, xdpguard.rules.parse, xdpguard.stats.read, xdpguard.ui.status
from xdpguard.cli import main
from xdpguard.kernel import netns
def command():
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
    return main.main(sys.argv[2:])
sys.exit(netns.inside(sys.argv[1], lambda: os._exit(command())))
"""


@pytest.mark.parametrize("command", ["load", "confirm", "rollback", "unload", "status", "stats"])
def test_without_root_every_command_says_so(site: Site, command: str) -> None:
    if command != "load":
        site.load(dropping(A))
    before = state(site.end)
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(dropping(B))
        file.flush()
        Path(file.name).chmod(0o644)
        rules = [file.name] if command == "load" else []
        done = run(sys.executable, "-c", AS_NOBODY, site.end.name, command, "-i", site.end.dev, *rules)
    assert "root" in done.refusal(3)
    assert state(site.end) == before


STEPS: dict[str, tuple[object, str]] = {
    "before the maps": (maps, "create"),
    "before the preflight": (preflight, "run"),
    "before the pins": (pins, "pin"),
    "before the programs": (attach, "put"),
    "before clsact": (tc, "add_clsact"),
    "before the filter": (tc, "add"),
    "after the programs": (targets, "prepare"),
}


@pytest.mark.parametrize("step", STEPS)
def test_an_interface_that_vanishes_during_a_load_is_told_and_leaves_nothing(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], step: str
) -> None:
    owner, name = STEPS[step]
    original = getattr(owner, name)

    def vanish(*arguments: object, **options: object) -> object:
        network.run(site.end.name, "ip", "link", "del", site.end.dev)
        return original(*arguments, **options)

    monkeypatch.setattr(owner, name, vanish)
    assert main.main(site.words("load", site.write(dropping(A)))) == 4
    lines = [line for line in capsys.readouterr().err.splitlines() if "error: " in line]
    assert len(lines) == 1
    assert "vanished" in lines[0]
    await_state(site.end, lambda found: found == CLEAN)


def test_a_device_that_refuses_native_mode_is_named(site: Site) -> None:
    network.run(site.end.name, *f"ip link add link {site.end.dev} name m0 type macvlan".split())
    command = [CONSOLE, "load", "-i", "m0", "--netns", site.end.name, "--mode", "native"]
    line = run(*command, site.write(dropping(A))).refusal(7)
    assert "cannot attach a native XDP program to m0" in line
    assert line.endswith("nothing changed")
    assert inside(site.end.name, link.find, "m0").xdp == ()


SINGLE_BUFFER = """
from xdpguard.guard import programs
from xdpguard.kernel import bpf, compile, program
def load(bound, numbers, statistics):
    return program.load(compile.INGRESS, bpf.PROG_XDP, bound, numbers, statistics=statistics), False
programs._load_ingress = load
"""
"""As on a kernel before 5.18. With multi-buffer programs a veth takes every MTU that it can have."""


def patched(patch: str, words: list[str]) -> Done:
    """The command in a process of its own in which ``patch`` has run."""
    script = f"import sys\n{patch}\nfrom xdpguard.cli import main\nsys.exit(main.main(sys.argv[1:]))"
    return run(sys.executable, "-c", script, *words)


def test_an_mtu_beyond_the_drivers_limit_is_named(lab: Lab, tmp_path: Path) -> None:
    site = Site.of(lab.veth(ipv6=False, mtu=9000), tmp_path)
    rules = site.write(dropping(A))
    line = patched(SINGLE_BUFFER, site.words("load", rules, "--mode", "native")).refusal(7)
    assert f"cannot attach a native XDP program to {site.end.dev} (MTU 9000)" in line
    assert line.endswith("nothing changed")
    await_state(site.end, lambda found: found == CLEAN)
    done = patched(SINGLE_BUFFER, site.words("load", rules))
    assert (done.code, "trying generic" in done.err) == (0, True), done.err
    site.unload()


# --- foreign programs ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_another_xdp_program_is_named_and_left_alone(site: Site, program: Program, mode: str) -> None:
    fd = program(bpf.PROG_XDP)
    inside(site.end.name, xdp.attach, site.end.ifindex, fd, mode)
    before = state(site.end)
    for arguments in ((), ("--force",), ("--mode", "generic"), ("--mode", "native")):
        line = site.console("load", site.write(dropping(A)), *arguments).refusal(5)
        assert f"another XDP program (id {bpf.prog_info(fd).id}, {mode})" in line
        assert line.endswith("nothing changed")
        assert state(site.end) == before
    assert "is not loaded there" in site.console("unload").refusal(4)
    assert state(site.end) == before


@pytest.mark.parametrize(("priority", "handle"), [(16, "0x1"), (16, "0x2"), (3, "0x1")])
def test_another_tc_filter_in_our_place_or_before_ours_is_named_and_left_alone(
    site: Site, program: Program, priority: int, handle: str
) -> None:
    fd = program(bpf.PROG_SCHED_CLS)
    number = bpf.prog_info(fd).id
    with network.inside(site.end.name, pinned, fd) as path:
        network.run(site.end.name, *f"tc qdisc add dev {site.end.dev} clsact".split())
        where = f"dev {site.end.dev} egress prio {priority} handle {handle}"
        network.run(site.end.name, *f"tc filter add {where} bpf da object-pinned {path}".split())
    before = state(site.end)
    line = site.console("load", site.write(dropping(A)), "--force").refusal(5)
    assert f"program id {number}, priority {priority}" in line
    assert line.endswith("nothing changed")
    await_state(site.end, lambda found: found == before)


class pinned:
    """A program's pin for ``tc``, gone at the end."""

    def __init__(self, fd: int) -> None:
        self._fd, self._path = fd, pins.BPFFS / f"{network.RUN}filter"

    def __enter__(self) -> Path:
        bpf.obj_pin(self._fd, self._path)
        return self._path

    def __exit__(self, *_: object) -> None:
        self._path.unlink()


def test_an_ingress_qdisc_in_the_place_of_clsact_is_named(site: Site) -> None:
    network.run(site.end.name, *f"tc qdisc add dev {site.end.dev} ingress".split())
    line = site.console("load", site.write(dropping(A))).refusal(5)
    assert "a qdisc of kind ingress is in its place; nothing changed" in line
    await_state(site.end, lambda found: found == CLEAN)


# --- redirect targets ---------------------------------------------------------------------------------------


def test_a_redirect_target_that_is_missing_or_unable_is_named_with_its_rule(site: Site, lab: Lab) -> None:
    lab.veth(client=site.end.name, ipv6=False)  # c1, whose peer takes no frames from XDP
    for target, code in (("nosuch", 4), ("c1", 6)):
        text = dropping(A, more=f"{{name: away, action: {{redirect: {{interface: {target}}}}}}}")
        line = site.console("load", site.write(text)).refusal(code)
        assert "rules.yaml:6:" in line
        assert "away" in line
        assert target in line
        assert line.endswith("nothing changed")
        await_state(site.end, lambda found: found == CLEAN)


# --- the bpf file system ------------------------------------------------------------------------------------


def unmounted(script: str, *arguments: object) -> Done:
    """Run in a mount namespace of its own, where no bpf file system is."""
    return run("unshare", "--mount", "sh", "-c", f"umount -l /sys/fs/bpf && {script}", "sh", *arguments)


def test_a_missing_bpf_file_system_is_mounted_and_told(site: Site) -> None:
    words = site.words("load", site.write(dropping(A)))
    look = site.words("status")
    script = f'{CONSOLE} "$@" && {CONSOLE} {" ".join(look)} && {CONSOLE} {" ".join(site.words("unload"))}'
    done = unmounted(script, *words)
    assert done.code == 0, done.err
    assert "mounted the bpf file system on /sys/fs/bpf" in done.err
    assert "as loaded" in done.out
    await_state(site.end, lambda found: found == CLEAN)


def test_without_the_bpf_file_system_a_rollback_works_and_tells_that_pins_are_missing(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B))
    done = unmounted(f'exec {CONSOLE} "$@"', *site.words("rollback"))
    assert done.code == 0, done.err
    assert "the maps stay without pins (verdicts go on)" in done.err
    assert site.verdicts() == {A}


@pytest.mark.parametrize(
    ("script", "code"),
    [("exec setpriv --bounding-set -sys_admin", 3), ("mount -t tmpfs none /sys/fs && exec", 7)],
    ids=["not permitted", "no folder"],
)
def test_a_bpf_file_system_that_cannot_be_mounted_is_told_with_the_command(
    site: Site, script: str, code: int
) -> None:
    done = unmounted(f'{script} {CONSOLE} "$@"', *site.words("load", site.write(dropping(A))))
    line = done.refusal(code)
    assert "no bpf file system on /sys/fs/bpf and mounting it failed" in line
    assert "(mount -t bpf bpf /sys/fs/bpf); nothing changed" in line
    assert state(site.end) == CLEAN


# --- memory -------------------------------------------------------------------------------------------------


NO_MEMORY = """
from xdpguard.kernel import bpf
create, made = bpf.map_create, []
def limited(*arguments, **options):
    made.append(1)
    if len(made) > 3:
        raise OSError(12, "Cannot allocate memory")
    return create(*arguments, **options)
bpf.map_create = limited
"""


@pytest.mark.parametrize("loaded", [False, True], ids=["first load", "larger maps"])
def test_no_memory_for_maps_is_told_and_changes_nothing(site: Site, loaded: bool) -> None:
    if loaded:
        site.load(dropping(A))
    before = state(site.end)
    line = patched(NO_MEMORY, site.words("load", site.write(dropping(B, filler=500)))).refusal(7)
    assert "no memory for maps or programs (limit of the cgroup or RLIMIT_MEMLOCK); nothing changed" in line
    await_state(site.end, lambda found: found == before)


def test_a_real_memory_limit_leaves_the_rules_before_in_force(site: Site) -> None:
    folder = memory_cgroup()
    text = dropping(B, filler=500, addresses=100_000)
    site.load(dropping(A))
    before = state(site.end)
    try:
        words = site.words("load", site.write(text))
        assert limited(folder, words).code == 0
        needed = int((folder / PEAK[(folder / PEAK[0]).exists() - 1]).read_text())
        site.rollback()
        site.unload()
        site.load(dropping(A))
        before = state(site.end)
        limit = LIMIT[(folder / LIMIT[0]).exists() - 1]
        (folder / limit).write_text(str(needed - (16 << 20)))  # of the 32 MiB that the blobs take
        done = limited(folder, words)
        if done.code != -signal.SIGKILL:  # or the kernel ends the process, whose own memory counts too
            assert "no memory" in done.refusal(7)
        await_state(site.end, lambda found: found.xdp == before.xdp and found.word == before.word)
        assert site.verdicts() == {A}
    finally:
        folder.rmdir()


PEAK = ("memory.max_usage_in_bytes", "memory.peak")
LIMIT = ("memory.limit_in_bytes", "memory.max")
"""Of cgroup v1 and v2."""


def memory_cgroup() -> Path:
    for parent in (Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")):
        folder = parent / f"{network.RUN}memory"
        try:
            folder.mkdir()
        except OSError:
            continue
        if any((folder / name).exists() for name in LIMIT):
            return folder
        folder.rmdir()
    pytest.skip("no memory cgroup can be made here")


def limited(folder: Path, words: list[str]) -> Done:
    """The command in that cgroup."""
    return run("sh", "-c", f'echo $$ > {folder}/cgroup.procs && exec "$@"', "sh", CONSOLE, *words)


def test_no_memory_to_compile_the_rules_is_told(
    site: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def build(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr(stage, "build", build)
    assert main.main(site.words("load", site.write(dropping(A)))) == 7
    assert "rules.yaml: no memory to compile 6 rules; nothing changed" in capsys.readouterr().err
    assert state(site.end) == CLEAN


# --- commands at once ---------------------------------------------------------------------------------------


def test_two_loads_at_once_are_done_one_after_the_other(site: Site) -> None:
    words = [CONSOLE, *site.words("load", site.write(dropping(A)))]
    both = [
        subprocess.Popen([str(word) for word in words], stderr=subprocess.PIPE, text=True) for _ in range(2)
    ]
    said = [process.communicate(timeout=60)[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sorted("generation 3" in text for text in said) == [False, True]
    assert site.status().problems == ()
    assert len(state(site.end).sets) == 1


def test_a_command_that_waits_too_long_names_the_holder_of_the_lock(site: Site) -> None:
    words = [CONSOLE, *site.words("load", site.write(dropping(A)))]

    def waiting() -> str:
        with lock.held([link.find(site.end.dev)], "xdpguard rollback"):
            return run(*words).refusal(7)

    line = inside(site.end.name, waiting)
    holder = f"xdpguard rollback (pid {os.getpid()}) holds the lock of {site.end.dev}"
    assert f"{holder}; waited 5 s; nothing changed" in line
    assert state(site.end) == CLEAN


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_command_that_waits(site: Site, number: signal.Signals) -> None:
    words = [str(CONSOLE), *site.words("load", site.write(dropping(A)))]

    def waiting() -> tuple[int, str]:
        with lock.held([link.find(site.end.dev)], "xdpguard rollback"):
            with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as process:
                await_lock_file(process)
                process.send_signal(number)
                _, said = process.communicate(timeout=60)
            return process.returncode, said

    code, said = inside(site.end.name, waiting)
    assert (code, said.count("\n")) == (130, 1), said
    assert "interrupted before anything was in force; nothing changed" in said
    assert state(site.end) == CLEAN


def await_lock_file(process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + network.PATIENCE
    folder = Path(f"/proc/{process.pid}/fd")
    while not any(target(path).endswith(".lock") for path in folder.iterdir()):
        assert time.monotonic() < deadline
        assert process.poll() is None


def target(path: Path) -> str:
    try:
        return str(path.readlink())
    except FileNotFoundError:
        return ""  # closed meanwhile


def test_an_error_of_the_kernel_without_words_of_ours_gets_a_sentence(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))

    def refuse(*_: object) -> int:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(slots, "normalise", refuse)
    expected = r"^xdpguard rollback: Input/output error \(EIO\); `xdpguard status` tells what is loaded now$"
    with pytest.raises(KernelError, match=expected):
        site.rollback()
    monkeypatch.undo()
    assert site.verdicts() == {A}
