"""Which IP families a rule can match, from every field that says something about it.

Owns the search for contradictions between them. Must never change a value.
"""

from __future__ import annotations

from .fields import FAMILIES, Fields
from .model import Addresses, Protocols
from .report import Mark, Report

IPV4, IPV6 = FAMILIES["ipv4"], FAMILIES["ipv6"]
BOTH = IPV4 | IPV6
_NAMES = {bits: name for name, bits in FAMILIES.items()}


def resolve_families(plain: Fields, negated: Fields, wanted: Protocols | None, report: Report) -> int | None:
    """The mask of families, or None when two fields contradict each other (told in the report)."""
    mask, source = BOTH, ""
    for key, mark, bits in _limits(plain, negated, wanted):
        if not mask & bits:
            words = f"{key} means {_NAMES[bits]}, but {source} means {_NAMES[mask]}; no packet is both"
            report.error(mark, words)
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


def _proto_mark(plain: Fields, negated: Fields) -> tuple[str, Mark]:
    if "proto" in plain.marks:
        return "proto", plain.marks["proto"]
    return "not proto", negated.marks["proto"]


def _of(addresses: Addresses) -> int:
    """The families that have entries; both for a set from an empty file, which contradicts nothing."""
    return (IPV4 if addresses.v4 else 0) | (IPV6 if addresses.v6 else 0) or BOTH
