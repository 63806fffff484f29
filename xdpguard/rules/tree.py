"""YAML bytes to a located tree, from PyYAML's C event stream in one pass.

Owns the structure checks: one document, no anchors, aliases, tags or directives, no duplicate key, scalar
keys only, depth at most MAX_DEPTH (checked while events arrive, so that 100,000 brackets cost nothing). Every
scalar stays a string; no YAML type is ever guessed. Must never know a key of the rule language.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import yaml

from .report import Mark, Report
from .syntax import explain
from .text import show, suggest

MAX_DEPTH = 8
"""Deepest nesting of mappings and lists; the language itself needs 6."""

_YAML_TAG = "tag:yaml.org,2002:"  # what "!!" stands for


@dataclass(slots=True)
class Scalar:
    """A string and its place."""

    text: str
    mark: Mark


@dataclass(slots=True)
class Sequence:
    """A list and its place."""

    mark: Mark
    items: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class Mapping:
    """A mapping, its place, and the place of each key. A key whose value was refused is in ``marks`` only."""

    mark: Mark
    items: dict[str, Node] = field(default_factory=dict)
    marks: dict[str, Mark] = field(default_factory=dict)


Node = Scalar | Sequence | Mapping


def check_keys(mapping: Mapping, known: tuple[str, ...], what: str, report: Report) -> bool:
    """Reports every key of the mapping that is not in the closed list ``known``; True if there is none."""
    good = True
    for key, mark in mapping.marks.items():
        if key not in known:
            report.error(mark, f"unknown key {show(key)} in {what}; {suggest(key, known)}")
            good = False
    return good


class _Stop(Exception):
    """The rest of the file cannot be read sensibly; the error is in the report."""


def read_tree(text: str, report: Report) -> Node | None:
    """The root of the only document, or None when the reason is in ``report``."""
    builder = _Builder(report)
    try:
        _feed(yaml.CBaseLoader(text.encode()).get_event, builder)
    except yaml.YAMLError as error:
        mark, message = explain(error, text)
        report.error(mark, message)
        return None
    except _Stop:
        return None
    if builder.root is None and not report.errors:
        report.error(None, "the file holds no rules, only comments or blanks; the least is 'version: 1'")
    return builder.root


def _feed(get_event: Callable[[], Any], builder: _Builder) -> None:
    """Hands each event to the builder. The hot loop: a rule is some 12 events."""
    while True:
        event = get_event()
        kind = event.__class__
        if kind is yaml.ScalarEvent:
            if event.tag is not None or event.anchor is not None:
                builder.refuse_extras(event)
            builder.put(Scalar(event.value, event.start_mark))
        elif kind is yaml.MappingStartEvent:
            builder.open(Mapping(event.start_mark), event)
        elif kind is yaml.SequenceStartEvent:
            builder.open(Sequence(event.start_mark), event)
        elif kind is yaml.MappingEndEvent or kind is yaml.SequenceEndEvent:
            builder.close()
        elif kind is yaml.AliasEvent:
            builder.alias(event)
        elif kind is yaml.DocumentStartEvent:
            builder.document(event)
        elif kind is yaml.StreamEndEvent:
            return


class _Builder:
    """The tree so far and the place where the next node goes."""

    def __init__(self, report: Report) -> None:
        self.root: Node | None = None
        self._report = report
        self._documents = 0
        self._parent: Sequence | Mapping | None = None
        self._key: Scalar | None = None  # the pending key of a mapping
        self._skip = False  # the next value belongs to a refused key
        self._bad_key: int | None = None  # depth of the key that is a list or mapping, while inside it
        self._stack: list[tuple[Sequence | Mapping | None, Scalar | None, bool]] = []

    def document(self, event: Any) -> None:
        self._documents += 1
        if self._documents > 1:
            self._report.error(event.start_mark, "a second YAML document; a rule file is one document")
            raise _Stop
        if event.version is not None or event.tags:
            self._report.error(event.start_mark, "YAML directives (%...) are not allowed")

    def put(self, node: Node) -> None:
        """Attaches a node to its parent: as root, list item, key or value."""
        parent = self._parent
        if isinstance(parent, Mapping):
            if self._skip:
                self._skip = False
            elif self._key is not None:
                parent.items[self._key.text] = node
                self._key = None
            elif isinstance(node, Scalar):
                self._put_key(parent, node)
            else:
                self._refuse_key(node)
        elif parent is not None:
            parent.items.append(node)
        else:
            self.root = node

    def _refuse_key(self, node: Sequence | Mapping) -> None:
        """Reports a list or mapping as key, but not once more for each key inside it."""
        if self._bad_key is None:
            self._report.error(node.mark, "a key must be a plain word, not a list or mapping")
            self._bad_key = len(self._stack)
        self._skip = True

    def _put_key(self, parent: Mapping, key: Scalar) -> None:
        first = parent.marks.get(key.text)
        if first is None:
            parent.marks[key.text] = key.mark
            self._key = key
        else:
            words = f"duplicate key {show(key.text)}; it is already in line {first.line + 1}"
            self._report.error(key.mark, words)
            self._skip = True

    def open(self, node: Sequence | Mapping, event: Any) -> None:
        if len(self._stack) >= MAX_DEPTH:
            self._report.error(node.mark, f"nested more than {MAX_DEPTH} levels deep; the language needs 6")
            raise _Stop
        if event.tag is not None or event.anchor is not None:
            self.refuse_extras(event)
        self.put(node)
        self._stack.append((self._parent, self._key, self._skip))
        self._parent, self._key, self._skip = node, None, False

    def close(self) -> None:
        self._parent, self._key, self._skip = self._stack.pop()
        if self._bad_key == len(self._stack):
            self._bad_key = None

    def refuse_extras(self, event: Any) -> None:
        if event.anchor is not None:
            self._report.error(event.start_mark, f"anchor '&{event.anchor}' is not allowed; use sets")
        if event.tag is not None:
            tag = event.tag
            if tag.startswith(_YAML_TAG):
                tag = "!!" + tag[len(_YAML_TAG) :]
            self._report.error(event.start_mark, f"tag {show(tag)} is not allowed; every value is plain text")

    def alias(self, event: Any) -> None:
        """Reports the alias and drops it, with its key, so that nothing follows from it."""
        self._report.error(event.start_mark, f"alias '*{event.anchor}' is not allowed; use sets")
        if isinstance(self._parent, Mapping):
            if self._key is None and not self._skip:
                self._skip = True
            else:
                self._key, self._skip = None, False
