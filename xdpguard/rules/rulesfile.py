"""The files behind ``{rules_file: NAME}``: found, read, and cut into lines.

Must never know a rule; the lines are read in table.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from xdpguard.errors import Problem

from .report import Report
from .source import Base, shown_path
from .table import Columns, Lines, header, lines
from .text import BadText, decode, show
from .tree import Mapping, Node, Scalar

KEY = "rules_file"
CELLS, JSON = ".tsv", ".jsonl"
"""The formats, told by how a name ends."""


@dataclass(slots=True)
class RulesFile:
    """Without ``columns`` its rows are JSON. A file that was refused has no rows."""

    name: str
    data: bytes = b""
    rows: Lines = field(default_factory=Lines)
    columns: Columns | None = None


def is_rules_file(node: Node) -> bool:
    return isinstance(node, Mapping) and KEY in node.marks


def open_rules(node: Node, base: Base, report: Report) -> RulesFile:
    """Its path is relative to ``base``."""
    name = node.items.get(KEY) if isinstance(node, Mapping) else None
    if not isinstance(node, Mapping) or list(node.marks) != [KEY] or not isinstance(name, Scalar):
        report.error(node.mark, f"{{{KEY}: NAME}} stands alone, for all rules of the file")
        return RulesFile("")
    if not name.text.endswith((CELLS, JSON)):
        report.error(name.mark, f"rules file {show(name.text)}: its name must end in {CELLS} or {JSON}")
        return RulesFile("")
    path = base.folder / name.text
    found = RulesFile(shown_path(path))
    data = base.sources.read(path, report, name.mark)
    if data is not None:
        found.data = data
        try:
            found.rows = lines(decode(data))
        except BadText as error:
            report.add(Problem(found.name, error.line, error.column, "error", str(error)))
            return found
        with report.inside(found.name):
            _head(found, report, name.text.endswith(CELLS))
    return found


def _head(found: RulesFile, report: Report, cells: bool) -> None:
    if not found.rows:
        report.note(None, "rules file is empty: it has no rules")
    elif cells:
        found.columns = header(found.rows.pop_first(), report)
        if found.columns is None:
            found.rows = Lines()
