"""Rules files: many rules, one a line, as tab-separated values or as JSON lines, to the nodes of tree.py.

Owns the two formats and the places in them. What a key or a value means is decided where it is for YAML.
"""

from __future__ import annotations

import json
import re
from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import repeat
from typing import NamedTuple

from .report import Mark, Report
from .text import show, suggest
from .tree import MAX_DEPTH, Mapping, Node, Scalar, Sequence

COLUMNS = (
    "name", "comment", "family", "proto", "src", "dst", "sport", "dport", "icmp_type", "icmp_code", "vlan",
    "action",
)  # fmt: skip
"""The closed list of columns: the keys of a rule that take words."""

_LISTS = frozenset({"proto", "src", "dst", "sport", "dport", "icmp_type", "icmp_code", "vlan"})
_NESTED = ("not", "tcp_flags")


class Place(NamedTuple):
    """Line and column from 0, like a mark of the YAML parser."""

    line: int
    column: int


class Line(NamedTuple):
    """``number`` counts from 0."""

    number: int
    text: str


@dataclass(slots=True)
class Lines:
    """The lines of a file that are not empty."""

    numbers: abc.Sequence[int] = ()
    texts: list[str] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.texts)

    def __iter__(self) -> Iterator[Line]:
        return map(Line, self.numbers, self.texts)

    def pop_first(self) -> Line:
        first, self.numbers = Line(self.numbers[0], self.texts.pop(0)), self.numbers[1:]
        return first


def lines(text: str) -> Lines:
    texts = text.replace("\r\n", "\n").split("\n")
    if not texts[-1]:
        del texts[-1]
    numbers: abc.Sequence[int] = range(len(texts))
    if not all(texts):
        numbers = [number for number, line in enumerate(texts) if line]
        texts = [line for line in texts if line]
    return Lines(numbers, texts)


# ---- tab-separated values ---------------------------------------------------------------------------------


class Columns:
    """The columns of a file in their order."""

    def __init__(self, names: tuple[str, ...]) -> None:
        self.names = names
        self.width = len(names)

    def cut(self, rows: Lines) -> dict[str, list[str]] | None:
        """The cells of each column; None: not all lines have one for each."""
        tabs = self.width - 1
        if any(map(tabs.__ne__, map(str.count, rows.texts, repeat("\t")))):
            return None
        cells = "\t".join(rows.texts).split("\t")
        return {name: cells[at :: self.width] for at, name in enumerate(self.names)}


def header(line: Line, report: Report) -> Columns | None:
    """The columns that the first line names; None when the reason is in the report."""
    columns = tuple(line.text.split("\t"))
    before, column = report.errors, 0
    for at, name in enumerate(columns):
        mark = Place(line.number, column)
        column += len(name) + 1
        if name in _NESTED:
            report.error(mark, f"{name} does not fit into a cell; write such rules as JSON lines")
        elif name not in COLUMNS:
            report.error(mark, f"unknown column {show(name)}; {suggest(name, COLUMNS)}")
        elif name in columns[:at]:
            report.error(mark, f"duplicate column {show(name)}")
    if report.errors == before and not {"name", "action"} <= set(columns):
        report.error(Place(line.number, 0), "the first line names the columns, at least name and action")
    return Columns(columns) if report.errors == before else None


def cells_node(columns: Columns, cells: list[str], number: int) -> Mapping:
    """A line of cells as a rule; a comma parts the entries of a list, and an empty cell is an absent key."""
    node, column = Mapping(Place(number, 0)), 0
    for key, cell in zip(columns.names, cells, strict=True):
        mark = Place(number, column)
        column += len(cell) + 1
        if cell:
            node.marks[key] = mark
            node.items[key] = _cell(cell, mark) if key in _LISTS and "," in cell else Scalar(cell, mark)
    return node


def _cell(cell: str, mark: Place) -> Sequence:
    node, column = Sequence(mark), mark.column
    for entry in cell.split(","):
        node.items.append(Scalar(entry, Place(mark.line, column)))
        column += len(entry) + 1
    return node


# ---- JSON lines --------------------------------------------------------------------------------------------


class _Pairs(list[tuple[str, object]]):
    """The members of a JSON object as they stand there, so that a duplicate key is seen."""


@dataclass(frozen=True, slots=True)
class _Member:
    """The place of a member of an object, looked for only when it is told: its number, from 0, and a place
    before the object."""

    line: int
    text: str
    number: int
    inside: Mark

    @property
    def column(self) -> int:
        depth, left, before = 0, self.number, ""
        for token in _TOKEN.finditer(self.text, self.inside.column):
            here = token.group()
            depth += (here in "{[") - (here in "}]")
            if depth == 1 and here[0] == '"' and before in ("{", ","):
                if not left:
                    return token.start()
                left -= 1
            before = here
        return self.inside.column


@dataclass(frozen=True, slots=True)
class _Fraction:
    """A number that is not whole, or not written so."""

    text: str


_TOKEN = re.compile(r'"(?:[^"\\]|\\.)*"|[][{}:,]')
_SURROGATE = re.compile("[\ud800-\udfff]")  # JSON can escape one that is not half of a pair
_DECODER = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=str, parse_float=_Fraction)


def json_nodes(some: Lines, report: Report) -> Iterator[Node]:
    """Each line as a node; those that are no JSON are in the report."""
    for line in some:
        start = Place(line.number, 0)
        try:
            value = _DECODER.decode(line.text)
        except json.JSONDecodeError as error:
            report.error(Place(line.number, error.colno - 1), f"not readable as JSON: {error.msg}")
        except RecursionError:
            report.error(start, f"nested more than {MAX_DEPTH} levels deep; the language needs 6")
        else:
            node = _node(value, start, line, report)
            if node is not None:
                yield node


def _node(value: object, mark: Mark, line: Line, report: Report, depth: int = 1) -> Node | None:
    if isinstance(value, str):
        if not value.isascii() and _SURROGATE.search(value):
            report.error(mark, f"{json.dumps(value)} has half of a character (U+D800 to U+DFFF)")
            return None
        return Scalar(value, mark)
    if depth > MAX_DEPTH:
        report.error(mark, f"nested more than {MAX_DEPTH} levels deep; the language needs 6")
    elif isinstance(value, _Pairs):
        return _object(value, mark, line, report, depth)
    elif isinstance(value, list):
        items = [_node(item, mark, line, report, depth + 1) for item in value]
        return Sequence(mark, [item for item in items if item is not None])
    else:
        what = show(value.text).strip("'") if isinstance(value, _Fraction) else json.dumps(value)
        report.error(mark, f"{what} is neither text nor a whole number, a list or an object")
    return None


def _object(pairs: _Pairs, mark: Mark, line: Line, report: Report, depth: int) -> Mapping:
    node = Mapping(mark)
    for number, (key, value) in enumerate(pairs):
        place = _Member(line.number, line.text, number, mark)
        if key in node.marks:
            report.error(place, f"duplicate key {show(key)}")
            continue
        node.marks[key] = place
        found = _node(value, place, line, report, depth + 1)
        if found is not None:
            node.items[key] = found
    return node
