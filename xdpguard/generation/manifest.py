"""The names behind a generation's numbers, kept in its blob so that they live and die with it.

Pure: bytes in, dataclasses out. JSON, compressed; its readers are ``stats`` and ``status``.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass

from xdpguard.rules.model import Hook, RuleSet

_LEVEL = 1  # zlib: fast


@dataclass(frozen=True, slots=True)
class NamedRule:
    """``key`` identifies the rule's counters across generations (rules/model.py, Rule.key)."""

    name: str
    action: str
    key: str
    line: int


@dataclass(frozen=True, slots=True)
class Manifest:
    file: str
    content_hash: str
    loaded_at: float  # seconds since the epoch
    defaults: tuple[str, str]  # ingress, egress
    rules: tuple[tuple[NamedRule, ...], tuple[NamedRule, ...]]
    targets: dict[str, int]  # redirect targets in use: name -> ifindex


def describe(ruleset: RuleSet, loaded_at: float, targets: dict[str, int]) -> Manifest:
    def named(hook: Hook) -> tuple[NamedRule, ...]:
        return tuple(
            NamedRule(rule.name, rule.action.name.lower(), rule.key, rule.line) for rule in hook.rules
        )

    return Manifest(
        ruleset.file,
        ruleset.content_hash,
        loaded_at,
        (ruleset.ingress.default.name.lower(), ruleset.egress.default.name.lower()),
        (named(ruleset.ingress), named(ruleset.egress)),
        targets,
    )


def encode(manifest: Manifest) -> bytes:
    document = {
        "file": manifest.file,
        "hash": manifest.content_hash,
        "loaded_at": manifest.loaded_at,
        "defaults": manifest.defaults,
        "targets": manifest.targets,
        "rules": [
            [(rule.name, rule.action, rule.key, rule.line) for rule in hook] for hook in manifest.rules
        ],
    }
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), _LEVEL)


def decode(data: bytes) -> Manifest:
    """Raises ValueError if the bytes are damaged."""
    try:
        document = json.loads(zlib.decompress(data))
        ingress, egress = ([NamedRule(*rule) for rule in hook] for hook in document["rules"])
        return Manifest(
            document["file"],
            document["hash"],
            document["loaded_at"],
            (document["defaults"][0], document["defaults"][1]),
            (tuple(ingress), tuple(egress)),
            document["targets"],
        )
    except (zlib.error, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a damaged manifest: {error}") from error
