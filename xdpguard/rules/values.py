"""The distinct values of many rules, by number. Rules repeat them, and keep no more than the numbers.

Owns what one plain address or port is, in numbers and in a key. Must never read a tree or report.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from itertools import count, islice
from typing import NamedTuple

from .addresses import WHOLE, Value, plain_value, plain_values
from .key import Frame
from .model import Action, Addresses, Intervals, Match, Protocols, Redirect
from .numbers import number_range
from .text import Refused

ALL = 8
"""Beside the IP version: every address of it."""
SEVERAL = 16
_ANY = (0, 0, 0)
NOT_PLAIN = 1
"""The number of texts that take the usual readers."""


class AddressValues:
    """Addresses by number; 0 is any.

    ``kinds``: 0 for any, -1 for NOT_PLAIN; 4 or 6 for one interval of that IP version, from ``first`` to
    ``last``; with ALL beside it for the whole of it, where addresses are not looked at; SEVERAL for anything
    else.
    """

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {"": 0}  # of the texts so far
        # In the order of their numbers, so that a new value has the next one.
        self._values = defaultdict[Value | None, int](count().__next__)
        self._others: dict[int, Addresses] = {}  # SEVERAL, and what was made of one interval
        self._texts: dict[int, str] = {}
        for value in (_ANY, None, (4, *WHOLE[4]), (6, *WHOLE[6])):
            self._values[value]
        self.kinds, self.first, self.last = [0, -1, 4 | ALL, 6 | ALL], [0] * 4, [0] * 4

    def plain(self, texts: Iterable[str]) -> dict[str, int]:
        """The numbers of all texts so far, these among them: NOT_PLAIN for those that say more than one
        address, block or range, or that call for a remark."""
        known = self.numbers
        fresh = [text for text in dict.fromkeys(texts) if text not in known]
        known.update(zip(fresh, map(self._values.__getitem__, plain_values(fresh)), strict=True))
        self._put(islice(reversed(self._values), len(self._values) - len(self.kinds)))
        return known

    def number(self, text: str) -> int:
        """Of one text."""
        number = self.numbers.get(text)
        if number is None:
            number = self.numbers[text] = self._number(plain_value(text))
        return number

    def _number(self, value: Value | None) -> int:
        number = self._values[value]
        if number == len(self.kinds):
            self._put([value])
        return number

    def _put(self, values: Iterable[Value | None]) -> None:
        """New ones, the last one first. Their version is their kind."""
        new = [value for value in values if value is not None]  # that one is there from the beginning
        new.reverse()
        self.kinds += [kind for kind, _, _ in new]
        self.first += [first for _, first, _ in new]
        self.last += [last for _, _, last in new]

    def other(self, addresses: Addresses | None, text: str = "") -> int:
        """The number of any addresses. ``text``: in a key."""
        if addresses is None:
            return 0
        if len(addresses.v4) + len(addresses.v6) == 1:
            version = 4 if addresses.v4 else 6
            (part,) = addresses.v4 or addresses.v6
            if part != WHOLE[version]:
                return self._number((version, *part))
        number = self._number((SEVERAL, id(addresses), 0))
        if number not in self._others:
            self._others[number] = addresses  # and so its id stays its own
            self._texts[number] = text
        return number

    def __getitem__(self, number: int) -> Addresses | None:
        kind = self.kinds[number]
        if not kind or kind & ALL:
            return None
        found = self._others.get(number)
        if found is None:
            part = ((self.first[number], self.last[number]),)
            found = self._others[number] = Addresses(part, ()) if kind == 4 else Addresses((), part)
        return found

    def texts(self) -> list[str]:
        """Each as in a key."""
        made = [
            f"{first:x}-{last:x}/" if kind == 4 else f"/{first:x}-{last:x}" if kind == 6 else "*"
            for kind, first, last in zip(self.kinds, self.first, self.last, strict=True)
        ]
        for number, text in self._texts.items():
            made[number] = text
        return made


class PortValues:
    """Plain ports by number; 0 is what the template says. ``kinds``: 0 for that, -1 for NOT_PLAIN, 1 else."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {"": 0}
        self.kinds = [0, -1]
        self._values: list[Intervals | None] = [None, None]

    def plain(self, texts: Iterable[str]) -> dict[str, int]:
        """As of addresses: NOT_PLAIN for those that say SEVERAL ports."""
        for text in dict.fromkeys(texts):
            self.number(text)
        return self.numbers

    def number(self, text: str) -> int:
        number = self.numbers.get(text)
        if number is None:
            number = self.numbers[text] = self._read(text)
        return number

    def _read(self, text: str) -> int:
        try:
            part = number_range(text, "port", 65535)
        except Refused:
            return NOT_PLAIN
        self._values.append((part,))
        self.kinds.append(1)
        return len(self._values) - 1

    def __getitem__(self, number: int) -> Intervals | None:
        return self._values[number]

    def texts(self) -> list[str]:
        return [f"{part[0][0]:x}-{part[0][1]:x}" if part else "*" for part in self._values]


class Template(NamedTuple):
    """Everything of a rule but its name, its addresses and its plain ports."""

    action: Action
    redirect: Redirect | None
    before: tuple[bool, bool, bool, Protocols | None]  # the fields of Match before src
    ports: tuple[Intervals | None, Intervals | None]  # for rules whose own have number 0
    port_texts: tuple[str, str]
    behind: tuple[frozenset[int] | None, Intervals | None, Intervals | None, Intervals | None]
    frame: Frame

    @classmethod
    def of(
        cls, match: Match, action: tuple[Action, Redirect | None], port_texts: tuple[str, str], frame: Frame
    ) -> Template:
        """Of a rule that was read on its own."""
        before = (match.arp, match.ipv4, match.ipv6, match.protocols)
        behind = (match.tcp_flags, match.icmp_type, match.icmp_code, match.vlan)
        return cls(*action, before, (match.sport, match.dport), port_texts, behind, frame)

    @property
    def vlan(self) -> Intervals | None:
        return self.behind[3]


class Parts(NamedTuple):
    """The numbers of what a rule consists of."""

    template: int
    src: int
    dst: int
    sport: int
    dport: int


class Values:
    """Of all rules of a rule file and the files that it names."""

    def __init__(self) -> None:
        self.addresses, self.ports = AddressValues(), PortValues()
        self.templates: list[Template] = []
        self._same: dict[object, int] = {}

    def template(self, key: object, made: Template) -> int:
        """Its number. Templates of equal ``key`` are equal."""
        number = self._same.setdefault(key, len(self.templates))
        if number == len(self.templates):
            self.templates.append(made)
        return number
