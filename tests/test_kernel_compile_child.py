"""Bytecode that a child compiles, so that this process never holds the compiler."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from xdpguard.errors import KernelError
from xdpguard.kernel import kept
from xdpguard.kernel.compile import PASS, Source, bytecode_by_child

SCRIPT = """
import sys
from pathlib import Path
from xdpguard.kernel import compile, kept
kept.FOLDER = Path(sys.argv[1])
traced = compile.Source("trace/processes.c", "xdpguard_exit", tuple(sys.argv[2:]))
code = compile.bytecode_by_child([compile.PASS, traced])
assert "bcc" not in sys.modules
print(*(len(one) for one in code.values()))
"""
DEFINES = ["XG_ARG_SCHED_PROCESS_FORK_CHILD=1", "XG_ARG_SCHED_PROCESS_EXEC_P=0"]
DEFINES += ["XG_ARG_SCHED_PROCESS_EXEC_BPRM=2", "XG_ARG_SCHED_PROCESS_EXIT_P=0"]

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("bcc") is None, reason="no C compiler for BPF: python3-bpfcc is not installed"
)


def test_what_is_missing_is_compiled_by_a_child_and_kept(tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    sizes = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT, str(cache), *DEFINES], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        sizes.append([int(size) for size in done.stdout.split()])
        assert len(list(cache.iterdir())) == 2
    assert sizes[0] == sizes[1]
    assert all(size and size % 8 == 0 for size in sizes[0])


def test_programs_of_former_versions_are_not_kept_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    for number in range(300):
        former = tmp_path / f"former-{number}.bpf"
        former.touch()
        os.utime(former, (number, number))
    bytecode_by_child([PASS])
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 256
    assert left >= {f"former-{number}.bpf" for number in range(45, 300)}


def test_what_cannot_be_kept_is_given_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path / "file" / "cache")
    (tmp_path / "file").write_text("no folder")
    assert len(bytecode_by_child([PASS])[PASS]) % 8 == 0


def test_what_the_child_cannot_compile_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kept, "FOLDER", tmp_path)
    with pytest.raises(KernelError, match=r"^compile bpf/xdp/pass.c: .*; nothing changed$"):
        bytecode_by_child([Source("xdp/pass.c", "no_such_function")])
    assert capfd.readouterr().out == ""
