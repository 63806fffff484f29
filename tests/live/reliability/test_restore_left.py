"""What ``restore`` leaves as it is, what comes back as it was, and what could not be kept."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lab as network
import pytest
from crash_scenes import verdicts
from interface_state import await_state, state
from lab import Lab, inside
from test_lifecycle_support import CONSOLE, TOGGLED, Site, dropping, run
from test_restore_support import (
    back,
    comes_back,
    loaded,
    lose_pins,
    nothing_comes_back,
    reboot,
    records,
    refusal,
)
from test_status_leftovers import make_older

from xdpguard.errors import ForeignError, KernelError, NotLoadedError, PreflightError
from xdpguard.guard import confirmed, preflight, status, verbs
from xdpguard.guard.programs import Programs
from xdpguard.guard.records import Record, Records
from xdpguard.guard.restore import restore
from xdpguard.kernel import bpf, link, lock, maps, netns, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, _ = TOGGLED
Program = Callable[..., int]


# ---- what is in force is left


def test_rules_in_force_are_left_as_they_are(site: Site) -> None:
    loaded(site, dropping(A))
    before = state(site.end)
    assert back(site) == "in force"
    assert state(site.end) == before
    assert site.said[-1] == "s0: rules are in force: left as they are"


def test_rules_that_wait_for_their_confirmation_are_left_so(site: Site) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=60)
    before = state(site.end)
    assert back(site) == "pending"
    assert state(site.end) == before
    comes_back(site, A)


def test_lost_pins_are_made_again(site: Site) -> None:
    loaded(site, dropping(A))
    before = state(site.end)
    lose_pins(site)
    assert back(site) == "in force"
    assert state(site.end) == before
    assert "s0: the pins were lost; pinned the maps again" in site.said


@pytest.mark.parametrize("command", ["ip link set dev s0 xdp off", "tc qdisc del dev s0 clsact"])
def test_what_someone_took_off_is_put_back(site: Site, command: str) -> None:
    loaded(site, dropping(A))
    network.run(site.end.name, *command.split())
    assert back(site) == "restored"
    assert verdicts(site.end).whole({A})
    assert site.status().problems == ()


def test_the_rules_that_another_version_loaded_come_into_the_maps_of_this_one(site: Site) -> None:
    loaded(site, dropping(A))
    make_older(site)
    assert back(site) == "restored"
    assert verdicts(site.end).whole({A})
    assert site.status().problems == ()


def test_another_program_in_our_place_is_left_there(site: Site, program: Program) -> None:
    loaded(site, dropping(A))
    reboot(site)
    inside(site.end.name, xdp.attach, site.end.ifindex, program(bpf.PROG_XDP), "native")
    before = state(site.end)
    error = refusal(site)
    assert isinstance(error, ForeignError)
    assert str(error).endswith("nothing changed")
    assert state(site.end) == before


def test_while_another_command_holds_the_interface_nothing_is_restored(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(site, dropping(A))
    reboot(site)
    monkeypatch.setattr(lock, "held", partial(lock.held, wait=0))
    there = inside(site.end.name, link.find, site.end.dev)

    def holding() -> str:
        with lock.held([there], "xdpguard load"):
            return str(refusal(site))

    assert "xdpguard load (pid" in inside(site.end.name, holding)


# ---- as it was


def test_generic_mode_comes_back_generic(site: Site) -> None:
    loaded(site, dropping(A), mode="generic")
    comes_back(site, A)
    assert site.status().mode == "generic"


def kept_for(netns: str, dev: str, mode: str) -> None:
    """As if these rules had been in force there."""
    where = Records(netns, dev)
    where.store(1.5, Record(mode, False, False, {"r.yaml": dropping(B).encode()}))
    where.mark(1.5)


def test_where_native_mode_cannot_be_had_any_more_generic_mode_filters_as_well(site: Site) -> None:
    network.run(site.end.name, "ip", "link", "add", "br0", "up", "type", "bridge")
    kept_for(site.end.name, "br0", "native")
    (found,) = restore("br0", site.end.name, site.said.append)
    assert found.result == "restored"
    (now,) = status.status("br0", site.end.name)
    assert (now.mode, now.problems) == ("generic", ())
    assert any("br0: no native XDP: " in line for line in site.said)
    verbs.unload(["br0"], site.end.name, site.said.append)


def test_a_redirect_target_that_got_our_helper_first_gets_its_rules_in_the_helpers_mode(
    site: Site, lab: Lab, program: Program
) -> None:
    pair = lab.veth(client=site.end.name, ipv6=False)
    inside(pair.server.name, xdp.attach, pair.server.ifindex, program(bpf.PROG_XDP), "native")
    more = f"{{name: away, proto: udp, dport: 7, action: {{redirect: {{interface: {pair.client.dev}}}}}}}"
    loaded(site, dropping(A, more=more), mode="native")
    kept_for(site.end.name, pair.client.dev, "generic")
    (found,) = restore(pair.client.dev, site.end.name, site.said.append)
    assert (found.result, found.error) == ("restored", None)
    assert verdicts(pair.client).whole({B})
    verbs.unload([pair.client.dev], site.end.name, site.said.append)


def test_owners_are_accounted_again(site: Site) -> None:
    site.load(dropping(A), account_owners=True)
    comes_back(site, A)
    assert any(Path(pin).name == maps.ACCOUNTS for pin in state(site.end).pins)


def test_rules_that_were_forced_come_back_and_others_only_by_force(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge = preflight.run  # of this test's site: it does not really judge

    def refusing(*arguments: Any, force: bool, **options: Any) -> Programs:
        if not force:
            raise PreflightError("s0: no; nothing changed")
        return judge(*arguments, force=force, **options)

    loaded(site, dropping(A))
    reboot(site)
    monkeypatch.setattr(preflight, "run", refusing)
    assert isinstance(refusal(site), PreflightError)
    assert state(site.end).xdp == ()
    assert back(site, force=True) == "restored"
    comes_back(site, A)


# ---- what cannot be kept


def test_a_load_that_cannot_be_kept_warns_and_what_was_kept_before_comes_back(site: Site) -> None:
    loaded(site, dropping(A))
    records(site).folder.chmod(0o770)
    loaded(site, dropping(B))
    assert verdicts(site.end).whole({B})
    (warning,) = [line for line in site.said if line.startswith("warning: ")]
    assert "`xdpguard restore` brings back the rules that were confirmed before: " in warning
    records(site).folder.chmod(0o700)
    comes_back(site, A)


def test_back_to_rules_that_were_not_kept_nothing_comes_back_and_a_warning_says_so(site: Site) -> None:
    records(site).folder.mkdir(parents=True)
    records(site).folder.chmod(0o770)
    loaded(site, dropping(A))
    records(site).folder.chmod(0o700)
    loaded(site, dropping(B))
    site.rollback()
    words = "`xdpguard restore` brings back nothing: these rules are not kept on the disk"
    assert any(line.endswith(words) for line in site.said[-2:]), site.said
    nothing_comes_back(site)


def test_of_a_namespace_without_a_name_nothing_is_kept_and_load_says_so(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(confirmed, "records", lambda *_: None)
    monkeypatch.setattr(netns, "first", lambda: 1)
    loaded(site, dropping(A))
    (warning,) = [line for line in site.said if line.startswith("warning: ")]
    assert "this network namespace has no name" in warning
    assert not records(site).folder.exists()
    with pytest.raises(NotLoadedError, match="this network namespace has no name"):
        back(site)


def confirm_again(site: Site) -> None:
    with pytest.raises(KernelError, match="nothing waits for it"):
        site.confirm()


@pytest.mark.parametrize("command", [back, confirm_again])
def test_a_mark_that_a_killed_confirm_did_not_move_is_moved_by_the_next_command(
    site: Site, command: Callable[[Site], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(site, dropping(A))
    loaded(site, dropping(B), confirm=60)
    with monkeypatch.context() as patch:
        patch.setattr(confirmed, "note", lambda *_, **__: None)
        site.confirm()
    command(site)
    comes_back(site, B)


@pytest.mark.parametrize("command", ["restore", "unload"])
def test_a_path_in_the_place_of_a_name_is_refused_and_touches_nothing(site: Site, command: str) -> None:
    loaded(site, dropping(A))
    (site.folder / "other.rules").touch()
    up = os.path.relpath(site.folder, records(site).folder.parent)
    done = run(CONSOLE, command, "-i", up, "--netns", site.end.name)
    assert done.code == 4
    assert "error: no such interface: " in done.err
    assert (site.folder / "other.rules").exists()


def test_the_commands_themselves_keep_and_restore(site: Site) -> None:
    site.write(dropping(A))
    assert site.console("load", site.folder / "rules.yaml").code == 0
    reboot(site)
    done = site.console("restore", "--format", "json")
    assert done.code == 0, done.err
    assert '"result": "restored"' in done.out
    assert verdicts(site.end).whole({A})
    assert str(records(site).folder).startswith(os.environ["XDPGUARD_STATE"])
    reboot(site)
    assert run(CONSOLE, "restore", "--netns", site.end.name).code == 0
    assert verdicts(site.end).whole({A})
    await_state(site.end, lambda found: found.word is not None)
