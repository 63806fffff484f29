"""Condition words: what a rule says beside its addresses, compared lane by lane."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from strategies import random_match, seeds

from xdpguard.abi import abi
from xdpguard.classify.columns import columns
from xdpguard.classify.conditions import PAGES, conditions
from xdpguard.classify.lanes import GUARDS, MOST_WORDS, Lanes, _distinct, l4_values, lanes
from xdpguard.rules.model import Intervals, Match, Protocols

NUMBERS = abi().numbers
SHIFTS = {name: NUMBERS[f"XG_LANE_{name.upper()}"] for name in ("sport", "dport", "l4", "vlan")}
WIDTHS = {"sport": 16, "dport": 16, "l4": 7, "vlan": 6}
BOTH = Protocols(frozenset({6}), frozenset({6}))


def words(found: Lanes, rule: int) -> list[tuple[int, int]]:
    at = slice(found.offsets[rule], found.offsets[rule + 1])
    return list(zip(found.low[at].tolist(), found.high[at].tolist(), strict=True))


def allows(found: Lanes, rule: int, values: dict[str, int]) -> bool:
    """As the programs ask: by the classes of L4 index and VLAN, all lanes in one subtraction."""
    classes = values | {name: int(found.tables[name][values[name]]) for name in ("l4", "vlan")}
    word = sum(classes[name] << shift for name, shift in SHIFTS.items())
    return any(
        ((word | GUARDS) - low) & ((high | GUARDS) - word) & GUARDS == GUARDS
        for low, high in words(found, rule)
    )


def wanted(match: Match, values: dict[str, int]) -> bool:
    asked = conditions(match)
    return all(
        (spans := getattr(asked, name)) is None or any(low <= value <= high for low, high in spans)
        for name, value in values.items()
    )


def spots(spans: Intervals | None, most: int) -> list[int]:
    ends = [0, most, *(end + near for span in spans or () for end in span for near in (-1, 0, 1))]
    return sorted({end for end in ends if 0 <= end <= most})


def check(matches: list[Match], family: int) -> Lanes:
    """Each rule at the edges of its own values, one field off at a time."""
    found = lanes(columns(matches), family)
    of_family = np.nonzero(l4_values(family))[0].tolist()
    for rule, match in enumerate(matches):
        asked = conditions(match)
        if found.unfit[rule]:
            assert words(found, rule) == []
            continue
        assert len(words(found, rule)) <= MOST_WORDS
        inside = {
            "sport": next(iter(asked.sport or ((7, 7),)))[0],
            "dport": next(iter(asked.dport or ((7, 7),)))[0],
            "l4": next((at for at in of_family if any(low <= at <= high for low, high in asked.l4)), 0),
            "vlan": next(iter(asked.vlan or ((5, 5),)))[0],
        }
        tried = {
            "sport": spots(asked.sport, 65535),
            "dport": spots(asked.dport, 65535),
            "l4": [at for at in spots(asked.l4, PAGES["l4"] * 256 - 1) if l4_values(family)[at]],
            "vlan": spots(asked.vlan, 4096),
        }
        for name, values in tried.items():
            for value in values:
                packet = inside | {name: value}
                if l4_values(family)[packet["l4"]]:
                    assert allows(found, rule, packet) == wanted(match, packet), (match, packet)
    return found


@pytest.mark.parametrize("family", [4, 6])
@settings(deadline=None, max_examples=40)
@given(rng=seeds)
def test_words_hold_what_the_rules_say(family: int, rng: object) -> None:
    check([random_match(rng) for _ in range(30)], family)  # type: ignore[arg-type]


def test_the_guard_bits_lie_above_the_lanes() -> None:
    above = sum(1 << SHIFTS[name] + width for name, width in WIDTHS.items())
    assert above | 1 << 63 == GUARDS
    assert NUMBERS["XG_MAX_L4_CLASSES"] == 1 << WIDTHS["l4"]
    assert NUMBERS["XG_MAX_VLAN_CLASSES"] == 1 << WIDTHS["vlan"]
    assert NUMBERS["XG_LANE_BROAD"] + 14 == 63
    assert NUMBERS["XG_MAX_BROAD"] == 1 << 14


def test_a_rule_without_conditions_holds_the_whole_of_every_lane() -> None:
    found = check([Match(), Match(dport=((80, 80),))], 4)
    whole = sum((1 << width) - 1 << SHIFTS[name] for name, width in WIDTHS.items())
    assert words(found, 0) == [(0, whole)]


def test_a_list_of_ports_becomes_one_word_each() -> None:
    ports: Intervals = ((0, 0), (22, 22), (80, 90), (65535, 65535))
    assert len(words(check([Match(dport=ports)], 4), 0)) == 4
    assert len(words(check([Match(sport=ports, dport=ports)], 6), 0)) == 16


def test_more_words_than_a_rule_may_have_make_it_unfit() -> None:
    ports = tuple((at * 3, at * 3) for at in range(MOST_WORDS + 1))
    found = check([Match(dport=ports[:-1]), Match(dport=ports), Match(sport=ports[:2], dport=ports[:9])], 4)
    assert found.unfit.tolist() == [False, True, True]


def test_no_port_at_all_is_no_word() -> None:
    found = check([Match(dport=()), Match(vlan=())], 4)
    assert (found.offsets.tolist(), found.unfit.tolist()) == ([0, 0, 0], [False, False])


def test_each_family_has_classes_for_its_own_protocols() -> None:
    """Sixty protocol numbers in each family: together they would not fit into a lane, alone they do."""
    matches = [Match(ipv6=False, protocols=Protocols(frozenset({at}), frozenset())) for at in range(100, 180)]
    matches += [
        Match(ipv4=False, protocols=Protocols(frozenset(), frozenset({at}))) for at in range(100, 180)
    ]
    for family, own in ((4, slice(0, 80)), (6, slice(80, 160))):
        found = check(matches, family)
        assert not found.unfit.any()
        assert np.diff(found.offsets)[own].tolist() == [1] * 80


@pytest.mark.parametrize("family", [4, 6])
def test_rules_of_too_many_protocols_are_unfit_the_least_used_ones_first(family: int) -> None:
    matches = [Match(protocols=Protocols(frozenset({at}), frozenset({at}))) for at in range(256)]
    matches += [Match(protocols=Protocols(frozenset({200}), frozenset({200})))] * 3
    found = check(matches, family)
    assert 256 - NUMBERS["XG_MAX_L4_CLASSES"] <= found.unfit.sum() < 256 - 100
    assert not found.unfit[200]
    assert found.tables["l4"].max() < NUMBERS["XG_MAX_L4_CLASSES"]


def test_rules_of_too_many_vlans_are_unfit() -> None:
    found = check([Match(vlan=((at, at),)) for at in range(100)] + [Match(vlan=((99, 99),))], 4)
    assert found.unfit.sum() == 101 - (NUMBERS["XG_MAX_VLAN_CLASSES"] - 1) - 1
    assert not found.unfit[[99, 100]].any()
    assert found.tables["vlan"].max() < NUMBERS["XG_MAX_VLAN_CLASSES"]


def test_nested_sets_of_vlans_are_one_range_of_classes() -> None:
    found = check([Match(vlan=((10, 4000),)), Match(vlan=((20, 300),)), Match(vlan=((30, 40),))], 4)
    assert np.diff(found.offsets).tolist() == [1, 1, 1]


def test_classes_that_are_not_neighbours_take_a_word_each() -> None:
    """Seven crossing sets: some cannot be one range of classes, whatever the numbering."""
    sets = [tuple((at, at) for at in range(1, 64) if at >> bit & 1) for bit in range(6)]
    found = check([Match(vlan=spans) for spans in sets], 6)
    assert max(np.diff(found.offsets)) > 1


def test_rules_whose_combinations_are_more_than_64_bits_can_count_are_kept_apart() -> None:
    """Numbered digit by digit in 64 bits, the first two would be the same."""
    most = (1 << 17) - 2
    ids = {name: np.array([0, 0, most]) for name in ("dport", "l4", "vlan")}
    specs, of_rule = _distinct({"sport": np.array([0, 1 << 13, most]), **ids})
    assert specs["sport"][of_rule].tolist() == [0, 1 << 13, most]
