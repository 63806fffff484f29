"""Known defects put back into a copy of the tree, one at a time: a named test must fail there.

Each tests/mutants/NN-name.patch says in a sentence what it breaks, and which test kills it. The same tests
pass in a copy that nobody has touched. A patch that no longer applies fails as well: make it again.

At work are as many copies at once as there are CPUs, each on a CPU of its own.
"""

from __future__ import annotations

import os
import queue
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
from reached import Figures

ROOT = Path(__file__).resolve().parents[3]
FOLDER = ROOT / "tests" / "mutants"
COPIED = ("bpf", "xdpguard", "tests", "rules", "pyproject.toml")
KILLER = re.compile(r"^Killed by: (\S.*)$", re.M)
# What a test says when the verdict, the counts or the bytes of a packet are wrong. A program that does not
# compile, that the verifier refuses, or a test that is not found kills nothing.
KILLED = re.compile(r"^FAILED .* - (AssertionError|assert |test_verdicts_support\.Disagreement)", re.M)
UNTOUCHED = "no mutant"
PATIENCE = 300


@dataclass(frozen=True, slots=True)
class Mutant:
    name: str
    patch: Path | None
    tests: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Ended:
    code: int
    output: str


def read(patch: Path) -> Mutant:
    named = KILLER.search(patch.read_text())
    assert named, f"{patch.name} has no line 'Killed by: TEST'"
    return Mutant(patch.stem, patch, (named[1],))


MUTANTS = tuple(read(patch) for patch in sorted(FOLDER.glob("[0-9][0-9]-*.patch")))
ALL = (
    Mutant(UNTOUCHED, None, tuple(sorted({test for each in MUTANTS for test in each.tests}))),
    *MUTANTS,
)


def run(mutant: Mutant, scratch: Path, cpu: int) -> Ended:
    """The mutant's tests in a copy of the tree, on one CPU."""
    copy = scratch / mutant.name.replace(" ", "-")
    copy.mkdir()
    for name in COPIED:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, copy / name)
    if mutant.patch is not None:
        applied = subprocess.run(
            ["git", "apply", "--whitespace=nowarn", str(mutant.patch)],
            cwd=copy,
            env=os.environ | {"GIT_CEILING_DIRECTORIES": str(scratch)},
            capture_output=True,
            text=True,
        )
        if applied.returncode:
            return Ended(applied.returncode, f"the patch does not apply: {applied.stderr}")
    command = ["taskset", "-c", str(cpu), sys.executable, "-m", "pytest", "-q", "-x", "-p", "cache"]
    command += ["-p", "no:cacheprovider", "--tb=short", *(f"tests/live/{test}" for test in mutant.tests)]
    kept = os.pathsep.join((str(copy), str(FOLDER)))
    environment = os.environ | {"PYTHONPATH": kept, "MUTANT_CACHE": str(copy / "cache"), "COLUMNS": "200"}
    environment["PYTHONDONTWRITEBYTECODE"] = "1"
    done = subprocess.run(
        command, cwd=copy, env=environment, capture_output=True, text=True, timeout=PATIENCE
    )
    shutil.rmtree(copy)
    return Ended(done.returncode, done.stdout + done.stderr)


@pytest.fixture(scope="module")
def runs(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Future[Ended]]]:
    """Those of the mutants that are asked for, all begun at once."""
    ours = [item for item in request.session.items if item.path == Path(__file__)]
    asked = {each.name for each in ALL if any(item.name.endswith(f"[{each.name}]") for item in ours)}
    scratch, cpus = tmp_path_factory.mktemp("mutants"), sorted(os.sched_getaffinity(0))
    free: queue.Queue[int] = queue.Queue()
    for cpu in cpus:
        free.put(cpu)

    def begin(mutant: Mutant) -> Ended:
        cpu = free.get()
        try:
            return run(mutant, scratch, cpu)
        finally:
            free.put(cpu)

    pool = ThreadPoolExecutor(len(cpus))
    yield {each.name: pool.submit(begin, each) for each in ALL if each.name in asked}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("mutant", ALL, ids=[each.name for each in ALL])
def test_a_known_defect_is_found_and_nothing_is_found_without_one(
    runs: dict[str, Future[Ended]], figures: Figures, mutant: Mutant
) -> None:
    ended = runs[mutant.name].result()
    if mutant.patch is None:
        assert ended.code == 0, ended.output
    else:
        assert ended.code == 1, f"{mutant.name} lives\n{ended.output}"
        assert KILLED.search(ended.output), f"{mutant.name} died of something else\n{ended.output}"
        figures.add("known defects put back, and found")


def test_there_are_24_mutants_at_least() -> None:
    assert len(MUTANTS) >= 24
