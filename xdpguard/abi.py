"""Where the C sources are, and the numbers that they define.

``bpf/include/abi.h``, ``tables.h`` (filter) and ``events.h`` (tracing) are the one definition of everything
shared with the kernel. This module reads their numbers and struct layouts from the text, so that Python has
no second copy; ``tests/test_abi.py`` holds the result against a C compiler. Must never compile or load
anything.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer


@cache
def folder() -> Path:
    """The ``bpf/`` folder: beside the package in a checkout, inside it in an installed wheel."""
    package = Path(__file__).resolve().parent
    for candidate in (package / "bpf", package.parent / "bpf"):
        if (candidate / "include" / "abi.h").is_file():
            return candidate
    raise FileNotFoundError(f"no bpf/include/abi.h in {package} or beside it: the installation is incomplete")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a C struct. ``type``: a __uN name or another struct's name; ``count``: 0 = no array."""

    name: str
    type: str
    count: int
    offset: int


@dataclass(frozen=True, slots=True)
class Struct:
    name: str
    size: int
    align: int
    fields: dict[str, Field]


@dataclass(frozen=True, slots=True)
class Abi:
    """Numbers by their C name, structs by their C name without ``struct``."""

    numbers: dict[str, int]
    structs: dict[str, Struct]

    def offset(self, path: str) -> int:
        """``abi.offset("xg_blob.serial")``: bytes from the start of the struct."""
        name, field = path.split(".")
        return self.structs[name].fields[field].offset

    def put(self, memory: WriteableBuffer, path: str, value: int, base: int = 0) -> None:
        """Write one integer field of a struct that starts at ``base``."""
        struct.pack_into(self._format(path), memory, base + self.offset(path), value)

    def get(self, memory: ReadableBuffer, path: str, base: int = 0) -> int:
        value: int = struct.unpack_from(self._format(path), memory, base + self.offset(path))[0]
        return value

    def _format(self, path: str) -> str:
        name, field = path.split(".")
        return "=" + _FORMATS[self.structs[name].fields[field].type]


_FORMATS = {"__u8": "B", "__u16": "H", "__u32": "I", "__u64": "Q"}
_SIZES = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8}


def _without_comments(text: str) -> str:
    return re.sub(r"//[^\n]*", "", text)


def _evaluate(expression: str, numbers: dict[str, int]) -> int:
    """A C integer expression of known names, + - * and parentheses."""
    names = {name: str(value) for name, value in numbers.items()}
    plain = re.sub(r"(?<!\w)[A-Za-z_]\w*", lambda match: names[match.group()], expression)
    if not re.fullmatch(r"[\d\sxa-fA-F()*+-]+", plain):
        raise ValueError(f"abi.h: cannot evaluate {expression!r}")
    value: int = eval(plain, {"__builtins__": {}})
    return value


def _numbers(text: str) -> dict[str, int]:
    numbers: dict[str, int] = {}
    pattern = re.compile(r"^#define (XG_\w+)[ \t]+([^\n]+)$|^enum \w+ \{([^}]*)\}", re.M)
    for define, expression, enum in pattern.findall(text):
        if define:
            numbers[define] = _evaluate(expression.strip(), numbers)
            continue
        following = 0
        for entry in filter(None, (part.strip() for part in enum.split(","))):
            name, _, value = (part.strip() for part in entry.partition("="))
            numbers[name] = following = _evaluate(value, numbers) if value else following
            following += 1
    return numbers


def _structs(text: str, numbers: dict[str, int]) -> dict[str, Struct]:
    structs: dict[str, Struct] = {}
    for name, body in re.findall(r"^struct (xg_\w+) \{(.*?)^\};", text, re.M | re.S):
        fields: dict[str, Field] = {}
        offset = 0
        align = 1
        for kind, declarators in re.findall(r"(?:struct )?(\w+) ([^;]+);", body):
            size = _SIZES[kind] if kind in _SIZES else structs[kind].size
            needs = _SIZES[kind] if kind in _SIZES else structs[kind].align
            for field, count in re.findall(r"(\w+)(?:\[(\w+)\])?", declarators):
                number = _evaluate(count, numbers) if count else 0
                offset = -(-offset // needs) * needs
                fields[field] = Field(field, kind, number, offset)
                offset += size * max(number, 1)
                align = max(align, needs)
        structs[name] = Struct(name, -(-offset // align) * align, align, fields)
    return structs


@cache
def abi() -> Abi:
    """Parse ``abi.h``, ``tables.h``, ``events.h`` and ``memory.h`` once."""
    include = folder() / "include"
    headers = [(include / f"{name}.h").read_text() for name in ("abi", "tables", "events", "memory")]
    text = _without_comments("".join(headers))
    numbers = _numbers(text)
    return Abi(numbers, _structs(text, numbers))


@cache
def reasons() -> tuple[str, ...]:
    """Names of ``enum xg_reason`` in order, as users see them; index 0 is "none"."""
    numbers = abi().numbers
    names = {"none": 0}
    for name, value in numbers.items():
        if name.startswith("XG_MALFORMED_") or name in ("XG_FRAGMENT", "XG_ESSENTIAL", "XG_TX_REFUSED"):
            names[name.removeprefix("XG_").lower()] = value
    return tuple(sorted(names, key=lambda name: names[name]))
