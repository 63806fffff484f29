"""The rules of a file of cells, column by column: each text that they repeat is read once.

Knows no grammar: texts are read where those of a single rule are, and a rule of which not every text is
plain, or whose like has not been read before, is left to the usual readers. Must never report.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator

from .values import NOT_PLAIN, Parts, Values

_UNKNOWN = -1
"""Stands for the template of a rule while none is known."""
_OWN = frozenset({"name", "comment", "src", "dst", "sport", "dport"})


class Sheet:
    """Rules of so many lines. ``cells``: the texts of each column."""

    def __init__(self, cells: dict[str, list[str]], count: int, values: Values) -> None:
        absent = [""] * count
        texts = [cells.get(name, absent) for name in ("src", "dst", "sport", "dport")]
        numbers = [values.addresses.plain(some) for some in texts[:2]]
        numbers += [values.ports.plain(some) for some in texts[2:]]
        self._numbers = [
            list(map(known.__getitem__, some)) for known, some in zip(numbers, texts, strict=True)
        ]
        kinds = [values.addresses.kinds] * 2 + [values.ports.kinds] * 2
        of_row = [map(of.__getitem__, some) for of, some in zip(kinds, self._numbers, strict=True)]
        others = [some for name, some in cells.items() if name not in _OWN]
        alike = defaultdict[tuple[object, ...], int](itertools.count().__next__)
        self._alike = list(map(alike.__getitem__, zip(*others, *of_row, strict=True)))
        self._templates = [_UNKNOWN] * len(alike)
        self._single: dict[int, Parts] = {}

    def left(self) -> Iterator[int]:
        """The rules that the usual readers must read, in their order. Those like one that was learned
        meanwhile are not among them."""
        templates = self._templates
        return (at for at, which in enumerate(self._alike) if templates[which] == _UNKNOWN)

    def put(self, at: int, parts: Parts) -> None:
        """What the usual readers found."""
        self._single[at] = parts

    def learn(self, at: int, template: int) -> None:
        """Rules that are like this one have this template, unless not all of its texts are plain."""
        if all(numbers[at] != NOT_PLAIN for numbers in self._numbers):
            self._templates[self._alike[at]] = template

    def columns(self) -> list[list[int]]:
        """The numbers of each field of ``Parts``. Where the readers refused a rule, they mean nothing."""
        found = [list(map(self._templates.__getitem__, self._alike)), *self._numbers]
        for at, parts in self._single.items():
            for column, number in zip(found, parts, strict=True):
                column[at] = number
        return found
