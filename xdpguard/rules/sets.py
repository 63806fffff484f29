"""Named sets: the ``sets`` section and the set files it names.

A set holds addresses or port numbers; its entries decide which. Owns the definition, place and use of
each set. Must never know rules.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from xdpguard.errors import Problem

from .addresses import parse_block, plain_addresses
from .intervals import union
from .model import Addresses, Interval, Intervals
from .numbers import number_range
from .report import Mark, Report
from .source import Base, shown_path
from .text import BadText, Refused, decode, show, suggest
from .tree import Mapping, Node, Scalar, Sequence, check_keys

_NAME = "[A-Za-z0-9_.-]{1,64}"
NAME, NAMES = re.compile(rf"{_NAME}\Z"), re.compile(rf"(?:{_NAME}\n)*\Z")
"""Of rules and sets: one name; and many, each with a line end."""
NAME_WORDS = "1-64 characters of A-Z a-z 0-9 _ . -"

_MANY = {"address": "addresses", "port": "ports"}
_ADDRESS = re.compile(r"[0-9A-Fa-f:.]*[:.][0-9A-Fa-f:./%-]*\Z")


@dataclass(slots=True)
class NamedSet:
    """One set. ``kind`` is "address", "port", "empty" (empty file, fits both) or "broken" (reported)."""

    name: str
    mark: Mark
    kind: str = "broken"
    addresses: Addresses = field(default_factory=Addresses)
    ports: Intervals = ()
    used: bool = False


@dataclass(slots=True)
class Entry:
    """One entry of a set in its file; line and column from 1."""

    text: str
    line: int
    column: int


class Sets:
    """All sets of one rule file. ``files`` holds the bytes of the set files in the order they are named."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._sets: dict[str, NamedSet] = {}
        self.files: list[bytes] = []

    def define(self, found: NamedSet) -> None:
        self._sets[found.name] = found

    def use(self, reference: str, kind: str, mark: Mark) -> NamedSet | None:
        """The set behind "@name" for a field of ``kind``; None when the reason is in the report."""
        name = reference[1:]
        found = self._sets.get(name)
        if found is None:
            tail = "the file has no sets"
            if self._sets and not self._report.full:  # what is not shown need not be worded
                tail = suggest(name, self._sets)
            self._report.error(mark, f"unknown set {show(reference)}; {tail}")
            return None
        found.used = True
        if found.kind == "broken":
            return None
        if found.kind not in (kind, "empty"):
            line = found.mark.line + 1
            holds = f"set {show(reference)} (line {line}) holds {_MANY[found.kind]}"
            words = f"{holds}; this field takes {_MANY[kind]}"
            self._report.error(mark, words)
            return None
        return found

    def warn_unused(self) -> None:
        for found in self._sets.values():
            if not found.used and found.kind != "broken":
                self._report.warning(found.mark, f"set {show(found.name)} is never used")


def read_sets(node: Node | None, base: Base, report: Report) -> Sets:
    """The ``sets`` section (None if absent)."""
    sets = Sets(report)
    if node is None:
        return sets
    if not isinstance(node, Mapping):
        report.error(node.mark, "sets must be a mapping of names to lists, as in {office: [192.0.2.0/24]}")
        return sets
    for name, mark in node.marks.items():
        if not NAME.match(name):
            report.error(mark, f"set name {show(name)} is not allowed; allowed: {NAME_WORDS}")
        found = NamedSet(name, mark)
        sets.define(found)
        value = node.items.get(name)
        if isinstance(value, Mapping):
            _from_file(found, value, base, sets, report)
        elif value is not None:
            _from_list(found, value, report)
    return sets


def _from_list(found: NamedSet, node: Scalar | Sequence, report: Report) -> None:
    entries: list[Entry] = []
    before = report.errors
    for item in node.items if isinstance(node, Sequence) else [node]:
        if isinstance(item, Scalar):
            entries.append(Entry(item.text, item.mark.line + 1, item.mark.column + 1))
        else:
            report.error(item.mark, "an entry of a set must be one address, CIDR block, range or port")
    if not entries and report.errors == before:
        report.error(node.mark, f"set {show(found.name)} is empty; only a set file may be empty")
    elif fill(found, entries, report.file, report) and report.errors > before:
        found.kind = "broken"


def _from_file(found: NamedSet, node: Mapping, base: Base, sets: Sets, report: Report) -> None:
    if not check_keys(node, ("file",), f"set {show(found.name)}", report):
        return
    name = node.items.get("file")
    if not isinstance(name, Scalar) or not name.text:
        report.error(node.mark, f"set {show(found.name)} must be a list or {{file: NAME}}")
        return
    path = base.folder / name.text
    data = base.sources.read(path, report, name.mark)
    if data is None:
        return
    sets.files.append(data)
    shown = shown_path(path)
    try:
        text = decode(data)
    except BadText as error:
        report.add(Problem(shown, error.line, error.column, "error", str(error)))
        return
    plain, rest = plain_addresses(text.splitlines())
    if fill(found, file_entries(rest), shown, report, plain) and found.kind == "empty":
        words = f"set file is empty: set {show(found.name)} matches nothing"
        report.add(Problem(shown, 0, 0, "note", words))


def file_entries(lines: Iterable[tuple[int, str]]) -> Iterable[Entry]:
    """The entries of numbered lines of a set file: one a line, ``#`` opens a comment."""
    for number, line in lines:
        body = line.partition("#")[0]
        entry = body.strip()
        if entry:
            yield Entry(entry, number, body.index(entry) + 1)


def fill(found: NamedSet, entries: Iterable[Entry], file: str, report: Report, plain: Intervals = ()) -> bool:
    """Puts the entries and ``plain`` IPv4 addresses into the set; False when an entry was refused (each is in
    the report)."""
    blocks: dict[int, list[Interval]] = {4: [], 6: []}
    ports: list[Interval] = []
    clean, kind = True, "address" if plain else "empty"
    for entry in entries:
        text = entry.text
        try:
            here = _kind(text)
            if kind == "empty":
                kind = here
            elif here != kind:
                words = f"{show(text)} does not fit: the set holds {_MANY[kind]}, and one kind only"
                raise Refused(words)
            if here == "port":
                ports.append(number_range(text, "port", 65535))
                continue
            block = parse_block(text)
            blocks[block.version].append((block.first, block.last))
            if block.note:
                report.add(Problem(file, entry.line, entry.column, "note", block.note))
        except Refused as error:
            report.add(Problem(file, entry.line, entry.column, "error", str(error)))
            clean = False
    if clean:
        found.kind = kind
        both = union([*plain, *blocks[4]]) if blocks[4] else plain
        found.addresses = Addresses(both, union(blocks[6]))
        found.ports = union(ports)
    return clean


def _kind(text: str) -> str:
    if text[:1] == "@":
        raise Refused(f"{show(text)}: a set cannot hold another set; list both where they are used")
    if "%" in text or _ADDRESS.match(text):
        return "address"
    if text[:1].isdigit() and "." not in text and ":" not in text:
        return "port"
    raise Refused(
        f"{show(text)} is not an address, CIDR block, range or port; a file is named with {{file: NAME}}"
    )
