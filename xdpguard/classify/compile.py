"""RuleSet -> Draft -> Tables: everything one generation needs, as plain bytes. Pure.

What must never break: the first rule that matches wins, exactly, at any number of rules. What does not fit
the kernel's limits is refused here with a RulesError, so that what ``check`` accepts also loads.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.blob import Blob, concatenate_bytes
from xdpguard.classify.columns import columns
from xdpguard.classify.engine import NoRoom
from xdpguard.classify.engine import build as build_engine
from xdpguard.classify.layout import put_engine
from xdpguard.classify.summary import describe
from xdpguard.classify.tables import Draft, Gap, Tables, Target, counters_needed, first_counter, packed_target
from xdpguard.rules.many import Rules
from xdpguard.rules.model import Action, Hook, Redirect, RuleSet

_ABI = abi()
_NUMBERS = _ABI.numbers
MAX_RULES = _NUMBERS["XG_MAX_RULES"]
MAX_TARGETS = _NUMBERS["XG_MAX_TARGETS"]
_TARGET_BYTES = _ABI.structs["xg_target"].size


def build(
    ruleset: RuleSet,
    serial: int = 0,
    targets: Mapping[str, Target] | None = None,
    manifest: bytes = b"",
) -> Tables:
    """Compile and finish, see ``Draft.finish``. Raises RulesError over a limit."""
    return draft(ruleset).finish(ruleset.file, serial, targets, manifest)


def draft(ruleset: RuleSet) -> Draft:
    """Compile. Raises RulesError over a limit."""
    blob = Blob(ruleset.file)
    gaps: list[Gap] = []
    summary: list[str] = []
    for number, hook in enumerate((ruleset.ingress, ruleset.egress)):
        direction = ("ingress", "egress")[number]
        if len(hook.rules) > MAX_RULES:
            raise blob.refused(
                f"{len(hook.rules)} {direction} rules; at most {MAX_RULES} a direction are allowed"
            )
        found = _put_hook(blob, ruleset, hook, number, gaps)
        if found:
            summary.append(f"{direction}: {len(hook.rules)} rules: {found}")
    _ABI.put(blob.header, "xg_blob.magic", _NUMBERS["XG_MAGIC"])
    _ABI.put(blob.header, "xg_blob.abi_version", _NUMBERS["XG_ABI_VERSION"])
    return Draft(blob.finish().data, counters_needed(_counts(ruleset)), tuple(gaps), tuple(summary))


def _counts(ruleset: RuleSet) -> tuple[int, int]:
    return len(ruleset.ingress.rules), len(ruleset.egress.rules)


def _put_hook(blob: Blob, ruleset: RuleSet, hook: Hook, number: int, gaps: list[Gap]) -> str:
    """What was made of the rules; "": there are none. Adds the targets of the redirects to ``gaps``."""
    base = _ABI.offset("xg_blob.hook") + number * _ABI.structs["xg_hook"].size
    rules = Rules.of(hook.rules)
    actions, redirects = _actions(blob, rules)
    targets = [packed_target(redirect.dst_mac) for redirect in redirects]
    targets_at = blob.put(concatenate_bytes(targets))
    gaps += [Gap(targets_at + at * _TARGET_BYTES, one.interface) for at, one in enumerate(redirects)]
    blob.fields(
        "xg_hook",
        base,
        rules=len(hook.rules),
        default_action=int(hook.default),
        malformed_action=int(ruleset.malformed),
        drop_fragments=int(ruleset.drop_fragments),
        first_counter=first_counter(number, _counts(ruleset)),
        actions=blob.put(actions),
        targets=targets_at,
    )
    if not hook.rules:
        return ""
    try:
        engine = build_engine(columns(rules.matches))
    except NoRoom as error:
        raise blob.refused(_no_room(hook, error)) from error
    put_engine(blob, engine, base)
    return describe(engine)


def _no_room(hook: Hook, error: NoRoom) -> str:
    first = (hook.rules[rule] for rule in error.rules[:3].tolist())
    some = ", ".join(
        f"{rule.name} (line {rule.line}{f' of {rule.file}' if rule.file else ''})" for rule in first
    )
    return f"{len(error.rules)} rules {error.what}, {some} ...; {error.allowed}"


def _actions(blob: Blob, rules: Rules) -> tuple[NDArray[np.uint16], list[Redirect]]:
    """Per rule: action in the low byte, index of its redirect target in the high one. And these targets."""
    numbers: dict[Redirect, int] = {}
    words = {}
    for at, template in rules.matches.firsts:
        word = int(template.action)
        if template.action is Action.REDIRECT:
            if template.redirect is None:
                raise AssertionError(f"rule {rules.names[at]}: a redirect without a target")
            word |= numbers.setdefault(template.redirect, len(numbers)) << 8
        words[rules.matches.templates[at]] = word
    if len(numbers) > MAX_TARGETS:
        raise blob.refused(f"{len(numbers)} distinct redirect targets; at most {MAX_TARGETS} are allowed")
    found = np.array([words[number] for number in rules.matches.templates], dtype=np.uint32)
    return found.astype(np.uint16), list(numbers)
