"""Owners in every format. The sample keeps the identity: each view adds up to what the hook has seen."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace

import pytest
from test_ui_samples import interface, later, snapshot

from xdpguard.stats.model import Count, HookCounts, HookOwners, OwnedCount, Owners, Snapshot
from xdpguard.ui.owners import remarks
from xdpguard.ui.stats import render

OWNER_VIEWS = ("process", "user", "container")


def owned(name: str, packets: int, dropped: int = 0, **who: object) -> OwnedCount:
    counts = {"count": Count(packets, 100 * packets), "dropped": Count(dropped, 100 * dropped)}
    return replace(OwnedCount(name), **counts, **who)  # type: ignore[arg-type]


def owners_of(side: HookCounts, packets: int, dropped: int) -> HookOwners:
    """nginx has ``packets``, the kernel 2, and nobody the rest."""
    rest = (side.seen().packets - packets - 2, side.actions["drop"].packets - dropped)
    last = (owned("(kernel)", 2), owned("(unknown)", *rest))
    reasons = {"no_owner": owned("no_owner", *rest), "no_ports": owned("no_ports", 0)}
    return HookOwners(
        (owned("nginx", packets, dropped, pid=4711, uid=33), *last),
        (owned("www-data", packets, dropped, uid=33), *last),
        (owned("web", packets, dropped, container="f" * 64), *last),
        reasons,
    )


def accounted(kept: bool = True, packets: int = 5) -> Snapshot:
    one = interface()
    owners = Owners(kept, owners_of(one.ingress, packets, 3), owners_of(one.egress, packets, 0))
    return snapshot(replace(one, owners=owners))


def test_a_table_has_both_directions_side_by_side_and_the_unknown_last() -> None:
    lines = render(accounted(), "process", "table").splitlines()
    cells = [line.split() for line in lines]
    assert ["seen", "1,990", "199", "kB", "24", "7", "700", "B", "0"] in cells
    assert ["nginx", "(4711)", "5", "500", "B", "3", "5", "500", "B", "0"] in cells
    assert ["(unknown)", "1,983", "198", "kB", "21", "0", "0", "B", "0"] in cells
    names = [line[0] for line in cells if line and line[0] in ("nginx", "(kernel)", "(unknown)")]
    assert names == ["nginx", "(kernel)", "(unknown)"]
    assert "(unknown), ingress: 1,983 no owner of the socket is known" in lines
    assert max(map(len, lines)) < 100


def test_an_owner_of_one_direction_only_has_no_numbers_in_the_other() -> None:
    base = accounted()
    [one] = base.interfaces
    assert one.owners is not None
    alone = owned("dig", 1, pid=9)
    ingress = replace(one.owners.ingress, processes=(alone, *one.owners.ingress.processes))
    shown = render(
        replace(base, interfaces=(replace(one, owners=replace(one.owners, ingress=ingress)),)),
        "process",
        "table",
    )
    [line] = [line for line in shown.splitlines() if line.startswith("dig")]
    assert line.split() == ["dig", "(9)", "1", "100", "B", "0"]


def test_without_a_tracer_one_line_says_so() -> None:
    said = "no `xdpguard trace` is running"
    assert said in render(accounted(kept=False), "user", "table")
    assert said not in render(accounted(), "user", "table")
    assert [said in line for line in remarks(accounted(kept=False))] == [True]


def test_an_interface_without_accounting_says_how_to_get_it() -> None:
    assert "load with --account-owners" in render(snapshot(), "process", "table")
    assert remarks(accounted()) == []


def test_csv_has_drops_and_numbers_behind_the_other_columns() -> None:
    rows = list(csv.DictReader(io.StringIO(render(accounted(), "container", "csv"))))
    assert list(rows[0])[:9] == [
        "interface", "hook", "kind", "name", "action", "packets", "bytes", "netns", "retired",
    ]  # fmt: skip
    assert list(rows[0])[9:] == ["dropped_packets", "dropped_bytes", "pid", "uid", "container"]
    web = rows[0]
    assert (web["hook"], web["kind"], web["name"]) == ("ingress", "container", "web")
    assert (web["packets"], web["dropped_packets"], web["pid"], web["container"]) == ("5", "3", "", "f" * 64)
    for hook, seen in (("ingress", 1990), ("egress", 7)):
        assert sum(int(row["packets"]) for row in rows if row["hook"] == hook) == seen


def test_csv_without_an_owner_view_has_no_columns_of_owners() -> None:
    assert render(accounted(), None, "csv") == render(snapshot(), None, "csv")


def test_json_has_all_three_views_whatever_was_asked_for() -> None:
    document = json.loads(render(accounted(), "user", "json"))
    owners = document["interfaces"][0]["owners"]
    assert list(owners) == ["kept", "ingress", "egress"]
    assert list(owners["ingress"]) == ["processes", "users", "containers", "unknown"]
    assert owners["ingress"]["processes"][0] == {
        "name": "nginx", "pid": 4711, "uid": 33, "packets": 5, "bytes": 500,
        "dropped": {"packets": 3, "bytes": 300},
    }  # fmt: skip
    assert list(owners["ingress"]["users"][0]) == ["name", "uid", "packets", "bytes", "dropped"]
    assert owners["ingress"]["containers"][0]["id"] == "f" * 64
    assert owners["ingress"]["unknown"]["no_owner"]["packets"] == 1983
    for view in ("processes", "users", "containers"):
        assert sum(row["packets"] for row in owners["ingress"][view]) == 1990


def test_plain_has_a_line_for_packets_and_one_for_drops() -> None:
    lines = render(accounted(), "process", "plain").splitlines()
    assert "Process nginx (4711): 5" in lines
    assert "Process nginx (4711) dropped: 3" in lines
    assert "TC Process (unknown): 0" in lines


@pytest.mark.parametrize(
    ("by", "labels"),
    [("user", 'user="www-data"'), ("container", f'container="web",container_id="{"f" * 64}"')],
)
def test_prometheus_has_packets_and_drops_by_user_and_container(by: str, labels: str) -> None:
    lines = render(accounted(), by, "prometheus").splitlines()
    place = f'interface="veth0",netns="blue",hook="ingress",{labels}'
    assert f"xdpguard_{by}_packets_total{{{place}}} 5" in lines
    assert f"xdpguard_{by}_dropped_packets_total{{{place}}} 3" in lines


def test_a_watch_has_rates_of_owners_and_none_for_a_new_one() -> None:
    before, now = accounted(packets=5), accounted(packets=25)
    now = replace(now, time=before.time + 10)
    document = json.loads(render(now, None, "json", before))
    rows = document["interfaces"][0]["owners"]["ingress"]["processes"]
    assert rows[0]["packets_per_second"] == 2.0
    assert rows[-1]["packets_per_second"] is None  # the unknown went back
    fresh = json.loads(render(now, None, "json", later(snapshot(), 0)))
    assert fresh["interfaces"][0]["owners"]["ingress"]["processes"][0]["packets_per_second"] is None


@pytest.mark.parametrize("format", ["plain", "csv", "table"])
@pytest.mark.parametrize("by", OWNER_VIEWS)
def test_a_name_that_came_from_outside_cannot_command_a_terminal(format: str, by: str) -> None:
    base = accounted()
    [one] = base.interfaces
    assert one.owners is not None
    bad = owned("a\x1b[2Jb", 5, 3, pid=1)
    side = replace(one.owners.ingress, processes=(bad,), users=(bad,), containers=(bad,))
    shown = render(
        replace(base, interfaces=(replace(one, owners=replace(one.owners, ingress=side)),)), by, format
    )
    assert "\x1b" not in shown
