"""stats --format table."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_ui_samples import EGRESS, INGRESS, broken, hook, interface, later, lossy, snapshot

from xdpguard.stats.model import Count, RuleCount, Snapshot
from xdpguard.ui.rows import OWNER_VIEWS, VIEWS
from xdpguard.ui.stats import render

OVERVIEW = """\
veth0 (netns blue): native, generation 3

                            ingress             egress
                            packets    bytes   packets    bytes
------------------------  ---------  -------  --------  -------
seen                          1,990   199 kB         7    700 B
------------------------  ---------  -------  --------  -------
aborted                           0      0 B         0      0 B
drop                             24  2.40 kB         0      0 B
pass                          1,966   197 kB         7    700 B
tx                                0      0 B         0      0 B
redirect                          0      0 B         0      0 B
------------------------  ---------  -------  --------  -------
tcp                           1,964   196 kB         0      0 B
udp                              18  1.80 kB         5    500 B
icmp                              8    800 B         0      0 B
icmpv6                            0      0 B         0      0 B
sctp                              0      0 B         0      0 B
arp                               0      0 B         2    200 B
other_ip                          0      0 B         0      0 B
non_ip                            0      0 B         0      0 B
------------------------  ---------  -------  --------  -------
rules                         1,923   192 kB         0      0 B
default (pass)                   56  5.60 kB         5    500 B
malformed_ipv6_extension          1    100 B         0      0 B
essential                        10  1.00 kB         2    200 B

hook     rule           action      packets    bytes
-------  -------------  --------  ---------  -------
ingress  ssh            pass          1,900   190 kB
ingress  telnet         drop             20  2.00 kB
ingress  old (retired)  drop              3    300 B
"""

BY_RULE = """\
veth0 (netns blue): native, generation 3

hook     rule           action      packets    bytes
-------  -------------  --------  ---------  -------
ingress  ssh            pass          1,900   190 kB
ingress  telnet         drop             20  2.00 kB
ingress  old (retired)  drop              3    300 B
ingress  (default)      pass             56  5.60 kB
ingress  (reasons)                       11  1.10 kB
ingress  (seen)                       1,990   199 kB
-------  -------------  --------  ---------  -------
egress   ssh            pass              0      0 B
egress   telnet         drop              0      0 B
egress   old (retired)  drop              0      0 B
egress   (default)      pass              5    500 B
egress   (reasons)                        2    200 B
egress   (seen)                           7    700 B
"""


def words(text: str) -> list[list[str]]:
    """The table's lines as words: what is shown, wherever it stands."""
    return [line.split() for line in text.splitlines() if line and not line.startswith("--")]


def test_the_overview_shows_every_part_of_the_identity_and_only_what_was_hit() -> None:
    assert words(render(snapshot(), None, "table")) == words(OVERVIEW)


@pytest.mark.parametrize("by", [None, "action"])
def test_what_was_not_delivered_is_a_line_of_its_own(by: str | None) -> None:
    text = render(lossy(1234, None), by, "table")
    assert "\n\nnot delivered (ingress): tx 1,234, redirect not observed\n" in text


def test_frames_whose_delivery_is_not_observed_are_told_and_none_when_none_were_sent() -> None:
    text = render(lossy(None, None), None, "table")
    assert "\nnot delivered (ingress): tx not observed, redirect not observed\n" in text
    assert "delivered" not in render(snapshot(), None, "table")
    assert "delivered" not in render(lossy(0, 0, sent=0), None, "table")


def test_by_rule_shows_every_rule_and_what_completes_the_sum() -> None:
    assert words(render(snapshot(), "rule", "table")) == words(BY_RULE)


@pytest.mark.parametrize(
    ("by", "names"),
    [
        ("action", ["aborted", "drop", "pass", "tx", "redirect"]),
        ("protocol", ["tcp", "udp", "icmp", "icmpv6", "sctp", "arp", "other_ip", "non_ip"]),
        ("reason", ["malformed_ipv6_extension", "fragment", "essential"]),
    ],
)
def test_a_view_shows_seen_and_all_names_of_its_kind(by: str, names: list[str]) -> None:
    assert [line[0] for line in words(render(snapshot(), by, "table"))[3:]] == ["seen", *names]


@pytest.mark.parametrize("by", [None, *(view for view in VIEWS if view not in OWNER_VIEWS)])
def test_every_column_starts_under_its_heading(by: str | None) -> None:
    lines = render(snapshot(), by, "table").splitlines()
    rules = [line for line in lines if line.startswith("--")]
    cells = [line for line in lines[2:] if line and not line.startswith("--")]
    assert rules
    for line in cells:
        assert any(
            all(line[i : i + 1] in ("", " ") for i in range(len(rule)) if rule[i] == " ") for rule in rules
        )


def test_the_overview_stays_under_100_columns_with_the_largest_counters_and_names() -> None:
    huge = {name: 2**54 * (i + 1) for i, name in enumerate(INGRESS | EGRESS)}
    huge |= {"malformed_ipv6_extension": 2**56}
    counts = hook(**huge)
    rules = (RuleCount("x" * 64, "redirect", Count(2**57, 2**63), retired=True),)
    big = replace(interface(), ingress=replace(counts, rules=rules), egress=counts)
    before = Snapshot(0.0, (replace(big, ingress=hook(), egress=hook()),))
    now = Snapshot(10.0, (big,))
    for previous in (None, before):
        body = [line for line in render(now, None, "table", previous).splitlines() if line[:3] != "!!!"]
        assert max(map(len, body)) < 100


def test_rates_stand_beside_the_totals() -> None:
    before = snapshot()
    lines = words(render(later(before, 2.0, drop=6, tcp=6, telnet=6), None, "table", before))
    assert ["drop", "30", "3.00", "kB", "3.00", "2.40", "k", "0", "0", "B", "0", "0"] in lines
    assert ["ingress", "telnet", "drop", "26", "2.60", "kB", "3.00", "2.40", "k"] in lines


def test_a_rate_that_is_not_known_is_a_dash() -> None:
    lines = words(render(snapshot(), None, "table", snapshot()))
    assert ["drop", "24", "2.40", "kB", "-", "-", "0", "0", "B", "-", "-"] in lines


def test_different_defaults_are_both_named() -> None:
    counts = replace(interface(), ingress=replace(hook(), default_action="drop"))
    assert "default (drop / pass)" in render(snapshot(counts), None, "table")


def test_the_overview_names_how_many_rules_it_leaves_out() -> None:
    rules = tuple(RuleCount(f"r{i}", "drop", Count(i, i)) for i in range(26))
    counts = replace(interface(), ingress=replace(hook(), rules=rules))
    text = render(snapshot(counts), None, "table")
    assert "ingress  r25 " in text
    assert "ingress  r6 " in text
    assert "ingress  r5 " not in text
    assert "5 more rules with hits: see --by rule" in text


def test_a_rule_called_like_a_number_keeps_its_name() -> None:
    rules = (RuleCount("1e5", "drop", Count(1, 1)), RuleCount("007", "drop", Count(1, 1)))
    counts = replace(interface(), ingress=replace(hook(), rules=rules))
    text = render(snapshot(counts), "rule", "table")
    assert "ingress  1e5 " in text
    assert "ingress  007 " in text


def test_counters_that_do_not_add_up_are_loud_in_every_view() -> None:
    for by in (None, *VIEWS):
        assert "!!! veth0 (netns blue) ingress: THE COUNTERS DO NOT ADD UP" in render(broken(), by, "table")


def test_several_interfaces_are_apart_and_their_names_are_escaped() -> None:
    text = render(snapshot(interface(), interface("e\x1b[2J", None)), "action", "table")
    assert "\x1b" not in text
    assert "\n\n" + r"e\x1b[2J: native, generation 3" in text


def test_an_interface_whose_program_is_gone_is_told_in_the_heading() -> None:
    text = render(snapshot(replace(interface(), mode="none")), "action", "table")
    assert text.startswith("veth0 (netns blue): XDP not attached, generation 3\n")
