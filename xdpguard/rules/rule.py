"""One rule of a rule file, and the list of rules of one hook.

Owns the closed list of a rule's keys and the uniqueness of names.
"""

from __future__ import annotations

from xdpguard.abi import abi

from .action import read_action
from .fields import MATCH_KEYS, Reader, check_keys
from .joins import Joins
from .key import Keys, digest
from .match import Matcher
from .model import Action, Match, Redirect, Rule
from .report import Mark, Report
from .rulesfile import RulesFile, is_rules_file, open_rules
from .sets import NAME, NAME_WORDS, Sets
from .source import Base
from .table import Columns, Line, Place, cells_node, json_nodes
from .template import Fit, Own, Shape, Templates
from .text import has_control, show
from .tree import Mapping, Node, Scalar, Sequence

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


class RuleReader:
    """Reads the rules of both hooks of one file. ``files``: the bytes of the rules files that it names."""

    def __init__(self, report: Report, sets: Sets, base: Base, joins: Joins) -> None:
        self._report = report
        self._joins = joins
        self._matcher = Matcher(Reader(report, sets, joins), report, joins)
        self._keys = Keys()
        self._templates = Templates()
        self._names: dict[str, tuple[str, int]] = {}  # file ("": the rule file) and line from 0
        self._base = base
        self._file = ""
        self.files: list[bytes] = []

    def read_hook(self, hook: str, node: Node | None) -> tuple[Rule, ...]:
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
        rules: list[Rule | None] = []
        node.items.clear()
        for at, part in enumerate(parts):
            parts[at] = _READ  # a large tree goes while its rules come
            if isinstance(part, RulesFile):
                self._file = part.name
                with self._report.inside(part.name):
                    rules += self._rows(hook, part)
                self._file = ""
            else:
                rules.append(self._rule(hook, part))
        return tuple(rule for rule in rules if rule is not None)

    def _opened(self, item: Node) -> RulesFile:
        found = open_rules(item, self._base, self._report)
        self.files.append(found.data)
        self._joins.make_room(found.data)
        return found

    def _rows(self, hook: str, file: RulesFile) -> list[Rule | None]:
        columns = file.columns
        if columns is None:
            return [self._rule(hook, node) for node in json_nodes(file.rows, self._report)]
        return [self._cells(hook, columns, line) for line in file.rows]

    def _cells(self, hook: str, columns: Columns, line: Line) -> Rule | None:
        """A line of cells. Most need no nodes: their template is known and their name is new."""
        cells, place = line.text.split("\t"), Place(line.number, 0)
        if len(cells) != columns.width:
            words = f"{len(cells)} cells in this line; the first line names {columns.width} columns"
            self._report.error(place, words)
            return None
        name, comment, own, shape = columns.parts(cells)
        fit = self._templates.find(shape, own)
        if fit is not None and not comment and name not in self._names and NAME.match(name):
            self._names[name] = (self._file, line.number)
            return self._made(hook, name, fit, place, "")
        node = cells_node(columns, cells, line.number)
        rule = self._rule(hook, node)
        if fit is None:
            self._templates.copy(_shape(node), shape, own)
        return rule

    def _rule(self, hook: str, node: Node) -> Rule | None:
        if not isinstance(node, Mapping):
            self._report.error(
                node.mark, "a rule must be a mapping, as in {name: no-telnet, dport: 23, action: drop}"
            )
            return None
        if not node.marks.keys() <= _KNOWN:
            check_keys(node, RULE_KEYS, "a rule", self._report)
        name, comment = self._name(node), self._comment(node)
        shape, own = _shape(node), _own(node)
        fit = self._templates.find(shape, own)
        if fit is not None:
            return self._made(hook, name, fit, node.mark, comment)
        before = self._report.findings
        action = None
        if "action" in node.items:
            action = read_action(node.items["action"], self._report)
        elif "action" not in node.marks:
            self._report.error(
                node.mark, f"rule {show(name)} has no action; allowed: pass, drop, tx, redirect"
            )
        match = self._matcher.build(node)
        if match is None or action is None:
            return None
        texts, frame = self._keys.texts(match), self._keys.frame(match, *action)
        key = digest(hook, name, texts, frame)
        if self._report.findings == before:
            self._templates.learn(shape, own, match, action, frame, texts)
        return self._placed(name, action, match, key, node.mark, comment)

    def _made(self, hook: str, name: str, fit: Fit, mark: Mark, comment: str) -> Rule:
        template = fit.template
        key = digest(hook, name, fit.texts(), template.frame)
        return self._placed(name, (template.action, template.redirect), fit.match(), key, mark, comment)

    def _placed(
        self,
        name: str,
        action: tuple[Action, Redirect | None],
        match: Match,
        key: str,
        mark: Mark,
        comment: str,
    ) -> Rule:
        line, column = mark.line + 1, mark.column + 1
        return Rule(name, action[0], match, action[1], key, line, column, comment, self._file)

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
        here = (self._file, node.mark.line)
        first = self._names.setdefault(node.text, here)
        if first is not here:
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
