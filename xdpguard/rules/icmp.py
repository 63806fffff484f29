"""``icmp_type`` and ``icmp_code``: numbers, or names that depend on the protocol and, for codes, on the type.

Must never decide which protocol a rule has; protocols.py and families.py did.
"""

from __future__ import annotations

from .fields import Fields, Reader
from .iana import CODES, TYPES
from .intervals import without
from .model import Intervals
from .numbers import named
from .text import Refused, show
from .tree import Node

ICMP_KEYS = ("icmp_type", "icmp_code")

_ANY_CODE = {name: code for names in CODES.values() for name, code in names.items()}
_ANY_TYPE = {name: number for names in TYPES.values() for name, number in names.items()}


def read_icmp(
    plain: Fields, negated: Fields, protocol: int | None, reader: Reader
) -> tuple[Intervals | None, Intervals | None]:
    """The allowed types and codes. ``protocol`` None: not settled, the values are only checked."""
    types = _ANY_TYPE if protocol is None else TYPES[protocol]
    wanted = _read(plain.icmp_type, "icmp_type", types, reader)
    banned = _read(negated.icmp_type, "icmp_type", types, reader)
    codes = _code_names(protocol, wanted, "icmp_type" in plain.marks)
    return without(wanted, banned, 0, 255), without(
        _read(plain.icmp_code, "icmp_code", codes, reader),
        _read(negated.icmp_code, "icmp_code", codes, reader),
        0,
        255,
    )


def _code_names(protocol: int | None, types: Intervals | None, has_type: bool) -> dict[str, int]:
    """The names of codes beside one single type; any name where the type itself was refused."""
    if protocol is None or (types is None and has_type):
        return _ANY_CODE
    if types is None or len(types) != 1 or types[0][0] != types[0][1]:
        return {}
    return CODES.get((protocol, types[0][0]), {})


def _read(node: Node | None, key: str, names: dict[str, int], reader: Reader) -> Intervals | None:
    if node is None:
        return None

    def parse(text: str) -> tuple[int, int]:
        if not names and text[:1].isalpha():
            raise Refused(
                f"{key} {show(text)}: a code's name needs one icmp_type that has such codes beside it"
            )
        return named(text, key, 255, names)

    return reader.intervals(key, node, parse)
