"""One rule of a rule file, and the list of rules of one hook.

Owns the closed list of a rule's keys and the uniqueness of names.
"""

from __future__ import annotations

from .action import read_action
from .fields import MATCH_KEYS, Reader, check_keys
from .key import Keys
from .match import Matcher
from .model import Rule
from .report import Mark, Report
from .sets import NAME, NAME_WORDS, Sets
from .text import has_control, show
from .tree import Mapping, Node, Scalar, Sequence

RULE_KEYS = ("name", "comment", *MATCH_KEYS, "not", "action")
"""The closed list of keys of a rule."""

_KNOWN = frozenset(RULE_KEYS)

MAX_RULES = 131008
"""Most rules of one hook."""

MAX_COMMENT = 256
"""Longest comment of a rule, in characters."""


class RuleReader:
    """Reads the rules of both hooks of one file."""

    def __init__(self, report: Report, sets: Sets) -> None:
        self._report = report
        self._matcher = Matcher(Reader(report, sets), report)
        self._keys = Keys()
        self._names: dict[str, Mark] = {}

    def read_hook(self, hook: str, node: Node | None) -> tuple[Rule, ...]:
        """The rules of ``ingress`` or ``egress`` (None: the section is absent) that are right."""
        if node is None:
            return ()
        if not isinstance(node, Sequence):
            self._report.error(node.mark, f"{hook} must be a list of rules; write [] for none")
            return ()
        if len(node.items) > MAX_RULES:
            count = len(node.items)
            words = f"{hook} has {count} rules; at most {MAX_RULES} are allowed (use sets for addresses)"
            self._report.error(node.mark, words)
            return ()
        rules = [self._rule(hook, item) for item in node.items]
        return tuple(rule for rule in rules if rule is not None)

    def _rule(self, hook: str, node: Node) -> Rule | None:
        if not isinstance(node, Mapping):
            self._report.error(
                node.mark, "a rule must be a mapping, as in {name: no-telnet, dport: 23, action: drop}"
            )
            return None
        if not node.marks.keys() <= _KNOWN:
            check_keys(node, RULE_KEYS, "a rule", self._report)
        name = self._name(node)
        comment = self._comment(node)
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
        key = self._keys.make(hook, name, match, *action)
        mark = node.mark
        return Rule(name, action[0], match, action[1], key, mark.line + 1, mark.column + 1, comment)

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
        first = self._names.setdefault(node.text, node.mark)
        if first is not node.mark:
            words = f"duplicate rule name {show(node.text)}; line {first.line + 1} has it already"
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
