"""The names behind a generation's numbers, kept in its blob so that they live and die with it.

Pure: bytes in, dataclasses out. JSON, compressed: what is not of the rules by itself, and of the rules, which
may be a hundred thousand, a list for each property. Its readers are ``stats`` and ``status``.
"""

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

from xdpguard.abi import abi
from xdpguard.rules.many import Rules
from xdpguard.rules.model import Action, Hook, RuleSet

_LEVEL = 1  # zlib: fast
_LENGTH_BYTES = 4
_WORDS = {action: action.name.lower() for action in Action}


class NamedRule(NamedTuple):
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


class Head(NamedTuple):
    """What of a manifest is not of single rules; the fields are those of Manifest."""

    file: str
    content_hash: str
    loaded_at: float
    defaults: tuple[str, str]
    targets: dict[str, int]


def defaults(ruleset: RuleSet) -> tuple[str, str]:
    return _WORDS[ruleset.ingress.default], _WORDS[ruleset.egress.default]


def describe(ruleset: RuleSet, loaded_at: float, targets: dict[str, int]) -> Manifest:
    def named(hook: Hook) -> tuple[NamedRule, ...]:
        return tuple(NamedRule(rule.name, _WORDS[rule.action], rule.key, rule.line) for rule in hook.rules)

    hooks = named(ruleset.ingress), named(ruleset.egress)
    return Manifest(ruleset.file, ruleset.content_hash, loaded_at, defaults(ruleset), hooks, targets)


def encode(manifest: Manifest) -> bytes:
    rules = [list(zip(*hook, strict=True)) for hook in manifest.rules]
    head = (manifest.file, manifest.content_hash, manifest.loaded_at, manifest.defaults, manifest.targets)
    return joined(Head(*head), _pack(rules))


def packed(ruleset: RuleSet) -> bytes:
    """The names, actions, keys and lines of both hooks' rules: the part that only the rules decide."""
    return _pack([_columns(hook) for hook in (ruleset.ingress, ruleset.egress)])


def _columns(hook: Hook) -> list[list[str] | list[int]]:
    rules = Rules.of(hook.rules)
    return [rules.names, [_WORDS[action] for action in rules.actions], rules.keys, rules.lines]


def unpacked(data: bytes) -> tuple[tuple[NamedRule, ...], tuple[NamedRule, ...]]:
    ingress, egress = (
        tuple(map(NamedRule._make, zip(*hook, strict=True))) for hook in json.loads(zlib.decompress(data))
    )
    return ingress, egress


def joined(head: Head, rules: bytes) -> bytes:
    """An encoded manifest. ``rules``: as ``packed``."""
    document = {
        "file": head.file,
        "hash": head.content_hash,
        "loaded_at": head.loaded_at,
        "defaults": head.defaults,
        "targets": head.targets,
    }
    first = _pack(document)
    return len(first).to_bytes(_LENGTH_BYTES, "little") + first + rules


@lru_cache(maxsize=abi().numbers["XG_SLOTS"])
def decode(data: bytes) -> Manifest:
    """Raises ValueError if the bytes are damaged. A command asks for the same few again and again."""
    try:
        head, rest = _head(data)
        return Manifest(
            head["file"],
            head["hash"],
            head["loaded_at"],
            (head["defaults"][0], head["defaults"][1]),
            unpacked(rest),
            head["targets"],
        )
    except (zlib.error, KeyError, TypeError, IndexError) as error:
        raise ValueError(f"a damaged manifest: {error}") from error


def targets(data: bytes) -> dict[str, int]:
    """Those of an encoded manifest, without reading its rules. Raises ValueError as ``decode``."""
    try:
        found: dict[str, int] = _head(data)[0]["targets"]
    except (zlib.error, KeyError, TypeError) as error:
        raise ValueError(f"a damaged manifest: {error}") from error
    return found


def loaded_at(data: bytes) -> float:
    """Of an encoded manifest, without reading its rules. Raises ValueError as ``decode``."""
    try:
        found: float = _head(data)[0]["loaded_at"]
    except (zlib.error, KeyError, TypeError) as error:
        raise ValueError(f"a damaged manifest: {error}") from error
    return found


def _pack(document: object) -> bytes:
    return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), _LEVEL)


def _head(data: bytes) -> tuple[dict[str, Any], bytes]:
    end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    return json.loads(zlib.decompress(data[_LENGTH_BYTES:end])), data[end:]
