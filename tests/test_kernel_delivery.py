"""Which folders are taken for observations, and what is said of missing ones. Nothing is attached here."""

from __future__ import annotations

from pathlib import Path

import pytest

from xdpguard.kernel import pins
from xdpguard.kernel.delivery import Observation, observations
from xdpguard.kernel.pins import Place


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "xdpguard"
    monkeypatch.setattr(pins, "FOLDER", folder)
    return folder


def test_an_observation_lies_beside_the_sets_of_its_interface(root: Path) -> None:
    assert Observation(4026531840, 7).folder.parent == Place(4026531840, 7, 0xAB).folder.parent


def test_observations_are_found_by_their_folders_and_are_no_sets_of_maps(root: Path) -> None:
    assert list(observations()) == []
    ours = [Observation(4026531840, 2), Observation(4026531840, 31)]
    for one in ours:
        one.folder.mkdir(parents=True)
    for name in ("04026531840-2", "4026531840-+2", "eth0-2", "4026531840-2-3"):
        (root / name / "delivery").mkdir(parents=True)
    assert list(observations()) == ours
    assert list(pins.places()) == []


def test_what_is_not_pinned_tells_nothing_and_is_no_error(root: Path) -> None:
    missing = Observation(1, 2)
    assert (missing.exists(), missing.whole(), missing.read(5)) == (False, False, None)
    missing.expect(5, 4)
    missing.remove()


def test_an_observation_that_lacks_a_pin_is_not_whole(root: Path) -> None:
    one = Observation(1, 2)
    one.folder.mkdir(parents=True)
    names = ("counts", "redirect_err", "devmap_xmit", "bulk_tx", "exception")
    for name in names:
        assert not one.whole()
        (one.folder / name).write_text("")
    assert one.whole()


def test_removing_an_observation_leaves_the_sets_of_the_interface(root: Path) -> None:
    one, place = Observation(1, 2), Place(1, 2, 3)
    for folder in (one.folder, place.folder):
        folder.mkdir(parents=True)
    (one.folder / "counts").write_text("")
    one.remove()
    assert not one.exists()
    assert list(pins.places()) == [place]
    place.folder.rmdir()
    one.folder.mkdir()
    one.remove()
    assert list(root.iterdir()) == []
