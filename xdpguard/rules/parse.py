"""A rule file, whole: YAML bytes to RuleSet. The only maker of RuleSets.

Owns the top-level keys, the version, and how findings leave the parser: errors as one RulesError, the rest as
RuleSet.notes. Must never print.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from xdpguard.errors import Problem, RulesError

from .action import read_default
from .joins import Joins
from .lint import lint
from .model import Action, Hook, RuleSet
from .report import Report
from .rule import RuleReader
from .sets import read_sets
from .source import Base, Sources, shown_path
from .text import BadText, decode, show
from .tree import Mapping, Scalar, check_keys, read_tree

FILE_KEYS = ("version", "default", "malformed", "fragments", "sets", "ingress", "egress")
"""The closed list of top-level keys."""

HOOKS = ("ingress", "egress")
VERSION = "1"

_PASS_DROP = {"pass": Action.PASS, "drop": Action.DROP}


MAX_LINTED = 10_000
"""With more rules than these, the search for rules that can never match takes longer than a load may."""

_MANY = 3_000
"""New objects, of about a thousand rules: so many are worth leaving out of the collector's walks."""


def load_file(
    path: str | os.PathLike[str], *, thorough: bool = True, sources: Sources | None = None
) -> RuleSet:
    """Reads, checks and lints a rule file; one of more than MAX_LINTED rules only if ``thorough``.
    ``sources``: reads the files, and may hold some of them already.

    Raises RulesError with every Problem, also those of the files that it names.
    """
    shown = shown_path(path)
    report = Report(shown)
    sources = sources or Sources()
    data = sources.read(path, report)
    if data is None:
        raise RulesError(report.problems())
    ruleset = parse(data, shown, Path(path).parent, sources)
    with _no_collector():
        return dataclasses.replace(ruleset, notes=ruleset.notes + _linted(ruleset, thorough))


def _linted(ruleset: RuleSet, thorough: bool) -> tuple[str, ...]:
    count = len(ruleset.ingress.rules) + len(ruleset.egress.rules)
    report = Report(ruleset.file)
    if thorough or count <= MAX_LINTED:
        for problem in lint(ruleset):
            report.add(problem)
    else:
        words = f"{count} rules: only `xdpguard check` looks for those that can never match"
        report.note(None, words)
    return tuple(str(problem) for problem in report.problems())


def parse(data: bytes, file: str, base: Path, sources: Sources | None = None) -> RuleSet:
    """The bytes of a rule file to a RuleSet. ``file`` names it in messages; the files that it names lie
    relative to ``base``, the folder of the rule file, and are read by ``sources``.

    Raises RulesError with every Problem, warnings and notes too, in file order.
    """
    report = Report(file)
    ruleset = None
    with _no_collector():
        root = _root(data, report)
        if root is not None:
            ruleset = _file(root, data, Base(base, sources or Sources()), report)
    if ruleset is None or report.errors:
        raise RulesError(report.problems())
    return dataclasses.replace(ruleset, notes=tuple(str(problem) for problem in report.problems()))


@contextlib.contextmanager
def _no_collector() -> Iterator[None]:
    """Stops the cyclic garbage collector: tree and rules have no cycles, and walking their million objects
    again and again takes most of the time. What lives on is left out of its later walks too, if it is much:
    so is whatever garbage there is then, for as long as the process lives."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            if gc.get_count()[0] > _MANY:
                gc.freeze()
            gc.enable()


def _root(data: bytes, report: Report) -> Mapping | None:
    if not data:
        report.error(None, "the file is empty; the least is 'version: 1'")
        return None
    try:
        text = decode(data)
    except BadText as error:
        report.add(Problem(report.file, error.line, error.column, "error", str(error)))
        return None
    root = read_tree(text, report)
    if root is None or isinstance(root, Mapping):
        return root
    report.error(root.mark, f"a rule file is a mapping of the keys {', '.join(FILE_KEYS)}")
    return None


def _file(root: Mapping, data: bytes, base: Base, report: Report) -> RuleSet:
    check_keys(root, FILE_KEYS, "the file", report)
    _version(root, report)
    defaults = _defaults(root, report)
    malformed, drop_fragments = _malformed(root, report), _drop_fragments(root, report)
    sets = read_sets(root.items.get("sets"), base, report)
    joins = Joins(report)
    for each in (data, *sets.files):
        joins.make_room(each)
    rules = RuleReader(report, sets, base, joins)
    ingress = Hook(defaults["ingress"], rules.read_hook("ingress", root.items.get("ingress")))
    egress = Hook(defaults["egress"], rules.read_hook("egress", root.items.get("egress")))
    sets.warn_unused()
    digest = _digest([data, *sets.files, *rules.files])
    return RuleSet(report.file, ingress, egress, malformed, drop_fragments, digest)


def _version(root: Mapping, report: Report) -> None:
    node = root.items.get("version")
    if node is None:
        if "version" not in root.marks:
            report.error(root.mark, "the file has no version; write 'version: 1'")
    elif not isinstance(node, Scalar) or node.text != VERSION:
        what = show(node.text) if isinstance(node, Scalar) else "of this kind"
        report.error(node.mark, f"version {what} is not supported; allowed: {VERSION}")


def _defaults(root: Mapping, report: Report) -> dict[str, Action]:
    found = dict.fromkeys(HOOKS, Action.PASS)
    node = root.items.get("default")
    if node is None:
        return found
    if not isinstance(node, Mapping) or not node.marks:
        report.error(node.mark, "default takes a word for each hook, as in {ingress: pass, egress: pass}")
        return found
    check_keys(node, HOOKS, "default", report)
    for hook in HOOKS:
        value = node.items.get(hook)
        if value is not None:
            found[hook] = read_default(value, _PASS_DROP, f"default of {hook}", report) or Action.PASS
    return found


def _malformed(root: Mapping, report: Report) -> Action:
    node = root.items.get("malformed")
    if node is None:
        return Action.DROP
    return read_default(node, _PASS_DROP, "malformed", report) or Action.DROP


def _drop_fragments(root: Mapping, report: Report) -> bool:
    node = root.items.get("fragments")
    if node is None:
        return False
    words = {"l3-only": Action.PASS, "drop": Action.DROP}
    return read_default(node, words, "fragments", report) is Action.DROP


def _digest(files: list[bytes]) -> str:
    """Length before content, so that bytes cannot move from one file to the next unseen."""
    total = hashlib.blake2s()
    for data in files:
        total.update(len(data).to_bytes(8, "big") + data)
    return total.hexdigest()
