"""What ``check`` accepts, ``load`` loads: drawn rule files, on a veth."""

from __future__ import annotations

from pathlib import Path
from random import Random

import test_lifecycle_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab
import pytest
from lab import End, Lab
from reached import Figures
from strategies import random_rule_file

from xdpguard.cli.main import main
from xdpguard.guard import verbs

SETS, SOAK_SETS = 40, 2000
LOADED = "drawn files accepted by check, and loaded"
SIZES = (0, 1, 2, 5, 12, 30, 80)


@pytest.fixture
def place(lab: Lab) -> End:
    """An interface, and beside it ids0, which the drawn files redirect to."""
    end = lab.veth(ipv6=False).server
    lab_run(end, "link", "add", "ids0", "type", "veth", "peer", "name", "ids1")
    for name in ("ids0", "ids1"):
        lab_run(end, "link", "set", name, "up")
    return end


def lab_run(end: End, *arguments: str) -> None:
    lab.run(end.name, "ip", *arguments)


def accepted_and_loaded(place: End, folder: Path, sets: int, name: str) -> int:
    """How many of so many drawn files ``check`` accepted, each of which then loads."""
    file, accepted = folder / "drawn.yaml", 0
    # Generic: native XDP redirects to a veth only where its peer has a program.
    load = ["load", "-i", place.dev, "--netns", place.name, "--mode", "generic", "--force", str(file)]
    try:
        for number in range(sets):
            rng = Random(f"{name}/{number}")
            text = random_rule_file(rng, rng.choice(SIZES))
            file.write_text(text)
            if main(["check", str(file)]) == 0:
                assert main(load) == 0, f"{name}/{number}\n{text}"
                accepted += 1
    finally:
        if accepted:
            verbs.unload([place.dev], place.name, lambda line: None)
    return accepted


@pytest.mark.usefixtures("no_leaks")
def test_what_check_accepts_loads(place: End, tmp_path: Path, figures: Figures) -> None:
    loaded = accepted_and_loaded(place, tmp_path, SETS, "honest")
    figures.add(LOADED, loaded)
    assert loaded == SETS


@pytest.mark.soak
@pytest.mark.usefixtures("no_leaks")
def test_2000_files_that_check_accepts_load(place: End, tmp_path: Path, figures: Figures) -> None:
    loaded = accepted_and_loaded(place, tmp_path, SOAK_SETS, "honest, soak")
    figures.add(LOADED, loaded)
    assert loaded == SOAK_SETS
