"""Whatever a rule file holds, ``check`` ends with exit code 0 or 1, in clean lines, soon and small."""

from __future__ import annotations

import io
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from random import Random
from typing import NamedTuple

import pytest
from damaged_files import MIB, damaged, good, largest_files, much_from_little, seeds
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from reached import Figures

from xdpguard.cli.main import main

GOOD, SEEDS = good(), seeds()
SECONDS, KIB = 5, 256 << 10
FILES, SOAK_FILES = 1500, 200_000
"""Damaged files of a default run and of a soak."""
DAMAGED = "damaged rule files checked"
NAME = "case.yaml"
FINDING = re.compile(r".+?(:\d+:\d+)?: (error|warning|note): \S")
"""Most are of the file itself, some of a file that it names."""
LARGEST = largest_files() | much_from_little()


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder: a rule file that names another one finds none of the tree's."""
    made, before = tmp_path_factory.mktemp("fuzz"), Path.cwd()
    os.chdir(made)
    yield made
    os.chdir(before)


def check(data: bytes) -> Said:
    Path(NAME).write_bytes(data)
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["check", NAME])
    return Said(code, out.getvalue(), err.getvalue())


def is_clean(said: Said) -> None:
    """Accepted or refused, in lines that each are one finding and can be printed."""
    assert said.code in (0, 1), said
    lines = said.err.splitlines()
    for line in lines:
        assert line.isprintable(), said
        assert len(line) < 2000, said
        assert FINDING.match(line), said
    refused = any(": error: " in line for line in lines)
    assert refused == (said.code == 1), said
    assert said.out.startswith(f"{NAME}: ok, ") == (said.code == 0), said


numbers = st.integers(0, 2**64 - 1)
fuzzed = settings(deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)


@given(st.binary(max_size=300), numbers)
@settings(fuzzed, max_examples=300)
def test_any_bytes_among_those_of_a_file_are_accepted_or_refused(
    folder: Path, data: bytes, number: int
) -> None:
    seed = SEEDS[number % len(SEEDS)]
    at = number % (len(seed) + 1)
    is_clean(check(data))
    is_clean(check(seed[:at] + data + seed[at:]))


def damage(files: int, seed: int) -> tuple[int, int]:
    """How many of so many damaged files were accepted and refused."""
    rng, codes = Random(seed), [0, 0]
    for _ in range(files):
        data = damaged(rng.choice((rng.choice(GOOD), rng.choice(SEEDS))), rng.choice(SEEDS), rng)
        said = check(data)
        try:
            is_clean(said)
        except AssertionError as error:
            raise AssertionError(f"{data!r}\n{error}") from None
        codes[said.code] += 1
    return codes[0], codes[1]


def test_damaged_files_are_accepted_or_refused(folder: Path, figures: Figures) -> None:
    accepted, refused = damage(FILES, 1)
    figures.add(DAMAGED, accepted + refused)
    assert accepted > FILES // 50
    assert refused > FILES // 2


@pytest.mark.soak
def test_many_damaged_files_are_accepted_or_refused(folder: Path, figures: Figures) -> None:
    accepted, refused = damage(SOAK_FILES, 2)
    figures.add(DAMAGED, accepted + refused)
    assert accepted + refused == SOAK_FILES


# ---- time and memory --------------------------------------------------------------------------------------
CHILD = f"""
import resource, sys
resource.setrlimit(resource.RLIMIT_CPU, ({SECONDS}, {SECONDS}))
resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
from xdpguard.cli.main import main
code = main(["check", {NAME!r}])
peak = next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM"))
open("peak", "w").write(peak)
sys.exit(code)
"""
"""The peak is read inside: the kernel's own account of a child begins with its parent's size."""


@pytest.mark.parametrize("name", LARGEST)
def test_a_file_of_a_megabyte_takes_5_seconds_and_256_mib_at_most(folder: Path, name: str) -> None:
    data = LARGEST[name]
    assert len(data) <= MIB
    (folder / NAME).write_bytes(data)
    done = subprocess.run([sys.executable, "-c", CHILD], cwd=folder, capture_output=True, text=True)
    is_clean(Said(done.returncode, done.stdout, done.stderr))
    assert int((folder / "peak").read_text()) <= KIB
