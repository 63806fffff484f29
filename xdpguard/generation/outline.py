"""What a load asks of a rule set beside its tables: small, and of nothing but the rules themselves. Pure.

What is told of single rules, which may be a hundred thousand, stays packed until somebody asks.
"""

from __future__ import annotations

import json
import zlib
from bisect import bisect_right
from dataclasses import dataclass
from itertools import accumulate
from typing import NamedTuple

from xdpguard.generation import manifest
from xdpguard.rules.many import Rules
from xdpguard.rules.model import Action, RuleSet


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


def named(ruleset: RuleSet) -> tuple[bytes, bytes]:
    """What is told of single rules: ``names`` and ``places`` of the outline."""
    hooks = (Rules.of(ruleset.ingress.rules), Rules.of(ruleset.egress.rules))
    return manifest.packed(ruleset), _packed([(rules.files, rules.columns) for rules in hooks])


def outline(ruleset: RuleSet, told: tuple[bytes, bytes] | None = None) -> Outline:
    """``told``: what ``named`` answers, if it was asked before."""
    names, places = told or named(ruleset)
    hooks = [Rules.of(hook.rules) for hook in (ruleset.ingress, ruleset.egress)]
    templates = hooks[0].matches.firsts
    vlan = next((hooks[0].names[at] for at, template in templates if template.vlan is not None), "")
    return Outline(
        file=ruleset.file,
        content_hash=ruleset.content_hash,
        notes=ruleset.notes,
        counts=(len(hooks[0]), len(hooks[1])),
        defaults=manifest.defaults(ruleset),
        redirects=tuple(one for at, rules in enumerate(hooks) for one in _redirects(ruleset, at, rules)),
        tx=any(template.action is Action.TX for _, template in templates),
        vlan=vlan,
        names=names,
        places=places,
    )


def _redirects(ruleset: RuleSet, number: int, rules: Rules) -> list[Redirecting]:
    found: dict[str, Redirecting] = {}
    for at, template in rules.matches.firsts:
        if template.redirect is not None and template.redirect.interface not in found:
            name = template.redirect.interface
            place = f"{rules.file(at) or ruleset.file}:{rules.lines[at]}:{rules.columns[at]}"
            found[name] = Redirecting(number, name, rules.names[at], place)
    return list(found.values())


def _packed(document: object) -> bytes:
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 1)
