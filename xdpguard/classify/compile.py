"""RuleSet -> Tables: everything one generation needs, as plain bytes. Pure.

What must never break: the first rule that matches wins, exactly, at any number of rules. What does not fit
the kernel's limits is refused here with a RulesError, so that what ``check`` accepts also loads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from xdpguard.abi import abi
from xdpguard.classify.blob import Blob, concatenate_bytes
from xdpguard.classify.columns import columns
from xdpguard.classify.engine import Engine, NoRoom
from xdpguard.classify.engine import build as build_engine
from xdpguard.classify.layout import put_engine
from xdpguard.classify.summary import describe
from xdpguard.rules.model import Action, Hook, Redirect, Rule, RuleSet

_ABI = abi()
_NUMBERS = _ABI.numbers
MAX_RULES = _NUMBERS["XG_MAX_RULES"]
MAX_TARGETS = _NUMBERS["XG_MAX_TARGETS"]


@dataclass(frozen=True, slots=True)
class Target:
    """A redirect target as the kernel knows it. ``mac`` is the target's own address."""

    ifindex: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Tables:
    """``blob``: the bytes of one generation. ``counters``: how many counters per CPU it needs. ``summary``:
    what the rules of each hook became, in words.
    """

    blob: NDArray[np.uint8]
    counters: int
    summary: tuple[str, ...] = ()


def build(
    ruleset: RuleSet,
    serial: int = 0,
    targets: Mapping[str, Target] | None = None,
    manifest: bytes = b"",
) -> Tables:
    """Compile. ``targets`` maps interface names of redirects; None (``check``) writes ifindex 0.

    ``manifest`` is kept in the blob for ``stats`` and ``status``; the BPF programs never read it.
    Raises RulesError over a limit.
    """
    blob = Blob(ruleset.file)
    summary: list[str] = []
    for number, hook in enumerate((ruleset.ingress, ruleset.egress)):
        direction = ("ingress", "egress")[number]
        if len(hook.rules) > MAX_RULES:
            raise blob.refused(
                f"{len(hook.rules)} {direction} rules; at most {MAX_RULES} a direction are allowed"
            )
        engine = _put_hook(blob, ruleset, hook, number, targets)
        if engine is not None:
            summary.append(f"{direction}: {len(hook.rules)} rules: {describe(engine)}")
    manifest_at = blob.put(concatenate_bytes([manifest]))
    for name, value in {
        "magic": _NUMBERS["XG_MAGIC"],
        "abi_version": _NUMBERS["XG_ABI_VERSION"],
        "serial": serial,
        "manifest": manifest_at,
        "manifest_bytes": len(manifest),
    }.items():
        _ABI.put(blob.header, f"xg_blob.{name}", value)
    data = blob.finish()
    size = _ABI.structs["xg_blob"].fields["bytes"]
    data[size.offset : size.offset + 4] = np.array([len(data)], dtype=np.uint32).view(np.uint8)
    rules = len(ruleset.ingress.rules) + len(ruleset.egress.rules)
    summary.append(f"tables: {len(data)} bytes, {len(manifest)} of them names")
    return Tables(data, 2 * _NUMBERS["XG_COUNT_RULES"] + rules, tuple(summary))


def _put_hook(
    blob: Blob, ruleset: RuleSet, hook: Hook, number: int, targets: Mapping[str, Target] | None
) -> Engine | None:
    """None: the hook has no rules."""
    base = _ABI.offset("xg_blob.hook") + number * _ABI.structs["xg_hook"].size
    actions, target_bytes = _actions(blob, hook, targets)
    blob.fields(
        "xg_hook",
        base,
        rules=len(hook.rules),
        default_action=int(hook.default),
        malformed_action=int(ruleset.malformed),
        drop_fragments=int(ruleset.drop_fragments),
        first_counter=number * (_NUMBERS["XG_COUNT_RULES"] + len(ruleset.ingress.rules)),
        actions=blob.put(actions),
        targets=blob.put(concatenate_bytes(target_bytes)),
    )
    if not hook.rules:
        return None
    try:
        engine = build_engine(columns([rule.match for rule in hook.rules]))
    except NoRoom as error:
        raise blob.refused(_no_room(hook, error)) from error
    put_engine(blob, engine, base)
    return engine


def _no_room(hook: Hook, error: NoRoom) -> str:
    first = (hook.rules[rule] for rule in error.rules[:3].tolist())
    some = ", ".join(
        f"{rule.name} (line {rule.line}{f' of {rule.file}' if rule.file else ''})" for rule in first
    )
    return f"{len(error.rules)} rules {error.what}, {some} ...; {error.allowed}"


def _actions(
    blob: Blob, hook: Hook, targets: Mapping[str, Target] | None
) -> tuple[NDArray[np.uint16], list[bytes]]:
    """Per rule: action in the low byte, index of its redirect target in the high one."""
    numbers: dict[Redirect, int] = {}
    packed: list[bytes] = []
    actions: list[int] = []
    for rule in hook.rules:
        index = 0
        if rule.action is Action.REDIRECT:
            redirect = _redirect(rule)
            if redirect not in numbers:
                numbers[redirect] = len(packed)
                packed.append(_pack_target(redirect, targets))
            index = numbers[redirect]
        actions.append(int(rule.action) | index << 8)
    if len(packed) > MAX_TARGETS:
        raise blob.refused(f"{len(packed)} distinct redirect targets; at most {MAX_TARGETS} are allowed")
    return np.array(actions, dtype=np.uint32).astype(np.uint16), packed


def _redirect(rule: Rule) -> Redirect:
    if rule.redirect is None:
        raise AssertionError(f"rule {rule.name}: a redirect without a target")
    return rule.redirect


def _pack_target(redirect: Redirect, targets: Mapping[str, Target] | None) -> bytes:
    target = targets[redirect.interface] if targets is not None else Target(0, bytes(6))
    layout = _ABI.structs["xg_target"]
    packed = bytearray(layout.size)
    _ABI.put(packed, "xg_target.ifindex", target.ifindex)
    if redirect.dst_mac is not None:
        _ABI.put(packed, "xg_target.rewrite", 1)
        for field, mac in (("src_mac", target.mac), ("dst_mac", redirect.dst_mac)):
            offset = layout.fields[field].offset
            packed[offset : offset + 6] = mac
    return bytes(packed)
