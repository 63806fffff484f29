"""A hostile host: no bpf file system, no memory, two commands at once, signals, errors nobody expects."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import inside
from test_lifecycle_support import CONSOLE, TOGGLED, Done, Site, dropping, patched, run

from xdpguard.cli import main
from xdpguard.errors import KernelError
from xdpguard.generation import slots
from xdpguard.kernel import link, lock

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED


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
        # Of the 32 MiB that the blobs take. The files that a load writes count too, but can be let go.
        (folder / limit).write_text(str(needed - (28 << 20)))
        site.write(f"{text}# to be compiled again\n")
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
    def draft(*_: object) -> object:
        raise MemoryError

    monkeypatch.setattr("xdpguard.classify.compile.draft", draft)
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


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
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
