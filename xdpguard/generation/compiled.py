"""Rules as a load needs them, compiled; kept by content, so that unchanged rules are neither parsed nor
compiled again.

A kept file is named by a hash of the rule file's path and bytes and of the program that compiled it; it tells
the hash of every file that the rule file names. What must never break: with it, a load gets the very bytes
that compiling would give. Nothing of the host is kept; when kept files are believed: ``kernel/kept.py``.
"""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from xdpguard import abi
from xdpguard.classify.tables import MAX_BYTES, Draft, Gap
from xdpguard.errors import KernelError
from xdpguard.generation.outline import Outline, Redirecting, named, outline
from xdpguard.kernel import kept
from xdpguard.kernel.meanwhile import meanwhile
from xdpguard.rules.model import RuleSet
from xdpguard.rules.report import Report
from xdpguard.rules.source import Sources, shown_path

SUFFIX = ".rules"
MOST_FILES, MOST_BYTES = 16, 256 << 20
"""Kept at a time."""
_MOST_OF_ONE = 2 * MAX_BYTES
_LENGTH_BYTES = 4
_MANY = 20_000
"""From so many rules on, what is told of single ones is worth another process."""
_PACKED = ("names", "places")

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Compiled:
    """``files``: path -> bytes of every file that was read for it, the rule file first."""

    outline: Outline
    draft: Draft
    files: dict[str, bytes] = field(default_factory=dict)


def of(ruleset: RuleSet) -> Compiled:
    """Compile. RulesError: over a limit. KernelError: no memory."""
    count = len(ruleset.ingress.rules) + len(ruleset.egress.rules)

    def joined() -> bytes:
        names, places = named(ruleset)
        return len(names).to_bytes(_LENGTH_BYTES, "little") + names + places

    try:
        with meanwhile(joined) if count >= _MANY else nullcontext(joined) as told:
            from xdpguard.classify.compile import draft  # NumPy, which what is kept does not need

            made, data = draft(ruleset), told()
        end = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
        return Compiled(outline(ruleset, (data[_LENGTH_BYTES:end], data[end:])), made)
    except MemoryError as error:
        raise KernelError(f"{ruleset.file}: no memory to compile {count} rules; nothing changed") from error


def read(path: str, say: Say, *, verbose: bool = False, files: Mapping[str, bytes] | None = None) -> Compiled:
    """A rule file, compiled now or kept; its notes are said. ``verbose``: also which of both, and why.
    ``files``: what to take for it and for the files that it names.

    Raises as ``load_file`` and ``of``.
    """
    tell = say if verbose else lambda text: None
    sources = Sources(files)
    place = _place(path, sources)
    found = _kept(place, sources, tell) if place is not None else None
    if found is not None:
        _say_all(found.outline.notes, say)
        return dataclasses.replace(found, files=sources.held())
    from xdpguard.rules.parse import load_file  # the parser, of which the same holds

    ruleset = load_file(path, thorough=False, sources=sources)
    _say_all(ruleset.notes, say)
    made = of(ruleset)
    if place is not None:
        kept.write(place, *_encoded(made, place, sources))
        kept.trim(SUFFIX, MOST_FILES, MOST_BYTES)
    return dataclasses.replace(made, files=sources.held())


def _say_all(notes: tuple[str, ...], say: Say) -> None:
    for note in notes:
        say(note)


def _kept(place: Path, sources: Sources, tell: Say) -> Compiled | None:
    """None: it is not there, cannot be trusted, or a file that the rule file names is another by now."""
    try:
        found = _opened(place, sources)
    except kept.Distrusted as why:
        if why.there:
            tell(str(why))
        return None
    kept.renew(place)
    tell(f"{found.outline.file}: unchanged, compiled before ({place})")
    return found


def _place(path: str, sources: Sources) -> Path | None:
    """Where the rule file is kept; None if it cannot be read: the parser tells why."""
    data = sources.read(path, Report(shown_path(path)))
    if data is None:
        return None
    total = _program()
    for part in (os.fsencode(path), data):
        total.update(len(part).to_bytes(8, "big") + part)
    return kept.FOLDER / f"{total.hexdigest()}{SUFFIX}"


def _program() -> Any:
    """A hash of all that decides what rules are compiled to."""
    total = hashlib.sha256(sys.version.encode())
    for path in _program_files():
        data = path.read_bytes()
        total.update(f"{path.name} {len(data)} ".encode() + data)
    return total


def _program_files() -> Iterator[Path]:
    package, headers = Path(abi.__file__).parent, abi.folder() / "include"
    yield from (package / "__init__.py", package / "abi.py", package / "errors.py")
    for room in ("rules", "classify", "generation"):
        yield from sorted((package / room).glob("*.py"))
    yield from sorted(headers.glob("*.h"))
    for library, file in (("numpy", "version.py"), ("yaml", "__init__.py")):
        found = importlib.util.find_spec(library)
        if found is not None and found.origin is not None:
            yield Path(found.origin).parent / file


# ---- the file ----------------------------------------------------------------------------------------------
# A head, then what it tells the lengths of: names, places, tables.


def _encoded(made: Compiled, place: Path, sources: Sources) -> list[bytes | memoryview]:
    plan, draft = made.outline, made.draft
    head = {
        "name": place.name,
        "files": sources.digests(),
        "outline": {
            field.name: getattr(plan, field.name)
            for field in dataclasses.fields(plan)
            if field.name not in _PACKED
        },
        "counters": draft.counters,
        "gaps": [(gap.offset, gap.interface) for gap in draft.gaps],
        "summary": draft.summary,
        "lengths": [len(plan.names), len(plan.places), len(draft.data)],
    }
    return kept.headed(head, plan.names, plan.places, draft.data)


def _opened(place: Path, sources: Sources) -> Compiled:
    """Raises Distrusted; also if a file that the rule file names is another by now."""
    data = kept.read(place, _MOST_OF_ONE)
    try:
        return _decoded(data, place, sources)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError) as error:
        raise kept.Distrusted(place, f"is not as it was written ({type(error).__name__})") from None


def _decoded(data: memoryview, place: Path, sources: Sources) -> Compiled:
    head, rest = kept.parted(data)
    names, places, tables = head["lengths"]
    if head["name"] != place.name or names + places + tables != len(rest):
        raise ValueError
    _same_files(head["files"], place, sources)
    told = head["outline"]
    told["notes"], told["counts"] = tuple(told["notes"]), tuple(told["counts"])
    told["defaults"] = tuple(told["defaults"])
    told["redirects"] = tuple(Redirecting(*one) for one in told["redirects"])
    told["names"] = bytes(rest[:names])
    told["places"] = bytes(rest[names : names + places])
    gaps = tuple(Gap(*one) for one in head["gaps"])
    draft = Draft(rest[names + places :], head["counters"], gaps, tuple(head["summary"]))
    return Compiled(Outline(**told), draft)


def _same_files(digests: dict[str, str], place: Path, sources: Sources) -> None:
    for path in digests:
        if sources.read(path, Report(path)) is None:
            raise kept.Distrusted(place, f"{shown_path(path)} cannot be read", there=False)
    if sources.digests() != digests:
        raise kept.Distrusted(place, "another file", there=False)
