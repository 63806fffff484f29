"""The rules that were confirmed last come back after a reboot, which is played by taking all off without
xdpguard; and no others do.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import lab as network
import pytest
from crash_scenes import verdicts
from test_lifecycle_support import TOGGLED, Site, dropping
from test_restore_support import (
    back,
    comes_back,
    loaded,
    nothing_comes_back,
    reboot,
    records,
    refusal,
)

from xdpguard.errors import KernelError, NotLoadedError
from xdpguard.guard import load, verbs
from xdpguard.guard.records import Record, Records
from xdpguard.guard.restore import restore

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, _ = TOGGLED
Program = Callable[..., int]


# ---- which rules


def test_what_was_loaded_comes_back_whatever_the_files_are_now(site: Site) -> None:
    site.write("192.0.2.7\n", "hosts.txt")
    text = dropping(A, more="{name: set, src: '@bad', action: drop}")
    loaded(site, text + "sets: {bad: {file: hosts.txt}}\n")
    (site.folder / "hosts.txt").unlink()
    site.write(dropping(B))
    comes_back(site, A)


def test_it_comes_back_again_and_again(site: Site) -> None:
    loaded(site, dropping(A))
    for _ in range(3):
        comes_back(site, A)
    assert len(list(records(site).folder.glob("*.rules"))) == 1


def test_rules_that_came_back_are_told_so_also_where_nothing_can_be_cleaned_up_behind_them(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> None:
        raise KernelError("the device is busy; nothing changed")

    loaded(site, dropping(A))
    reboot(site)
    monkeypatch.setattr(load, "sweep", refuse)
    (found,) = restore(site.end.dev, site.end.name, site.said.append)
    assert (found.result, found.unfiltered) == ("restored", ())
    assert "the device is busy: the new rules are live" in str(found.error)
    assert verdicts(site.end).whole({A})


def test_what_nobody_has_confirmed_does_not_come_back(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=60)
    comes_back(site, A)


def test_what_was_not_confirmed_in_time_does_not_come_back(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=1)
    site.await_fallback({A})
    site.status()
    with pytest.raises(KernelError, match="it came too late"):
        site.confirm()
    comes_back(site, A)


def test_what_was_confirmed_since_comes_back(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=60)
    site.confirm()
    comes_back(site, B)


def test_a_first_load_that_nobody_has_confirmed_does_not_come_back(site: Site) -> None:
    loaded(site, dropping(A), confirm=60)
    nothing_comes_back(site)


@pytest.mark.parametrize("expired", [False, True])
def test_a_first_load_after_a_reboot_takes_nothing_from_what_was_confirmed_before(
    site: Site, expired: bool
) -> None:
    loaded(site, dropping(A))
    reboot(site)
    loaded(site, dropping(B), confirm=1 if expired else 60)
    if expired:
        site.await_fallback(set())
        assert back(site) == "restored"
        assert verdicts(site.end).whole({A})
    comes_back(site, A)


def test_over_rules_that_were_not_confirmed_the_new_ones_come_back(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=60)
    loaded(site, dropping(C))
    comes_back(site, C)


def test_what_was_gone_back_to_comes_back_and_so_forward_again(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B))
    site.rollback()
    comes_back(site, A)
    loaded(site, dropping(B))
    site.rollback()
    site.rollback()
    comes_back(site, B)


def test_back_to_no_rules_nothing_comes_back(site: Site) -> None:
    loaded(site, dropping(A))
    site.rollback()
    warning = "warning: s0: after a reboot `xdpguard restore` brings back nothing: no rules are in force"
    assert warning in site.said
    nothing_comes_back(site)


def test_what_was_unloaded_does_not_come_back(site: Site) -> None:
    loaded(site, dropping(A))
    site.unload()
    assert not records(site).folder.exists()
    assert isinstance(refusal(site), NotLoadedError)


def test_only_what_can_be_gone_back_to_is_kept(site: Site) -> None:
    for number in range(6):
        loaded(site, dropping(2000 + number))
    assert len(list(records(site).folder.glob("*.rules"))) == 2


def test_what_a_refused_load_has_kept_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded(site, dropping(A))
    before = set(records(site).folder.iterdir())
    monkeypatch.setattr("xdpguard.guard.load.Noted.check", _refuse_when(site, len(before)))
    with pytest.raises(KernelError):
        loaded(site, dropping(B))
    assert set(records(site).folder.iterdir()) == before


def _refuse_when(site: Site, held: int) -> Callable[[object], None]:
    """As soon as the record of the next load is there."""

    def check(_: object) -> None:
        if len(list(records(site).folder.iterdir())) > held:
            raise KernelError("no")

    return check


# ---- unload


def test_an_unload_under_another_name_lets_nothing_come_back_under_the_one_before(site: Site) -> None:
    loaded(site, dropping(A))
    dev = site.end.dev
    for command in (f"set {dev} down", f"set {dev} name wan0", "set wan0 up"):
        network.run(site.end.name, "ip", "link", *command.split())
    assert records(site).marked() is not None
    replace(site, end=replace(site.end, dev="wan0")).unload()
    assert records(site).marked() is None


def test_an_unload_where_nothing_is_loaded_lets_nothing_come_back(site: Site) -> None:
    loaded(site, dropping(A))
    reboot(site)
    with pytest.raises(NotLoadedError, match="is not loaded there; its kept rules are removed"):
        site.unload()
    with pytest.raises(NotLoadedError, match="is not loaded there; nothing changed"):
        site.unload()
    assert isinstance(refusal(site), NotLoadedError)


def test_an_unload_of_an_interface_that_is_gone_lets_nothing_come_back(site: Site) -> None:
    loaded(site, dropping(A))
    reboot(site)
    network.run(site.end.name, "ip", "link", "del", site.end.dev)
    with pytest.raises(NotLoadedError, match=r"no such interface: s0; its kept rules are removed"):
        site.unload()
    assert not records(site).folder.exists()


def test_an_unload_in_a_namespace_that_is_gone_lets_nothing_come_back(site: Site) -> None:
    gone = Records(f"{site.end.name}-gone", "eth0")
    gone.store(1.5, Record("native", False, False, {"r.yaml": b"version: 1\n"}))
    gone.mark(1.5)
    with pytest.raises(NotLoadedError, match=r"no such network namespace: .*; its kept rules are removed"):
        verbs.unload(["eth0"], gone.netns, site.said.append)
    assert not gone.folder.parent.exists()
