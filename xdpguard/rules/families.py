"""Which IP families a rule can match, from every field that says something about it.

Owns the search for contradictions between them. Must never change a value.
"""

from __future__ import annotations

from .fields import FAMILIES, Fields
from .model import Addresses, Protocols
from .report import Mark, Report
from .text import SHOWN_LENGTH, show
from .tree import Mapping, Node, Scalar, Sequence

IPV4, IPV6 = FAMILIES["ipv4"], FAMILIES["ipv6"]
BOTH = IPV4 | IPV6
_NAMES = {bits: name for name, bits in FAMILIES.items()}


def resolve_families(
    rule: Mapping, plain: Fields, negated: Fields, wanted: Protocols | None, report: Report
) -> int | None:
    """The mask of families, or None when two fields contradict each other (told in the report)."""
    mask, source = BOTH, ""
    for key, mark, bits in _limits(plain, negated, wanted):
        if not mask & bits:
            words = f"{_told(rule, key)} means {_NAMES[bits]}, but {_told(rule, source)} means {_NAMES[mask]}"
            report.error(mark, f"{words}; no packet is both")
            return None
        if mask & bits != mask:
            mask, source = mask & bits, key
    return mask


def _limits(plain: Fields, negated: Fields, wanted: Protocols | None) -> list[tuple[str, Mark, int]]:
    """Each field that may restrict the family: its key, place and mask."""
    limits: list[tuple[str, Mark, int]] = []
    if plain.family is not None:
        limits.append(("family", plain.marks["family"], plain.family))
    if negated.family is not None:
        limits.append(("not family", negated.marks["family"], BOTH ^ negated.family))
    if wanted is not None and bool(wanted.v4) != bool(wanted.v6):
        key, mark = _proto_mark(plain, negated)
        limits.append((key, mark, IPV4 if wanted.v4 else IPV6))
    for prefix, fields in (("", plain), ("not ", negated)):
        if fields.src is not None:
            limits.append((prefix + "src", fields.marks["src"], _of(fields.src)))
        if fields.dst is not None:
            limits.append((prefix + "dst", fields.marks["dst"], _of(fields.dst)))
    return limits


def _told(rule: Mapping, key: str) -> str:
    """A key with its value as the file has it; and what ``not`` takes from a list of protocols."""
    node: Node | None = rule
    for word in key.split():
        node = node.items.get(word) if isinstance(node, Mapping) else None
    items = node.items[:SHOWN_LENGTH] if isinstance(node, Sequence) else [node]
    told = f"{key} {show(', '.join(item.text for item in items if isinstance(item, Scalar)))}"
    negated = rule.items.get("not")
    if key == "proto" and isinstance(negated, Mapping) and "proto" in negated.items:
        return f"{told} with {_told(rule, 'not proto')}"
    return told


def _proto_mark(plain: Fields, negated: Fields) -> tuple[str, Mark]:
    if "proto" in plain.marks:
        return "proto", plain.marks["proto"]
    return "not proto", negated.marks["proto"]


def _of(addresses: Addresses) -> int:
    """The families that have entries; both for a set from an empty file, which contradicts nothing."""
    return (IPV4 if addresses.v4 else 0) | (IPV6 if addresses.v6 else 0) or BOTH
