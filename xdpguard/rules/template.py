"""Rules that differ in name, plain addresses and plain ports alone: the rest is resolved once for all.

Owns what may be shared. A template is learned from a rule that the usual readers have read without a remark,
and is used for rules whose other keys have the very same text, whose addresses are of the same families, and
which look at the same ports.
"""

from __future__ import annotations

from .key import Frame, Texts
from .model import Action, Match, Redirect
from .values import NOT_PLAIN, Parts, Template, Values

Shape = tuple[object, ...]
"""The text of every other key but name and comment."""

Own = tuple[str | None, str | None, str | None, str | None]
"""The texts of src, dst, sport and dport: "" for an absent key, and for ports that are of the shape, because
they are a list or a set; None for what has no template."""

Kinds = tuple[int, int, bool, bool]
"""Of src and dst, and whether sport and dport are the rule's own."""


class Templates:
    """Of one rule file and the files that it names."""

    def __init__(self, values: Values) -> None:
        self._values = values
        self.known: dict[tuple[Shape, Kinds], int] = {}

    def find(self, shape: Shape | None, own: Own) -> Parts | None:
        """None: it takes the usual readers."""
        numbers = self._numbers(own)
        if shape is None or numbers is None:
            return None
        template = self.known.get((shape, self._kinds(numbers)))
        return None if template is None else Parts(template, *numbers)

    def learn(
        self,
        shape: Shape | None,
        own: Own,
        match: Match,
        action: tuple[Action, Redirect | None],
        frame: Frame,
        texts: Texts,
    ) -> Parts:
        """What the usual readers made of a rule. Kept for others of this shape, unless that is None."""
        values = self._values
        ports = texts.sport, texts.dport
        number = values.template((frame, ports), Template.of(match, action, ports, frame))
        numbers = self._numbers(own) if shape is not None else None
        if shape is not None and numbers is not None and self._says(numbers, match):
            self.known[shape, self._kinds(numbers)] = number
            return Parts(number, *numbers)
        addresses = values.addresses
        return Parts(
            number, addresses.other(match.src, texts.src), addresses.other(match.dst, texts.dst), 0, 0
        )

    def _says(self, numbers: tuple[int, int, int, int], match: Match) -> bool:
        """Do the plain values alone say what the rule's readers made of them?"""
        src, dst, *ports = numbers
        addresses = self._values.addresses
        asked = zip(ports, (match.sport, match.dport), strict=True)
        return (addresses[src], addresses[dst]) == (match.src, match.dst) and all(
            not number or self._values.ports[number] == made for number, made in asked
        )

    def _numbers(self, own: Own) -> tuple[int, int, int, int] | None:
        src, dst, sport, dport = own
        if src is None or dst is None or sport is None or dport is None:
            return None
        addresses, ports = self._values.addresses, self._values.ports
        numbers = addresses.number(src), addresses.number(dst), ports.number(sport), ports.number(dport)
        return None if NOT_PLAIN in numbers else numbers

    def _kinds(self, numbers: tuple[int, int, int, int]) -> Kinds:
        src, dst, sport, dport = numbers
        kinds = self._values.addresses.kinds
        return kinds[src], kinds[dst], bool(sport), bool(dport)
