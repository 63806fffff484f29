"""Counters that outlive a generation: what reused slots and replaced maps had counted.

Pure. A live value is these totals plus every slot that still holds counts of its own. What must never break:
a slot's counts are in exactly one of the two. A slot is folded under its serial number and a replaced set of
maps under its epoch, and both are recorded in the same store that makes the new totals valid
(``kernel/maps.py``, switch_bank); so a crash in between loses and doubles nothing.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from xdpguard.abi import abi, reasons
from xdpguard.generation.manifest import Manifest

_NUMBERS = abi().numbers
MATRIX = _NUMBERS["XG_PROTOS"] * _NUMBERS["XG_ACTIONS"]
REASONS = len(reasons())
DEFAULT_AT = _NUMBERS["XG_COUNT_DEFAULT"]
REASONS_AT = _NUMBERS["XG_COUNT_REASONS"]
RULES_AT = _NUMBERS["XG_COUNT_RULES"]
MERGED_KEY = "merged"
"""Stands for rules that found no room of their own; their counts are kept in one sum."""

Pair = list[int]
"""[packets, bytes]"""


@dataclass(slots=True)
class RuleTotal:
    name: str
    action: str
    count: Pair


@dataclass(slots=True)
class HookTotals:
    matrix: list[Pair] = field(default_factory=lambda: [[0, 0] for _ in range(MATRIX)])
    reasons: list[Pair] = field(default_factory=lambda: [[0, 0] for _ in range(REASONS)])
    default: Pair = field(default_factory=lambda: [0, 0])
    rules: dict[str, RuleTotal] = field(default_factory=dict)


@dataclass(slots=True)
class Totals:
    """``folded``: serials of slots, ``absorbed``: epochs of map sets, whose counts are in here."""

    folded: set[int] = field(default_factory=set)
    absorbed: set[int] = field(default_factory=set)
    hooks: tuple[HookTotals, HookTotals] = field(default_factory=lambda: (HookTotals(), HookTotals()))


def _add(to: Pair, packets: int, size: int) -> None:
    to[0] += packets
    to[1] += size


def add_slot(
    totals: Totals, names: Callable[[], Manifest | None], counters: Sequence[Sequence[Pair]]
) -> None:
    """Add one slot's counts. ``counters[hook][index]``: summed over CPUs, laid out as abi.h's XG_COUNT_*.

    ``names``: of its rules, maybe a hundred thousand, asked for only if one of them met a packet.
    """
    for hook, counts in zip(totals.hooks, counters, strict=True):
        for index in range(MATRIX):
            _add(hook.matrix[index], *counts[index])
        for index in range(REASONS):
            _add(hook.reasons[index], *counts[REASONS_AT + index])
        _add(hook.default, *counts[DEFAULT_AT])
    if any(count[0] for counts in counters for count in counts[RULES_AT:]):
        _add_rules(totals, names(), counters)


def _add_rules(totals: Totals, manifest: Manifest | None, counters: Sequence[Sequence[Pair]]) -> None:
    """``manifest`` None: the slot was emptied meanwhile."""
    if manifest is None:
        return
    for hook, named, counts in zip(totals.hooks, manifest.rules, counters, strict=True):
        for rule, count in zip(named, counts[RULES_AT:], strict=True):
            if count[0]:  # most rules of a long list meet no packet
                _add(_rule(hook, rule.key, rule.name, rule.action).count, *count)


def add_totals(totals: Totals, other: Totals) -> None:
    """Add another set's totals; its marks mean nothing here and are left out."""
    for hook, more in zip(totals.hooks, other.hooks, strict=True):
        for mine, theirs in ((hook.matrix, more.matrix), (hook.reasons, more.reasons)):
            for index, count in enumerate(theirs):
                _add(mine[index], *count)
        _add(hook.default, *more.default)
        for key, rule in more.rules.items():
            _add(_rule(hook, key, rule.name, rule.action).count, *rule.count)


def _rule(hook: HookTotals, key: str, name: str, action: str) -> RuleTotal:
    found = hook.rules.get(key)
    if found is None:
        found = hook.rules[key] = RuleTotal(name, action, [0, 0])
    return found


def encode(totals: Totals, room: int, live: frozenset[str]) -> bytes:
    """At most ``room`` bytes. What does not fit is merged into one sum, fewest packets first.

    ``live``: keys of rules that are still held; they are merged last. Raises ValueError if there is no room
    for the sums alone.
    """
    data = packed(totals)
    while len(data) > room:
        rules = [
            (key in live, rule.count[0], key, hook)
            for hook in totals.hooks
            for key, rule in hook.rules.items()
            if key != MERGED_KEY
        ]
        if not rules:
            raise ValueError(f"the totals need {len(data)} bytes; there is room for {room}")
        # Live rules go only when no other is left to merge.
        rules = [entry for entry in rules if not entry[0]] or rules
        rules.sort(key=lambda entry: entry[1])
        for _, _, key, hook in rules[: len(rules) // 4 + 1]:
            rule = hook.rules.pop(key)
            _add(_rule(hook, MERGED_KEY, "(merged rules)", "").count, *rule.count)
        data = packed(totals)
    return data


def packed(totals: Totals) -> bytes:
    """All of them, whatever room that takes."""
    document = {
        "folded": sorted(totals.folded),
        "absorbed": sorted(totals.absorbed),
        "hooks": [
            {
                "matrix": hook.matrix,
                "reasons": hook.reasons,
                "default": hook.default,
                "rules": {
                    key: (rule.name, rule.action, *rule.count)
                    for key, rule in hook.rules.items()
                    if rule.count[0]
                },
            }
            for hook in totals.hooks
        ],
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)


def decode(data: bytes) -> Totals:
    """Empty bytes are empty totals. Raises ValueError if the bytes are damaged."""
    if not data:
        return Totals()
    try:
        document = json.loads(zlib.decompress(data))
        ingress, egress = (
            HookTotals(
                hook["matrix"],
                hook["reasons"],
                hook["default"],
                {
                    key: RuleTotal(name, action, [packets, size])
                    for key, (name, action, packets, size) in hook["rules"].items()
                },
            )
            for hook in document["hooks"]
        )
        return Totals(set(document["folded"]), set(document["absorbed"]), (ingress, egress))
    except (zlib.error, KeyError, TypeError) as error:
        raise ValueError(f"damaged totals: {error}") from error
