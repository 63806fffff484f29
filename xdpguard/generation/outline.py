"""What a load asks of a rule set beside its tables: small, and of nothing but the rules themselves. Pure.

What is told of single rules, which may be a hundred thousand, stays packed until somebody asks.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate, groupby
from typing import NamedTuple

from xdpguard.generation import manifest
from xdpguard.rules.model import Action, Hook, Rule, RuleSet


class Redirecting(NamedTuple):
    """The first rule of a hook (0: ingress, 1: egress) that redirects to an interface."""

    hook: int
    interface: str
    rule: str  # its name
    place: str


@dataclass(frozen=True, slots=True)
class Outline:
    """``counts``, ``defaults``: of ingress and egress."""

    file: str
    content_hash: str
    notes: tuple[str, ...]
    counts: tuple[int, int]
    defaults: tuple[str, str]
    redirects: tuple[Redirecting, ...]
    tx: bool  # an ingress rule sends back
    vlan: str  # the first ingress rule that looks at the VLAN; "": none
    names: bytes  # as in a manifest
    places: bytes  # of the rules, packed

    @property
    def sends(self) -> bool:
        """May an ingress rule send a frame?"""
        return self.tx or any(one.hook == 0 for one in self.redirects)

    def named(self, loaded_at: float, targets: dict[str, int]) -> bytes:
        """The encoded manifest of a generation. ``targets``: of redirects, name -> ifindex."""
        head = manifest.Head(self.file, self.content_hash, loaded_at, self.defaults, targets)
        return manifest.joined(head, self.names)

    def rule(self, hook: int, index: int) -> tuple[str, str, str]:
        """Place, name and action of a rule."""
        named = manifest.unpacked(self.names)[hook][index]
        files, columns = json.loads(zlib.decompress(self.places))[hook]
        ends = list(accumulate(count for _, count in files))
        file = files[bisect_right(ends, index)][0] or self.file
        return f"{file}:{named.line}:{columns[index]}", named.name, named.action


def outline(ruleset: RuleSet) -> Outline:
    hooks = (ruleset.ingress, ruleset.egress)
    ingress = ruleset.ingress.rules
    vlan = next((rule.name for rule in ingress if rule.match.vlan is not None), "")
    return Outline(
        file=ruleset.file,
        content_hash=ruleset.content_hash,
        notes=ruleset.notes,
        counts=(len(ingress), len(ruleset.egress.rules)),
        defaults=manifest.defaults(ruleset),
        redirects=tuple(one for at, hook in enumerate(hooks) for one in _redirects(ruleset, at, hook)),
        tx=any(rule.action is Action.TX for rule in ingress),
        vlan=vlan,
        names=manifest.packed(ruleset),
        places=_packed([_places(hook.rules) for hook in hooks]),
    )


def _redirects(ruleset: RuleSet, number: int, hook: Hook) -> list[Redirecting]:
    found: dict[str, Redirecting] = {}
    for rule in hook.rules:
        if rule.redirect is not None and rule.redirect.interface not in found:
            name = rule.redirect.interface
            found[name] = Redirecting(number, name, rule.name, ruleset.place(rule))
    return list(found.values())


def _places(rules: tuple[Rule, ...]) -> tuple[list[tuple[str, int]], list[int]]:
    """Files in the order of the rules, with their numbers of rules; and columns."""
    files = [(file, len(list(some))) for file, some in groupby(rule.file for rule in rules)]
    return files, [rule.column for rule in rules]


def _packed(document: object) -> bytes:
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)
