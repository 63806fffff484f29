"""stats as plain, json, csv and prometheus."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import pytest
from test_ui_samples import REASONS, hook, interface, later, lossy, snapshot

from xdpguard.stats.model import ACTIONS, PROTOCOLS, Count, RuleCount, Snapshot
from xdpguard.ui.rows import VIEWS
from xdpguard.ui.stats import FORMATS, render

PLAIN = """\
XDP_ABORTED: 0
XDP_DROP: 24
XDP_PASS: 1966
XDP_TX: 0
XDP_REDIRECT: 0
TCP Packets: 1964
UDP Packets: 18
ICMP Packets: 8
ICMPv6 Packets: 0
SCTP Packets: 0
ARP Packets: 0
Other IP Packets: 0
Non-IP Packets: 0
Rule ssh: 1900
Rule telnet: 20
Rule old (retired): 3
Default pass: 56
Reason malformed_ipv6_extension: 1
Reason fragment: 0
Reason essential: 10
Packets Seen: 1990
TC_ABORTED: 0
"""


def named(name: str) -> Snapshot:
    return snapshot(interface(name, name))


# ---- plain


def test_plain_is_one_counter_a_line() -> None:
    assert render(snapshot(), None, "plain").startswith(PLAIN)


def test_plain_marks_the_lines_of_the_tc_side() -> None:
    lines = render(snapshot(), None, "plain").splitlines()
    assert {"TC_PASS: 7", "TC UDP Packets: 5", "TC ARP Packets: 2", "TC Rule ssh: 0"} < set(lines)
    assert {"TC Default pass: 5", "TC Reason essential: 2", "TC Packets Seen: 7"} < set(lines)


def test_plain_shows_one_kind_and_what_was_seen_when_asked() -> None:
    lines = render(snapshot(), "reason", "plain").splitlines()
    assert lines[:4] == [
        "Reason malformed_ipv6_extension: 1",
        "Reason fragment: 0",
        "Reason essential: 10",
        "Packets Seen: 1990",
    ]
    assert len(lines) == 8


def test_plain_has_a_heading_per_interface_if_there_are_several() -> None:
    text = render(snapshot(interface(), interface("eth0", None)), "action", "plain")
    assert text.startswith("veth0 (netns blue):\nXDP_ABORTED: 0\n")
    assert "\n\neth0:\nXDP_ABORTED: 0\n" in text


def test_plain_rates_follow_the_total() -> None:
    before = snapshot()
    assert "XDP_DROP: 30 (3.0 packets/s, 2400 bits/s)\n" in render(
        later(before, 2.0, drop=6), None, "plain", before
    )


# ---- json


def test_the_json_document_has_exactly_the_keys_of_its_schema() -> None:
    document = json.loads(render(snapshot(), None, "json"))
    assert list(document) == ["schema", "time", "interfaces"]
    assert document["schema"] == "xdpguard.stats/1"
    assert document["time"] == "2023-11-14T22:13:20.000Z"
    [one] = document["interfaces"]
    assert list(one) == ["interface", "ifindex", "netns", "generation", "mode", "ingress", "egress", "owners"]
    assert one["owners"] is None  # not accounted: see test_ui_owners.py
    assert [one[key] for key in list(one)[:5]] == ["veth0", 7, "blue", 3, "native"]
    for side in (one["ingress"], one["egress"]):
        assert list(side) == [
            "seen", "actions", "not_delivered", "protocols", "reasons", "rules", "default",
        ]  # fmt: skip
        assert tuple(side["actions"]) == ACTIONS
        assert tuple(side["protocols"]) == PROTOCOLS
        assert tuple(side["reasons"]) == REASONS
        leaves = [side["seen"], *side["actions"].values(), *side["protocols"].values()]
        assert all(list(leaf) == ["packets", "bytes"] for leaf in [*leaves, *side["reasons"].values()])
        assert all(list(rule) == ["name", "action", "packets", "bytes", "retired"] for rule in side["rules"])
        assert list(side["default"]) == ["action", "packets", "bytes"]


def test_the_json_document_has_the_numbers() -> None:
    ingress = json.loads(render(snapshot(), None, "json"))["interfaces"][0]["ingress"]
    assert ingress["seen"] == {"packets": 1990, "bytes": 199000}
    assert ingress["actions"]["drop"] == {"packets": 24, "bytes": 2400}
    assert ingress["rules"][2] == {
        "name": "old", "action": "drop", "packets": 3, "bytes": 300, "retired": True,
    }  # fmt: skip
    assert ingress["default"] == {"action": "pass", "packets": 56, "bytes": 5600}


def test_the_callers_own_namespace_is_null_in_json() -> None:
    document = json.loads(render(snapshot(interface(netns=None)), None, "json"))
    assert document["interfaces"][0]["netns"] is None


@pytest.mark.parametrize("by", VIEWS)
def test_by_leaves_the_json_document_whole(by: str) -> None:
    assert render(snapshot(), by, "json") == render(snapshot(), None, "json")


def test_json_rates_are_added_keys_and_null_while_unknown() -> None:
    before = snapshot()
    first = json.loads(render(before, None, "json", before))["interfaces"][0]["ingress"]
    assert first["actions"]["drop"] == {
        "packets": 24, "bytes": 2400, "packets_per_second": None, "bits_per_second": None,
    }  # fmt: skip
    second = json.loads(render(later(before, 2.0, drop=6), None, "json", before))["interfaces"][0]["ingress"]
    assert second["actions"]["drop"] == {
        "packets": 30, "bytes": 3000, "packets_per_second": 3.0, "bits_per_second": 2400.0,
    }  # fmt: skip


def test_json_keeps_any_name_exactly() -> None:
    name = 'a"b\\c\x1b\x7f\n\udcff\u202e'
    text = render(named(name), None, "json")
    assert json.loads(text)["interfaces"][0]["interface"] == name


# ---- csv


def test_csv_has_a_header_and_one_row_per_counter() -> None:
    rows = list(csv.reader(render(snapshot(), None, "csv").splitlines()))
    header = "interface,hook,kind,name,action,packets,bytes,netns,retired"
    assert rows[0] == header.split(",")
    assert len(rows) - 1 == 2 * (len(ACTIONS) + len(PROTOCOLS) + 3 + 1 + len(REASONS))
    assert ["veth0", "ingress", "action", "drop", "", "24", "2400", "blue", "0"] in rows
    assert ["veth0", "egress", "protocol", "arp", "", "2", "200", "blue", "0"] in rows
    assert ["veth0", "ingress", "rule", "old", "drop", "3", "300", "blue", "1"] in rows
    assert ["veth0", "ingress", "default", "default", "pass", "56", "5600", "blue", "0"] in rows
    assert ["veth0", "ingress", "reason", "essential", "", "10", "1000", "blue", "0"] in rows


def test_csv_by_rule_has_the_rules_and_the_default() -> None:
    rows = list(csv.reader(render(snapshot(), "rule", "csv").splitlines()))
    assert {row[2] for row in rows[1:]} == {"rule", "default"}


def test_csv_quotes_what_would_break_a_row() -> None:
    text = render(named('a,"b"'), "action", "csv")
    assert text.splitlines()[1] == '"a,""b""",ingress,action,aborted,,0,0,"a,""b""",0'


def test_csv_rates_are_columns_at_the_end_and_empty_while_unknown() -> None:
    before = snapshot()
    rows = list(csv.reader(render(later(before, 2.0, drop=6), "action", "csv", before).splitlines()))
    assert rows[0][-3:] == ["time", "packets_per_second", "bits_per_second"]
    assert rows[2][-3:] == ["2023-11-14T22:13:22.000Z", "3.000", "2400.000"]
    rows = list(csv.reader(render(before, "action", "csv", before).splitlines()))
    assert rows[2][-3:] == ["2023-11-14T22:13:20.000Z", "", ""]


# ---- prometheus


def samples(text: str) -> dict[str, int]:
    """Series -> value; a series that appears twice is an error of the format."""
    found: dict[str, int] = {}
    for line in text.splitlines():
        if not line.startswith("#"):
            series, value = line.rsplit(" ", 1)
            assert series not in found
            found[series] = int(value)
    return found


def test_prometheus_has_one_metric_per_kind_and_unit() -> None:
    text = render(snapshot(), None, "prometheus")
    kinds = ("action", "protocol", "rule", "default", "reason")
    metrics = [f"xdpguard_{kind}_{unit}_total" for kind in kinds for unit in ("packets", "bytes")]
    heads = [line for line in text.splitlines() if line.startswith("# TYPE")]
    assert heads == [f"# TYPE {metric} counter" for metric in metrics] + ["# TYPE xdpguard_generation gauge"]
    assert text.count("# HELP") == len(heads)
    place = 'interface="veth0",netns="blue"'
    found = samples(text)
    assert found[f'xdpguard_action_packets_total{{{place},hook="ingress",action="drop"}}'] == 24
    assert found[f'xdpguard_action_bytes_total{{{place},hook="ingress",action="drop"}}'] == 2400
    assert found[f'xdpguard_protocol_packets_total{{{place},hook="egress",protocol="arp"}}'] == 2
    assert found[f'xdpguard_rule_packets_total{{{place},hook="ingress",rule="ssh",action="pass"}}'] == 1900
    assert found[f'xdpguard_default_packets_total{{{place},hook="ingress"}}'] == 56
    assert found[f'xdpguard_reason_packets_total{{{place},hook="ingress",reason="essential"}}'] == 10
    assert found[f'xdpguard_generation{{{place},mode="native"}}'] == 3


def test_prometheus_samples_stand_under_the_head_of_their_metric() -> None:
    current = ""
    for line in render(snapshot(), None, "prometheus").splitlines():
        if line.startswith("# TYPE"):
            current = line.split()[2]
        elif not line.startswith("#"):
            assert line.split("{")[0] == current


def test_prometheus_adds_a_retired_rule_to_the_live_one_of_its_name() -> None:
    rules = (RuleCount("a", "drop", Count(5, 50)), RuleCount("a", "drop", Count(7, 70), retired=True))
    counts = replace(interface(), ingress=replace(hook(), rules=rules))
    found = samples(render(snapshot(counts), "rule", "prometheus"))
    series = (
        'xdpguard_rule_packets_total{interface="veth0",netns="blue",hook="ingress",rule="a",action="drop"}'
    )
    assert found[series] == 12


@pytest.mark.parametrize(
    ("value", "escaped"),
    [
        ('a"b', r"a\"b"),
        ("a\\b", r"a\\b"),
        ("a\nb", r"a\nb"),
        ("a\x1bb", r"a\\x1bb"),
        ("büro", "büro"),
    ],
)
def test_prometheus_label_values_are_escaped(value: str, escaped: str) -> None:
    assert f'{{interface="{escaped}",netns="{escaped}",hook=' in render(named(value), None, "prometheus")


# ---- what was not delivered


def test_plain_tells_what_was_not_delivered_below_its_action() -> None:
    text = render(lossy(), None, "plain")
    assert "XDP_TX: 5\nXDP_TX not delivered: 3\nXDP_REDIRECT: 0\nXDP_REDIRECT not delivered: 0\nTCP" in text
    assert "TC_TX: 0\nTC_REDIRECT: 0\n" in text
    assert "XDP_TX not delivered: 3\n" in render(lossy(), "action", "plain")


def test_json_tells_what_was_not_delivered_and_null_where_it_is_not_observed() -> None:
    [one] = json.loads(render(lossy(redirect=None), None, "json"))["interfaces"]
    assert one["ingress"]["not_delivered"] == {"tx": 3, "redirect": None}
    assert one["egress"]["not_delivered"] == {"tx": None, "redirect": None}


@pytest.mark.parametrize("by", [None, "action"])
def test_csv_has_rows_of_what_was_not_delivered_without_bytes(by: str | None) -> None:
    rows = [line for line in render(lossy(), by, "csv").splitlines() if "not_delivered" in line]
    assert rows == [
        "veth0,ingress,not_delivered,tx,,3,,blue,0",
        "veth0,ingress,not_delivered,redirect,,0,,blue,0",
    ]
    rated = render(lossy(), by, "csv", lossy()).splitlines()
    assert "veth0,ingress,not_delivered,tx,,3,,blue,0,2023-11-14T22:13:20.000Z,," in rated


def test_prometheus_has_a_metric_of_what_was_not_delivered() -> None:
    text = render(lossy(), None, "prometheus")
    metric = "xdpguard_not_delivered_packets_total"
    assert text.count(f"# TYPE {metric} counter\n") == text.count(f"# HELP {metric} ") == 1
    labels = 'interface="veth0",netns="blue",hook="ingress",action='
    found = {series: value for series, value in samples(text).items() if series.startswith(metric)}
    assert found == {f'{metric}{{{labels}"tx"}}': 3, f'{metric}{{{labels}"redirect"}}': 0}
    assert len(samples(render(lossy(redirect=None), None, "prometheus"))) == len(samples(text)) - 1


@pytest.mark.parametrize("by", ["protocol", "rule", "reason"])
@pytest.mark.parametrize("format", ["table", "plain", "csv", "prometheus"])
def test_a_view_without_actions_does_not_tell_what_was_not_delivered(format: str, by: str) -> None:
    assert "deliver" not in render(lossy(), by, format)


@pytest.mark.parametrize("format", ["plain", "csv", "prometheus"])
def test_where_delivery_is_not_observed_there_is_no_number(format: str) -> None:
    assert "deliver" not in render(lossy(None, None), None, format)


# ---- all


@pytest.mark.parametrize("format", FORMATS)
def test_no_format_lets_a_control_character_of_a_name_through(format: str) -> None:
    text = render(named("a\x1b[2J\x07\x7f\x9b"), None, format)
    assert text.replace("\n", "").isprintable()


@pytest.mark.parametrize("format", FORMATS)
def test_every_document_ends_in_one_newline(format: str) -> None:
    text = render(snapshot(), None, format)
    assert text.endswith("\n")
    assert not text.endswith("\n\n")
