"""What ``restore`` does not load, and what is not there: a line says why, and the host is as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import lab as network
import pytest
from crash_scenes import Verdicts, verdicts
from interface_state import CLEAN, state
from lab import Lab, inside
from test_lifecycle_support import TOGGLED, Site, dropping
from test_restore_support import back, loaded, reboot, records, refusal

from xdpguard.errors import NotLoadedError, RulesError
from xdpguard.guard import records as kept_records
from xdpguard.guard.model import Restored
from xdpguard.guard.records import Record
from xdpguard.guard.restore import restore
from xdpguard.kernel import netns

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, _, _ = TOGGLED
NOBODY = 65534
RECORD = Record("native", False, False, {"r.yaml": dropping(A).encode()})


# ---- records that are not believed


def record(site: Site) -> Path:
    (found,) = records(site).folder.glob("*.rules")
    return found


def byte_changed(site: Site) -> None:
    data = record(site).read_bytes()
    record(site).write_bytes(data[:-1] + bytes([data[-1] ^ 1]))


def cut(site: Site) -> None:
    record(site).write_bytes(record(site).read_bytes()[:-1])


def empty(site: Site) -> None:
    record(site).write_bytes(b"")


def gone(site: Site) -> None:
    record(site).unlink()


def of_another(site: Site) -> None:
    os.chown(record(site), NOBODY, NOBODY)


def writable_by_a_group(site: Site) -> None:
    record(site).chmod(0o660)


def folder_of_another(site: Site) -> None:
    os.chown(records(site).folder, NOBODY, NOBODY)


def folder_above_writable_by_all(site: Site) -> None:
    records(site).folder.parent.chmod(0o777)


def mark_leads_elsewhere(site: Site) -> None:
    other = site.folder / "other.rules"
    other.write_bytes(record(site).read_bytes())
    mark = records(site).folder / "confirmed"
    mark.unlink()
    mark.symlink_to(other)


def mark_is_a_file(site: Site) -> None:
    mark = records(site).folder / "confirmed"
    mark.unlink()
    mark.write_text("")


def of_another_format(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    where = records(site)
    loaded_at = where.marked()
    assert loaded_at is not None
    with monkeypatch.context() as patch:
        patch.setattr(kept_records, "_FORMAT", 41)
        where.store(loaded_at, RECORD)


HARMS: list[tuple[Callable[[Site], None], str]] = [
    (byte_changed, "is damaged: not used; nothing changed"),
    (cut, "is damaged: not used; nothing changed"),
    (empty, "is damaged: not used; nothing changed"),
    (gone, "cannot be read: No such file or directory: not used; nothing changed"),
    (of_another, f"it, or its folder, is of user {NOBODY}: not used; nothing changed"),
    (writable_by_a_group, "can be written by others (mode 0660): not used; nothing changed"),
    (folder_of_another, f"it, or its folder, is of user {NOBODY}: not used; nothing changed"),
    (folder_above_writable_by_all, "can be written by others (mode 0777): not used; nothing changed"),
    (mark_leads_elsewhere, "other.rules, which xdpguard did not write: not used; nothing changed"),
    (mark_is_a_file, "confirmed: error: cannot be read: Invalid argument: not used; nothing changed"),
]


def refused(site: Site, message: str) -> None:
    error = refusal(site)
    assert isinstance(error, RulesError)
    assert str(error).startswith(str(records(site).folder.parent))
    assert str(error).endswith(message)
    assert state(site.end) == CLEAN


@pytest.mark.parametrize(("harm", "message"), HARMS, ids=[harm.__name__ for harm, _ in HARMS])
def test_a_record_that_cannot_be_trusted_is_told_and_not_loaded(
    site: Site, harm: Callable[[Site], None], message: str
) -> None:
    loaded(site, dropping(A))
    reboot(site)
    harm(site)
    refused(site, message)


def test_a_record_of_another_version_is_told_and_not_loaded(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(site, dropping(A))
    reboot(site)
    of_another_format(site, monkeypatch)
    refused(site, "(format 41, this version of xdpguard reads 1): not used; nothing changed")


def test_rules_that_this_version_refuses_are_told_and_not_loaded(site: Site) -> None:
    where = records(site)
    where.store(1.5, Record("native", False, False, {"r.yaml": b"version: 1\nfuture: 1\n"}))
    where.mark(1.5)
    error = refusal(site)
    assert isinstance(error, RulesError)
    first, last = error.problems[0], error.problems[-1]
    assert (first.file, first.line) == ("r.yaml", 2)
    assert str(last).startswith(f"{where.folder}: error: this version of xdpguard refuses")
    assert state(site.end) == CLEAN


def test_after_a_refusal_a_load_makes_all_good_again(site: Site) -> None:
    loaded(site, dropping(A))
    byte_changed(site)
    reboot(site)
    refusal(site)
    loaded(site, dropping(B))
    reboot(site)
    assert back(site) == "restored"
    assert verdicts(site.end).whole({B})


# ---- what is not there


def test_a_redirect_target_that_is_not_there_yet_is_told(site: Site, lab: Lab) -> None:
    pair = lab.veth(client=site.end.name, ipv6=False)
    more = f"{{name: away, proto: udp, dport: 7, action: {{redirect: {{interface: {pair.client.dev}}}}}}}"
    loaded(site, dropping(A, more=more), mode="generic")
    reboot(site)
    network.run(site.end.name, "ip", "link", "del", pair.client.dev)
    error = refusal(site)
    assert isinstance(error, NotLoadedError)
    assert str(error).endswith(f"redirect target {pair.client.dev}: no such interface; nothing changed")
    assert state(site.end) == CLEAN
    assert records(site).marked() is not None


def test_an_interface_that_is_not_there_is_told_and_its_rules_stay_kept(site: Site) -> None:
    loaded(site, dropping(A))
    reboot(site)
    network.run(site.end.name, "ip", "link", "set", site.end.dev, "down")
    network.run(site.end.name, "ip", "link", "set", site.end.dev, "name", "later")
    done = site.console("restore")
    assert done.code == 4
    folder = records(site).folder
    assert f"error: no such interface: s0; its confirmed rules stay kept in {folder}" in done.err
    network.run(site.end.name, "ip", "link", "set", "later", "name", site.end.dev)
    assert back(site) == "restored"


def test_an_interface_of_which_nothing_is_kept_ends_with_4(site: Site) -> None:
    done = site.console("restore")
    assert done.code == 4
    assert "error: s0: no confirmed rules are kept for it in " in done.err
    last = f"s0 (netns {site.end.name}): xdpguard does not filter its ingress and egress"
    assert done.err.splitlines()[-1] == last


# ---- all interfaces


@pytest.fixture
def host(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[], list[Restored]]:
    """Restores all, in a folder of this test's own, where the site's namespace is the host's."""
    inode = inside(site.end.name, netns.identity).inode
    monkeypatch.setattr(netns, "first", lambda: inode)
    monkeypatch.setattr(kept_records, "FOLDER", tmp_path / "state")
    return lambda: inside(site.end.name, list, restore(None, None, site.said.append))


def test_all_that_is_kept_comes_back_but_what_cannot(
    site: Site, lab: Lab, host: Callable[[], list[Restored]]
) -> None:
    """One is damaged, one gone, one whole, and one of a namespace that is gone."""
    loaded(site, dropping(A))
    reboot(site)
    folder = kept_records.FOLDER / "host"
    assert (folder / "s0" / "confirmed").is_symlink()
    (folder / "s0").rename(folder / "lo")
    loaded(site, dropping(A))
    reboot(site)
    where = kept_records.Records(None, "gone0")
    where.store(1.5, RECORD)
    where.mark(1.5)
    other = kept_records.Records("xgt-none", "eth0")
    other.store(1.5, RECORD)
    other.mark(1.5)
    next((folder / "lo").glob("*.rules")).write_bytes(b"")
    found = {(one.netns, one.interface): one for one in host()}
    assert {key: one.result for key, one in found.items()} == {
        (None, "gone0"): "missing",
        (None, "lo"): "failed",
        (None, "s0"): "restored",
        ("xgt-none", "eth0"): "missing",
    }
    assert [key for key, one in found.items() if one.error] == [(None, "lo")]
    assert f"no such interface: gone0; its confirmed rules stay kept in {where.folder}" in site.said
    assert any(line.startswith("no such network namespace: xgt-none ") for line in site.said)
    assert verdicts(site.end).whole({A})


def test_where_nothing_is_kept_all_is_nothing(site: Site, host: Callable[[], list[Restored]]) -> None:
    assert host() == []
    assert site.said == [f"no confirmed rules are kept in {kept_records.FOLDER}: nothing to restore"]


def test_rules_of_the_host_are_not_restored_from_another_namespace(
    site: Site, host: Callable[[], list[Restored]]
) -> None:
    loaded(site, dropping(A))
    reboot(site)
    assert inside(site.peer.name, list, restore(None, None, site.said.append)) == []
    assert site.said[-1] == "s0: is of the host's network namespace: run restore there; nothing changed"
    assert verdicts(site.end) == Verdicts(None, None)


def test_the_document_tells_what_became_of_each(site: Site) -> None:
    loaded(site, dropping(A))
    byte_changed(site)
    reboot(site)
    done = site.console("restore", "--format", "json")
    document = json.loads(done.out)
    (one,) = document["interfaces"]
    error = one.pop("error")
    assert error.endswith("is damaged: not used; nothing changed")
    assert (done.code, document["schema"]) == (1, "xdpguard.restore/1")
    assert one == {
        "interface": "s0", "netns": site.end.name, "result": "failed", "file": None, "exit_code": 1,
        "unfiltered": ["ingress", "egress"],
    }  # fmt: skip
