"""What another version or a dead command has left: told by ``status``, replaced by ``load``, taken off by
``unload``.
"""

from __future__ import annotations

import pytest
from interface_state import CLEAN, await_state, state
from lab import inside
from test_lifecycle_support import TOGGLED, Site, dropping

from xdpguard.abi import abi
from xdpguard.errors import NotLoadedError
from xdpguard.generation import slots
from xdpguard.guard import attach
from xdpguard.kernel import maps, objects, pins
from xdpguard.kernel.discover import examined
from xdpguard.kernel.link import find
from xdpguard.kernel.sizes import Size, size_class

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED


# --- another version's maps ---------------------------------------------------------------------------------


def control(site: Site) -> maps.Control:
    """The control page of what is loaded, to write into."""
    (number,) = state(site.end).sets
    return maps.Control(objects.map_by_id(number))


def make_older(site: Site) -> None:
    page = control(site)
    page.put("abi_version", abi().numbers["XG_ABI_VERSION"] + 41)
    page.close()


def test_maps_of_another_version_are_told_and_replaced_without_a_gap(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))
    make_older(site)
    version = abi().numbers["XG_ABI_VERSION"] + 41
    told = f"loaded by another version of xdpguard (map format {version}): load again, or unload"
    assert site.status().problems == (told,)
    shown = site.console("status")
    assert (shown.code, told in shown.out) == (5, True)
    for command in ("confirm", "rollback"):
        assert f"map format {version}" in site.console(command).refusal(5)
    assert site.console("stats").code == 5
    put, between = attach.put, []

    def put_and_look(*arguments: object) -> str:
        mode = put(*arguments)  # type: ignore[arg-type]
        between.append(site.verdicts())
        return mode

    monkeypatch.setattr(attach, "put", put_and_look)
    site.load(dropping(B))
    assert between == [{B}]
    assert site.verdicts() == {B}
    assert site.status().problems == ()
    await_state(site.end, lambda found: len(found.sets) == 1)
    site.unload()
    await_state(site.end, lambda found: found == CLEAN)


def test_maps_of_another_version_are_unloaded(site: Site) -> None:
    site.load(dropping(A))
    make_older(site)
    assert site.console("unload").code == 0
    await_state(site.end, lambda found: found == CLEAN)


def test_a_refused_load_leaves_another_versions_maps_in_force(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))
    make_older(site)
    before = state(site.end)
    monkeypatch.setattr("xdpguard.guard.targets.prepare", refuse)
    with pytest.raises(ZeroDivisionError):
        site.load(dropping(B))
    assert site.verdicts() == {A}
    await_state(site.end, lambda found: found == before)


def refuse(*_: object) -> list[int]:
    raise ZeroDivisionError


# --- left-over pins -----------------------------------------------------------------------------------------


def leave_pins(site: Site) -> None:
    """As a first load leaves them that died before it attached anything."""
    with examined(find(site.end.dev)) as found:
        made = maps.create(
            size_class(Size(1, 1, 1, 1)),
            {"ifindex": site.end.ifindex, "netns_cookie": found.identity.cookie},
        )
        slots.write_builtin(made)
        pins.pin(found.place(made), made)
        made.close()


def test_left_over_pins_with_no_program_are_removed_by_the_next_load(site: Site) -> None:
    inside(site.end.name, leave_pins, site)
    assert state(site.end).pins
    with pytest.raises(NotLoadedError, match="xdpguard is not loaded there"):
        site.status()
    site.load(dropping(A))
    assert any("removed left-over pins" in line for line in site.said)
    assert len(state(site.end).sets) == 1
    assert site.verdicts() == {A}
