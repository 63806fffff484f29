"""The confirmed rules come back after a reboot, which is played by taking all off without xdpguard."""

from __future__ import annotations

from pathlib import Path

import lab as network
import pytest
from crash_scenes import verdicts
from test_lifecycle_support import CLEAN, TOGGLED, Site, await_state, dropping

from xdpguard.errors import NotLoadedError
from xdpguard.generation import compiled
from xdpguard.guard import confirmed
from xdpguard.guard.load import load
from xdpguard.guard.restore import restore
from xdpguard.kernel import pins

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, _, _ = TOGGLED


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(confirmed, "FOLDER", tmp_path / "lib")
    return tmp_path / "lib"


def loaded(site: Site, text: str, confirm: int | None = None) -> None:
    """From a file, as the command does it."""
    rules = compiled.read(str(site.write(text)), site.said.append)
    load(
        [site.end.dev], rules, mode="auto", netns=site.end.name, confirm=confirm, force=False,
        say=site.said.append, verbose=False,
    )  # fmt: skip


def reboot(site: Site) -> None:
    """Programs, maps and pins are gone, as after a power cut."""
    end = site.end
    network.run(end.name, "ip", "link", "set", end.dev, "xdp", "off")
    network.run(end.name, "tc", "qdisc", "del", "dev", end.dev, "clsact")
    for place in pins.places():
        if place.ifindex == end.ifindex:
            pins.remove(place)
    await_state(end, lambda found: found == CLEAN)


def back(site: Site) -> list[str]:
    """What restore said; there was no error."""
    said: list[str] = []
    assert restore(site.end.dev, site.end.name, said.append) == []
    return said


def test_what_was_loaded_comes_back_whatever_the_files_are_now(site: Site) -> None:
    loaded(site, dropping(A))
    site.write(dropping(B))
    reboot(site)
    back(site)
    assert verdicts(site.end).whole({A})


def test_what_nobody_has_confirmed_does_not_come_back(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=60)
    reboot(site)
    back(site)
    assert verdicts(site.end).whole({A})


def test_what_was_confirmed_since_comes_back(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=60)
    site.confirm()
    reboot(site)
    back(site)
    assert verdicts(site.end).whole({B})


def test_what_was_gone_back_to_comes_back(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B))
    site.rollback()
    reboot(site)
    back(site)
    assert verdicts(site.end).whole({A})


def test_what_was_unloaded_does_not_come_back(site: Site, folder: Path) -> None:
    loaded(site, dropping(A))
    site.unload()
    with pytest.raises(NotLoadedError, match="no confirmed rules are kept"):
        restore(site.end.dev, site.end.name, site.said.append)
    assert not list(folder.rglob("*.rules"))


def test_where_rules_are_in_force_they_are_left_as_they_are(site: Site) -> None:
    loaded(site, dropping(A))
    assert back(site) == ["s0: xdpguard is loaded there; left as it is"]


def test_a_record_that_is_damaged_is_not_loaded(site: Site, folder: Path) -> None:
    loaded(site, dropping(A))
    (record,) = folder.rglob("*.rules")
    record.write_bytes(record.read_bytes()[:-1] + b"x")
    reboot(site)
    (error,) = restore(site.end.dev, site.end.name, site.said.append)
    assert "is damaged: not used; nothing changed" in str(error)


def test_only_what_is_held_is_kept(site: Site, folder: Path) -> None:
    for number in range(6):
        loaded(site, dropping(number))
    assert len(list(folder.rglob("*.rules"))) <= 3
