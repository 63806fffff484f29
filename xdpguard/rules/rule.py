"""One rule of a rule file, and the list of rules of one hook.

Owns the closed list of a rule's keys and the uniqueness of names.
"""

from __future__ import annotations

from collections import abc
from typing import NamedTuple

from xdpguard.abi import abi

from .action import read_action
from .fields import MATCH_KEYS, Reader
from .joins import Joins
from .key import Keys
from .many import Matches, Rules
from .match import Matcher
from .model import Rule
from .names import Names
from .report import Mark, Report
from .rulesfile import KEY, RulesFile, is_rules_file, open_rules
from .sets import NAME, NAME_WORDS, Sets
from .sheet import Sheet
from .source import Base
from .table import Columns, Line, Lines, Place, cells_node, json_nodes
from .template import Own, Shape, Templates
from .text import has_control, show
from .tree import Mapping, Node, Scalar, Sequence, check_keys
from .values import Parts, Values

RULE_KEYS = ("name", "comment", *MATCH_KEYS, "not", "action")
"""The closed list of keys of a rule."""

_KNOWN = frozenset(RULE_KEYS)
_OWN = frozenset({"name", "comment", "src", "dst"})  # rules of one template may differ in these,
_PORTS = ("sport", "dport")  # and in these where they are plain

MAX_RULES = abi().numbers["XG_MAX_RULES"]
"""Most rules of one hook."""

_READ = RulesFile("")
MAX_COMMENT = 256
"""Longest comment of a rule, in characters."""


class Row(NamedTuple):
    """A rule as it was read."""

    name: str
    parts: Parts
    mark: Mark
    comment: str


class RuleReader:
    """Reads the rules of both hooks of one file. ``files``: the bytes of the rules files that it names."""

    def __init__(self, report: Report, sets: Sets, base: Base, joins: Joins) -> None:
        self._report = report
        self._joins = joins
        self._matcher = Matcher(Reader(report, sets, joins), report, joins)
        self._keys = Keys()
        self._values = Values()
        self._templates = Templates(self._values)
        self._names = Names()
        self._base = base
        self._file = ""
        self.files: list[bytes] = []

    def read_hook(self, hook: str, node: Node | None) -> abc.Sequence[Rule]:
        """The rules of ``ingress`` or ``egress`` (None: the section is absent) that are right."""
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            self._report.error(node.mark, f"{hook} must be a list of rules; write [] for none")
            return ()
        parts = [self._opened(item) if is_rules_file(item) else item for item in node.items]
        count = sum(len(part.rows) if isinstance(part, RulesFile) else 1 for part in parts)
        if count > MAX_RULES:
            words = f"{hook} has {count} rules; at most {MAX_RULES} are allowed (use sets for addresses)"
            self._report.error(node.mark, words)
            return ()
        rules = Rules(hook, Matches(self._values))
        node.items.clear()
        for at, part in enumerate(parts):
            parts[at] = _READ  # a large tree goes while its rules come
            if isinstance(part, RulesFile):
                self._file = part.name
                with self._report.inside(part.name):
                    self._rows(rules, part)
                self._file = ""
            else:
                self._add(rules, self._rule(part))
        return rules

    def _opened(self, item: Node) -> RulesFile:
        found = open_rules(item, self._base, self._report)
        self.files.append(found.data)
        self._joins.make_room(found.data)
        return found

    def _add(self, rules: Rules, row: Row | None) -> None:
        if row is not None:
            name, parts, mark, comment = row
            rules.add(name, parts, (mark.line + 1, mark.column + 1), comment, self._file)

    def _rows(self, rules: Rules, file: RulesFile) -> None:
        columns = file.columns
        if columns is None:
            for node in json_nodes(file.rows, self._report):
                self._add(rules, self._rule(node))
        elif len(file.rows) and not self._sheet(rules, columns, file.rows):
            for line in file.rows:
                self._add(rules, self._cells(columns, line))

    def _cells(self, columns: Columns, line: Line) -> Row | None:
        """A line of cells, on its own."""
        cells = line.text.split("\t")
        if len(cells) != columns.width:
            words = f"{len(cells)} cells in this line; the first line names {columns.width} columns"
            self._report.error(Place(line.number, 0), words)
            return None
        return self._rule(cells_node(columns, cells, line.number))

    def _sheet(self, rules: Rules, columns: Columns, rows: Lines) -> bool:
        """All lines of cells together. False: one of them is surely wrong; each takes the usual readers."""
        cells, count = columns.cut(rows), len(rows)
        if cells is None:
            return False
        names, comments = cells["name"], cells.get("comment", [""] * count)
        taken = self._names.fresh(names, self._file, rows.numbers)
        if taken is None or max(map(len, comments), default=0) > MAX_COMMENT:
            return False
        sheet = Sheet(cells, count, self._values)
        for at in sheet.left():
            node = cells_node(columns, rows.texts[at].split("\t"), rows.numbers[at])
            row = self._rule(node)
            fit = self._templates.find(_shape(node), _own(node))
            if fit is not None:
                sheet.learn(at, fit.template)
            if row is not None:
                sheet.put(at, row.parts)
        self._names.put(taken)
        rules.extend(names, sheet.columns(), [number + 1 for number in rows.numbers], comments, self._file)
        return True

    def _rule(self, node: Node) -> Row | None:
        if not isinstance(node, Mapping):
            self._report.error(
                node.mark, "a rule must be a mapping, as in {name: no-telnet, dport: 23, action: drop}"
            )
            return None
        if not node.marks.keys() <= _KNOWN and not self._unknown(node):
            return None
        name, comment = self._name(node), self._comment(node)
        shape, own = _shape(node), _own(node)
        fit = self._templates.find(shape, own)
        if fit is not None:
            return Row(name, fit, node.mark, comment)
        before = self._report.findings
        action = None
        if "action" in node.items:
            action = read_action(node.items["action"], self._report)
        elif "action" not in node.marks:
            which = f"rule {show(name)}" if name else "a rule"
            self._report.error(node.mark, f"{which} has no action; allowed: pass, drop, tx, redirect")
        match = self._matcher.build(node)
        if match is None or action is None:
            return None
        texts, frame = self._keys.texts(match), self._keys.frame(match, *action)
        known = shape if self._report.findings == before else None
        parts = self._templates.learn(known, own, match, action, frame, texts)
        return Row(name, parts, node.mark, comment)

    def _unknown(self, node: Mapping) -> bool:
        """Reports the keys that no rule has. True: there are others, so that it is read as a rule."""
        if self._file and KEY in node.marks:
            self._report.error(node.marks[KEY], f"{KEY} stands in the rule file only, not in a rules file")
            return False
        alone = _KNOWN.isdisjoint(node.marks)
        keys = (*RULE_KEYS, KEY) if alone and not self._file else RULE_KEYS
        check_keys(node, keys, "a rule", self._report)
        return not alone

    def _name(self, rule: Mapping) -> str:
        node = rule.items.get("name")
        if node is None:
            if "name" not in rule.marks:
                self._report.error(rule.mark, "a rule has no name; every rule needs a unique one")
            return ""
        if not isinstance(node, Scalar) or not NAME.match(node.text):
            what = show(node.text) if isinstance(node, Scalar) else "of this kind"
            self._report.error(node.mark, f"name {what} is not allowed; allowed: {NAME_WORDS}")
            return ""
        first = self._names.add(node.text, self._file, node.mark.line)
        if first is not None:
            other = f" of {first[0] or self._report.file}" if first[0] != self._file else ""
            words = f"duplicate rule name {show(node.text)}; line {first[1] + 1}{other} has it already"
            self._report.error(node.mark, words)
        return node.text

    def _comment(self, rule: Mapping) -> str:
        node = rule.items.get("comment")
        if node is None:
            return ""
        if not isinstance(node, Scalar):
            self._report.error(node.mark, "comment takes one line of text")
        elif len(node.text) > MAX_COMMENT:
            self._report.error(
                node.mark, f"comment has {len(node.text)} characters; at most {MAX_COMMENT} are allowed"
            )
        elif has_control(node.text):
            self._report.error(
                node.mark, "comment holds a control character; one line of plain text is allowed"
            )
        else:
            return node.text
        return ""


def _text(node: Node | None) -> str | None:
    """ "" for none; None for what is no plain text."""
    if isinstance(node, Scalar):
        return node.text or None
    return "" if node is None else None


def _own(node: Mapping) -> Own:
    items = node.items
    addresses = _text(items.get("src")), _text(items.get("dst"))
    return *addresses, _port(items.get("sport")), _port(items.get("dport"))


def _port(node: Node | None) -> str | None:
    return node.text or None if isinstance(node, Scalar) and not _is_set(node) else ""


def _is_set(port: Scalar) -> bool:
    return port.text[:1] == "@"


def _shape(node: Mapping) -> Shape | None:
    """What a template is found by; None if it is no plain text or list of such."""
    texts: list[tuple[str, object]] = []
    for key, value in node.items.items():
        if key in _OWN:
            continue
        if isinstance(value, Scalar):
            if key not in _PORTS or _is_set(value):
                texts.append((key, value.text))
        elif isinstance(value, Sequence) and all(isinstance(item, Scalar) for item in value.items):
            texts.append((key, tuple(item.text for item in value.items if isinstance(item, Scalar))))
        else:
            return None
    return tuple(texts) if len(node.items) == len(node.marks) else None
