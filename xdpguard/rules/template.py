"""Rules that differ in name and plain addresses alone: the rest of their keys is resolved once for all.

Owns what may be shared. A template is learned from a rule that the usual readers have read without a remark,
and is used for rules whose other keys have the very same text and whose addresses are of the same families.
"""

from __future__ import annotations

from typing import NamedTuple

from .addresses import WHOLE, parse_block
from .key import Frame
from .model import Action, Addresses, Interval, Intervals, Match, Protocols, Redirect
from .text import Refused

_WHOLE = 8  # beside the IP version


class Single(NamedTuple):
    """One address, block or range. ``kind`` tells its family, and whether it is all of that family."""

    addresses: Addresses | None  # None: any, or all of the family
    kind: int
    text: str  # canonical, as in a key


ANY = Single(None, 0, "*")
"""Of a rule without the key."""

Shape = tuple[object, ...]
"""The text of every key but name, comment and addresses."""


class Template(NamedTuple):
    """Everything of a rule but its name and its addresses."""

    action: Action
    redirect: Redirect | None
    before: tuple[bool, bool, bool, Protocols | None]  # the fields of Match before src
    behind: tuple[Intervals | frozenset[int] | None, ...]  # and those behind dst
    frame: Frame

    def match(self, src: Single, dst: Single) -> Match:
        return Match(*self.before, src.addresses, dst.addresses, *self.behind)  # type: ignore[arg-type]


Fit = tuple[Template, Single, Single]
"""A template and the addresses, source and destination, to put into it."""


class Templates:
    """Of one rule file and the files that it names.

    ``src`` and ``dst`` are their texts: "" for an absent key, None for what is no plain text.
    """

    def __init__(self) -> None:
        self._singles: dict[str | None, Single | None] = {"": ANY, None: None}
        self._known: dict[tuple[Shape, int, int], Template] = {}

    def find(self, shape: Shape | None, src: str | None, dst: str | None) -> Fit | None:
        """None: it takes the usual readers."""
        one, other = self._single(src), self._single(dst)
        if shape is None or one is None or other is None:
            return None
        template = self._known.get((shape, one.kind, other.kind))
        return (template, one, other) if template is not None else None

    def learn(
        self,
        shape: Shape | None,
        src: str | None,
        dst: str | None,
        match: Match,
        action: tuple[Action, Redirect | None],
        frame: Frame,
    ) -> None:
        """Keep what the usual readers made of a rule of this shape, without a remark."""
        one, other = self._single(src), self._single(dst)
        if shape is None or one is None or other is None:
            return
        if (match.src, match.dst) == (one.addresses, other.addresses):
            before = (match.arp, match.ipv4, match.ipv6, match.protocols)
            behind = (
                *(match.sport, match.dport, match.tcp_flags),
                *(match.icmp_type, match.icmp_code, match.vlan),
            )
            self._known[shape, one.kind, other.kind] = Template(*action, before, behind, frame)

    def copy(self, shape: Shape | None, to: Shape, src: str, dst: str) -> None:
        """Know the template of one shape under another name too."""
        fit = self.find(shape, src, dst)
        if fit is not None:
            template, one, other = fit
            self._known[to, one.kind, other.kind] = template

    def _single(self, text: str | None) -> Single | None:
        try:
            return self._singles[text]
        except KeyError:
            found = self._singles[text] = _single(text or "")
            return found


def _single(text: str) -> Single | None:
    try:
        block = parse_block(text)
    except Refused:
        return None
    part: Interval = (block.first, block.last)
    if block.note:
        return None  # each place gets its note
    canonical = f"{block.first:x}-{block.last:x}"
    if part == WHOLE[block.version]:
        return Single(None, block.version | _WHOLE, "*")
    if block.version == 4:
        return Single(Addresses((part,), ()), 4, canonical + "/")
    return Single(Addresses((), (part,)), 6, "/" + canonical)
