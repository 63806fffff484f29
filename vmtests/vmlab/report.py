"""docs/kernels.md: from what was found on each kernel to its text, and back. Pure.

The text has no date and no measured time: it changes only when a kernel, a compiler or a program does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from vmlab.errors import LabError
from vmlab.trial import FEATURES, PROGRAMS, Trial

COMMAND = "vmtests/kernels table"
_NOT_TRIED = "not tried: "
_HEAD = f"""\
# Kernels

What xdpguard does on each kernel of the VM lab (`vmtests/kernels.toml`), found by trying it there. Written by
`{COMMAND}`; edits would be lost.

"""
_COMPILER = "Compiled by "
_NUMBERS = """
## Instructions that the verifier processed
The kernel's limit is 1,000,000 for a program, the smoke test's 100,000. The counts do not depend on the
rules, which are data, but on the compiler and on the kernel's verifier. Owners: with `load --account-owners`.

"""
_WORKS = """
## What works
What a `no` means for the user is in [limitations.md](limitations.md#older-kernels).

"""


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel. ``release``: what it calls itself, or "not tried: " and why."""

    name: str
    release: str
    instructions: dict[str, str] = field(default_factory=dict)
    works: dict[str, bool] = field(default_factory=dict)


def row(name: str, trial: Trial) -> Row:
    instructions = {program: _grouped(text) for program, text in trial.instructions.items()}
    return Row(name, trial.release, instructions, {key: not why for key, why in trial.reasons.items()})


def not_tried(name: str, reason: str) -> Row:
    return Row(name, f"{_NOT_TRIED}{reason.splitlines()[0]}".replace("|", "/"))


def _grouped(text: str) -> str:
    return f"{int(text):,}" if text.isdigit() else text.splitlines()[0].replace("|", "/")


def render(compiler: str, rows: Sequence[Row]) -> str:
    """The whole file. ``compiler``: names and versions."""
    numbers = [
        ["kernel", "version", *PROGRAMS.values()],
        *([one.name, one.release, *(one.instructions.get(key, "-") for key in PROGRAMS)] for one in rows),
    ]
    works = [
        ["", *(one.name for one in rows)],
        *(
            [f"`{key}`: {text}", *(_word(one.works.get(key)) for one in rows)]
            for key, text in FEATURES.items()
        ),
    ]
    return f"{_HEAD}{_COMPILER}{compiler}.\n{_NUMBERS}{_table(numbers)}{_WORKS}{_table(works)}"


def _word(works: bool | None) -> str:
    return "-" if works is None else "yes" if works else "no"


def _table(lines: list[list[str]]) -> str:
    rule = ["---"] * len(lines[0])
    return "".join(f"| {' | '.join(line)} |\n" for line in (lines[0], rule, *lines[1:]))


def read(text: str) -> tuple[str, list[Row]]:
    """What ``render`` was given. LabError: the text is not of its format."""
    head, _, rest = text.partition(_NUMBERS)
    numbers, _, works = rest.partition(_WORKS)
    answers = {line[0].split("`")[1]: line[1:] for line in _cells(works)[2:] if line[0].startswith("`")}
    rows = []
    for position, (name, *more) in enumerate(_cells(numbers)[2:]):
        release, counts = "".join(more[:1]), more[1:]
        if release.startswith(_NOT_TRIED):
            rows.append(Row(name, release))
            continue
        yes = {key: cells[position] == "yes" for key, cells in answers.items() if position < len(cells)}
        rows.append(Row(name, release, dict(zip(PROGRAMS, counts, strict=False)), yes))
    compiler = [line for line in head.splitlines() if line.startswith(_COMPILER)]
    found = compiler[0].removeprefix(_COMPILER).removesuffix(".") if compiler else ""
    if render(found, rows) != text:
        raise LabError(f"docs/kernels.md is not as {COMMAND} writes it: run it again")
    return found, rows


def _cells(text: str) -> list[list[str]]:
    return [line.strip("|").strip().split(" | ") for line in text.splitlines() if line.startswith("|")]
