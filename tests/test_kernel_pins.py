"""Which folders below the bpf file system are taken for ours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from xdpguard.errors import ForeignError
from xdpguard.kernel import pins
from xdpguard.kernel.pins import Place


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "xdpguard"
    monkeypatch.setattr(pins, "FOLDER", folder)
    return folder


def test_without_a_folder_nothing_is_pinned(root: Path) -> None:
    assert list(pins.places()) == []


def test_a_place_is_found_by_its_name(root: Path) -> None:
    wanted = {
        Place(4026531840, 2, 0x0123456789ABCDEF),
        Place(4026531840, 2, 0xFFFFFFFFFFFFFFFF),
        Place(4026531840, 31, 1),
        Place(4026532999, 2, 0),
    }
    for place in wanted:
        place.folder.mkdir(parents=True)
    assert set(pins.places()) == wanted


def test_a_place_is_named_by_namespace_interface_and_epoch(root: Path) -> None:
    assert Place(4026531840, 7, 0xAB).folder == root / "4026531840-7" / "00000000000000ab"


@pytest.mark.parametrize(
    "name",
    [
        "4026531840-2/ab",
        "4026531840-2/00000000000000AB",
        "4026531840-2/0x000000000000ab",
        "4026531840-2/000000000000000ab",
        "4026531840-2/lost+found",
        "4026531840-+2/00000000000000ab",
        "4026531840- 2/00000000000000ab",
        "04026531840-2/00000000000000ab",
        "4_026531840-2/00000000000000ab",
        "4026531840-2-3/00000000000000ab",
        "4026531840-/00000000000000ab",
        "-2/00000000000000ab",
        "eth0-2/00000000000000ab",
        "4026531840/00000000000000ab",
    ],
)
def test_a_folder_named_otherwise_is_passed_over(name: str, root: Path) -> None:
    (root / name).mkdir(parents=True)
    ours = Place(4026531841, 3, 5)
    ours.folder.mkdir(parents=True)
    assert list(pins.places()) == [ours]


def test_removing_a_place_leaves_the_other_sets_of_the_interface(root: Path) -> None:
    one, other = Place(1, 2, 3), Place(1, 2, 4)
    for place in (one, other):
        place.folder.mkdir(parents=True)
        (place.folder / "control").write_text("")
    pins.remove(one)
    assert list(pins.places()) == [other]
    pins.remove(other)
    assert list(root.iterdir()) == []


def test_removing_a_place_that_is_gone_is_no_error(root: Path) -> None:
    pins.remove(Place(1, 2, 3))


def test_a_foreign_file_in_a_place_keeps_its_folder(root: Path) -> None:
    place = Place(1, 2, 3)
    place.folder.mkdir(parents=True)
    (place.folder / "foreign").write_text("")
    pins.remove(place)
    assert (place.folder / "foreign").exists()


def spoil(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if how == "a link":
        folder.rename(folder.with_name("elsewhere"))
        folder.symlink_to(folder.with_name("elsewhere"))
    elif how == "of another user":
        other = os.geteuid() + 1
        monkeypatch.setattr(os, "geteuid", lambda: other)
    else:
        folder.chmod(int(how, 8))


@pytest.mark.parametrize("how", ["a link", "of another user", "720", "702"])
def test_a_folder_that_others_may_change_is_refused(
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pins"
    folder.mkdir(mode=0o700)
    pins._check_owner(folder)
    spoil(folder, how, monkeypatch)
    with pytest.raises(ForeignError, match="nothing changed"):
        pins._check_owner(folder)


def test_a_place_that_is_removed_while_others_are_looked_at_is_none(root: Path) -> None:
    first, second = Place(1, 2, 3), Place(2, 2, 3)
    for place in (first, second):
        place.folder.mkdir(parents=True)
    looking = pins.places()
    assert next(looking) == first
    second.folder.rmdir()
    second.folder.parent.rmdir()
    assert list(looking) == []
