"""Many rules as columns of numbers: the rules of a hook, each of which becomes a Rule when it is asked for.

Owns what is known of all rules of a hook at once. A hundred thousand Rule objects cost more than all that a
load does with them. Must never read text.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import accumulate, groupby
from operator import attrgetter
from typing import overload

from .key import Frame, Texts, digest
from .model import Action, Match, Redirect, Rule
from .values import Parts, Template, Values


class Matches(Sequence[Match]):
    """What rules match. Each column holds a number of ``values`` per rule."""

    def __init__(self, values: Values) -> None:
        self.values = values
        self.templates: list[int] = []
        self.src: list[int] = []
        self.dst: list[int] = []
        self.sport: list[int] = []
        self.dport: list[int] = []

    def __len__(self) -> int:
        return len(self.templates)

    @overload
    def __getitem__(self, at: int) -> Match: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Match]: ...
    def __getitem__(self, at: int | slice) -> Match | Sequence[Match]:
        if isinstance(at, slice):
            return [self[each] for each in range(*at.indices(len(self)))]
        return self._make(*(column[at] for column in self.columns()))

    def __iter__(self) -> Iterator[Match]:
        return map(self._make, *self.columns())

    def _make(self, number: int, src: int, dst: int, sport: int, dport: int) -> Match:
        template, addresses, ports = self.values.templates[number], self.values.addresses, self.values.ports
        return Match(
            *template.before,
            addresses[src],
            addresses[dst],
            ports[sport] if sport else template.ports[0],
            ports[dport] if dport else template.ports[1],
            *template.behind,
        )

    def columns(self) -> Sequence[list[int]]:
        """In the order of ``Parts``."""
        return self.templates, self.src, self.dst, self.sport, self.dport

    def add(self, parts: Parts) -> None:
        template, src, dst, sport, dport = parts
        self.templates.append(template)
        self.src.append(src)
        self.dst.append(dst)
        self.sport.append(sport)
        self.dport.append(dport)

    def extend(self, columns: list[list[int]]) -> None:
        for column, more in zip(self.columns(), columns, strict=True):
            column += more

    @cached_property
    def firsts(self) -> list[tuple[int, Template]]:
        """The templates in the order in which they are first used, each behind the rule that does."""
        numbers = self.templates
        first = dict(zip(reversed(numbers), range(len(numbers) - 1, -1, -1), strict=True))
        return sorted(
            ((at, self.values.templates[number]) for number, at in first.items()), key=lambda found: found[0]
        )


def gathered(matches: Sequence[Match], actions: Sequence[tuple[Action, Redirect | None]]) -> Matches:
    """Of rules that are there one by one. What is one object in several rules has one number."""
    found = Matches(Values())
    values = found.values
    for match, action in zip(matches, actions, strict=True):
        made = Template.of(match, action, ("", ""), Frame("", ""))
        key = (*action, *made.before[:3], *map(id, (match.protocols, *made.ports, *made.behind)))
        addresses = values.addresses.other(match.src), values.addresses.other(match.dst)
        found.add(Parts(values.template(key, made), *addresses, 0, 0))
    return found


class Rules(Sequence[Rule]):
    """The rules of a hook. ``files``: those that they stand in, in their order, each with how many."""

    def __init__(self, hook: str, matches: Matches) -> None:
        self.hook, self.matches = hook, matches
        self.names: list[str] = []
        self.lines: list[int] = []
        self.columns: list[int] = []
        self.comments: list[str] = []
        self.files: list[tuple[str, int]] = []
        self._made: dict[int, Rule] = {}

    def __len__(self) -> int:
        return len(self.names)

    @overload
    def __getitem__(self, at: int) -> Rule: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Rule]: ...
    def __getitem__(self, at: int | slice) -> Rule | Sequence[Rule]:
        if isinstance(at, slice):
            return tuple(self[each] for each in range(*at.indices(len(self))))
        if at not in self._made:
            self._made[at] = self._make(at)
        return self._made[at]

    def _make(self, at: int) -> Rule:
        template = self.matches.values.templates[self.matches.templates[at]]
        what = self.names[at], template.action, self.matches[at], template.redirect, self.keys[at]
        return Rule(*what, self.lines[at], self.columns[at], self.comments[at], self.file(at))

    def __iter__(self) -> Iterator[Rule]:
        return map(self.__getitem__, range(len(self)))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and tuple(self) == tuple(other)

    def file(self, at: int) -> str:
        """The rules file that a rule stands in; "": the rule file itself."""
        return self.files[bisect_right(self._ends, at % len(self))][0]

    def add(self, name: str, parts: Parts, place: tuple[int, int], comment: str, file: str) -> None:
        """``place``: line and column."""
        self.matches.add(parts)
        self.names.append(name)
        self.lines.append(place[0])
        self.columns.append(place[1])
        self.comments.append(comment)
        self._stand(file, 1)

    def extend(
        self, names: list[str], parts: list[list[int]], lines: list[int], comments: list[str], file: str
    ) -> None:
        """Rules of one file that stand at the beginning of their lines. ``parts``: the columns of matches."""
        self.matches.extend(parts)
        self.names += names
        self.lines += lines
        self.columns += [1] * len(names)
        self.comments += comments
        self._stand(file, len(names))

    def _stand(self, file: str, count: int) -> None:
        if self.files and self.files[-1][0] == file:
            count += self.files.pop()[1]
        if count:
            self.files.append((file, count))

    @property
    def actions(self) -> list[Action]:
        return [self.matches.values.templates[number].action for number in self.matches.templates]

    @cached_property
    def keys(self) -> list[str]:
        values, matches = self.matches.values, self.matches
        addresses, ports, templates = values.addresses.texts(), values.ports.texts(), values.templates
        found = []
        for name, template, src, dst, sport, dport in zip(self.names, *matches.columns(), strict=True):
            of_all = templates[template]
            texts = Texts(
                addresses[src],
                addresses[dst],
                ports[sport] if sport else of_all.port_texts[0],
                ports[dport] if dport else of_all.port_texts[1],
            )
            found.append(digest(self.hook, name, texts, of_all.frame))
        return found

    @cached_property
    def _ends(self) -> list[int]:
        return list(accumulate(count for _, count in self.files))

    @classmethod
    def of(cls, rules: Sequence[Rule]) -> Rules:
        """The same rules as columns."""
        if isinstance(rules, Rules):
            return rules
        actions = [(rule.action, rule.redirect) for rule in rules]
        found = cls("", gathered([rule.match for rule in rules], actions))
        found.names = [rule.name for rule in rules]
        found.lines, found.columns = [rule.line for rule in rules], [rule.column for rule in rules]
        found.comments = [rule.comment for rule in rules]
        found.files = [(file, len(list(some))) for file, some in groupby(map(attrgetter("file"), rules))]
        found.keys = [rule.key for rule in rules]
        return found
