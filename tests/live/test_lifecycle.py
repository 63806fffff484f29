"""From the first load to unload on real interfaces: reload, rollback, confirm, deadline."""

from __future__ import annotations

import json
from pathlib import Path

import lab as network
import pytest
from interface_state import CLEAN, await_state, state
from lab import Lab
from test_lifecycle_support import CONSOLE, TOGGLED, Site, dropping, run

from xdpguard.errors import KernelError, NotLoadedError, UsageError
from xdpguard.generation import slots
from xdpguard.kernel.maps import Word

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED


# --- one interface ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_a_first_load_puts_both_hooks_in_force_and_unload_leaves_nothing(site: Site, mode: str) -> None:
    before = state(site.end)
    assert before == CLEAN
    site.load(dropping(A), mode=mode)
    assert site.verdicts() == {A}
    after = state(site.end)
    assert [one.mode for one in after.xdp] == [mode]
    assert (len(after.filters), after.clsact, len(after.pins), len(after.sets)) == (1, True, 6, 1)
    site.unload()
    assert site.delivered(*TOGGLED) == list(TOGGLED)
    await_state(site.end, lambda found: found == before)


def test_a_reload_keeps_programs_and_maps_and_changes_the_rules(site: Site) -> None:
    site.load(dropping(A))
    first = state(site.end)
    for port in (B, C, D, A, B):
        site.load(dropping(port))
        assert site.verdicts() == {port}
    last = state(site.end)
    assert (last.xdp, last.filters, last.pins, last.sets) == (
        first.xdp, first.filters, first.pins, first.sets,
    )  # fmt: skip


def test_rollback_goes_back_and_a_second_one_forward_again(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B))
    for port in (A, B, A):
        site.rollback()
        assert site.verdicts() == {port}


def test_rollback_of_a_first_load_is_no_rules_and_back(site: Site) -> None:
    site.load(dropping(A))
    site.rollback()
    assert site.in_force() == set()
    found = site.status()
    assert found.active is not None
    assert (found.active.file, found.active.ingress_rules, found.problems) == ("", 0, ())
    site.rollback()
    assert site.verdicts() == {A}


def test_rollback_without_rules_to_go_back_to_is_refused(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=1)
    site.rollback()
    assert site.verdicts() == {A}
    site.load(dropping(C), confirm=1)
    site.await_fallback({A})
    with pytest.raises(KernelError, match="no rules to go back to; nothing changed"):
        site.rollback()
    assert site.verdicts() == {A}


def test_a_load_after_a_rollback_goes_back_to_what_was_in_force(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B))
    site.rollback()
    site.load(dropping(C))
    site.rollback()
    assert site.verdicts() == {A}


def test_a_command_on_an_interface_without_xdpguard_is_refused(site: Site) -> None:
    for act in (site.confirm, site.rollback, site.unload, site.status, site.counts):
        with pytest.raises(NotLoadedError, match=f"{site.end.dev}: xdpguard is not loaded there"):
            act()
    assert state(site.end) == CLEAN


def test_another_mode_than_the_one_in_force_is_refused(site: Site) -> None:
    site.load(dropping(A), mode="generic")
    before = state(site.end)
    with pytest.raises(UsageError, match=r"loaded in generic mode.*unload first; nothing changed"):
        site.load(dropping(B), mode="native")
    assert state(site.end) == before
    site.load(dropping(B))  # auto keeps it
    assert [one.mode for one in state(site.end).xdp] == ["generic"]


def test_auto_takes_generic_where_native_cannot_be_had_and_says_why(lab: Lab, tmp_path: Path) -> None:
    pair = lab.veth(ipv6=False)
    name, rules = pair.server.name, Site.of(pair, tmp_path).write(dropping(A))
    network.run(name, *f"ip link add link {pair.server.dev} name m0 type macvlan".split())
    done = run(CONSOLE, "load", "-i", "m0", "--netns", name, rules)
    assert done.code == 0
    assert "m0: no native XDP: " in done.err
    assert "; trying generic" in done.err
    assert "(generic XDP + TC)" in done.err
    assert run(CONSOLE, "unload", "-i", "m0", "--netns", name).code == 0


# --- the deadline -----------------------------------------------------------------------------------------


def test_confirmed_rules_stay(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=600)
    pending = site.status()
    assert pending.confirm_seconds is not None
    assert 0 < pending.confirm_seconds <= 600
    site.confirm()
    assert site.status().confirm_seconds is None
    assert state(site.end).word == Word(2, 1)
    assert site.verdicts() == {B}
    with pytest.raises(KernelError, match="cannot confirm: nothing waits for it; nothing changed"):
        site.confirm()


def test_without_confirmation_the_kernel_goes_back_by_itself_with_no_process_alive(site: Site) -> None:
    old, new = site.write(dropping(A), "old.yaml"), site.write(dropping(B), "new.yaml")
    assert site.console("load", old).code == 0
    assert site.console("load", new, "--confirm", 1).code == 0
    word = state(site.end).word
    assert word is not None
    assert (word.active, word.previous) == (2, 1)
    assert word.deadline_ms > 0
    site.await_fallback({A})
    assert state(site.end).word == word  # no command has touched it since
    assert site.verdicts() == {A}
    shown = site.console("status")
    assert (shown.code, shown.err) == (0, "")
    assert "old.yaml" in shown.out
    assert "not confirmed in time: fell back" in shown.out
    assert state(site.end).word == Word(1, 1)  # whoever looks makes the fallback the plain state
    document = json.loads(site.console("status", "--format", "json").out)["interfaces"][0]
    assert (document["fell_back"], document["confirm_seconds"], document["previous"]) == (True, None, None)
    assert document["generation"]["file"].endswith("old.yaml")
    stats = json.loads(site.console("stats", "--format", "json").out)["interfaces"][0]
    assert stats["generation"] == document["generation"]["serial"] == 2
    late = site.console("confirm")
    assert "cannot confirm: it came too late: the rules before are in force" in late.refusal(7)
    assert site.verdicts() == {A}
    assert site.console("load", new).code == 0
    assert not site.status().fell_back
    assert site.verdicts() == {B}


def test_a_late_confirm_is_refused_and_tells_of_the_fallback(site: Site) -> None:
    assert site.console("load", site.write(dropping(A), "old.yaml")).code == 0
    assert site.console("load", site.write(dropping(B), "new.yaml"), "--confirm", 1).code == 0
    site.await_fallback({A})
    told = f"{site.end.dev}: the last load was not confirmed in time: the rules before it are in force"
    assert "cannot confirm: it came too late" in site.console("confirm").refusal(7, told)
    assert state(site.end).word == Word(1, 1)


def test_a_pending_confirmation_is_shown_with_the_command_that_gives_it(site: Site) -> None:
    done = site.console("load", site.write(dropping(A)), "--confirm", 600)
    command = f"xdpguard confirm -i {site.end.dev} --netns {site.end.name}"
    assert f"run `{command}` within 600 s" in done.err
    shown = site.console("status")
    assert shown.code == 0
    assert command in shown.out
    assert "pending: falls back to previous in " in shown.out
    assert run(*command.replace("xdpguard", str(CONSOLE)).split()).code == 0
    assert "pending: " not in site.console("status").out


def test_a_load_over_an_unconfirmed_one_goes_back_to_the_last_confirmed(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=600)
    site.load(dropping(C), confirm=1)
    assert site.verdicts() == {C}
    site.await_fallback({A})
    site.load(dropping(B), confirm=600)
    site.load(dropping(C))
    site.rollback()
    assert site.verdicts() == {A}


def test_a_rollback_of_an_unconfirmed_load_ends_its_deadline(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=600)
    site.rollback()
    assert state(site.end).word == Word(1, 2)
    assert site.status().confirm_seconds is None


def test_an_unconfirmed_first_load_falls_back_to_no_rules(site: Site) -> None:
    site.load(dropping(A), confirm=1)
    site.await_fallback(set())
    found = site.status()
    assert found.fell_back
    assert found.protected()
    assert site.counts().generation == 1


def test_a_load_killed_behind_its_store_is_not_told_as_the_fallback_before_it(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mark of a fallback goes behind the word."""
    site.load(dropping(A), confirm=1)
    site.await_fallback(set())
    assert site.status().fell_back
    with monkeypatch.context() as patched:
        patched.setattr(slots, "choose", lambda found, word: setattr(found, "word", word))
        site.load(dropping(B))
    assert not site.status().fell_back


def test_the_slot_fallen_back_to_is_not_written_by_the_next_load(site: Site) -> None:
    site.load(dropping(A))
    site.load(dropping(B))
    site.load(dropping(C), confirm=1)
    site.await_fallback({B})
    site.load(dropping(D))
    site.rollback()
    assert site.verdicts() == {B}
