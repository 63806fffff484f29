"""Rules that differ in name, plain addresses and plain ports alone: the rest is resolved once for all.

Owns what may be shared. A template is learned from a rule that the usual readers have read without a remark,
and is used for rules whose other keys have the very same text, whose addresses are of the same families, and
which look at the same ports.
"""

from __future__ import annotations

from typing import NamedTuple

from .addresses import WHOLE, parse_block
from .key import Frame, Texts
from .model import Action, Addresses, Interval, Intervals, Match, Protocols, Redirect
from .numbers import number_range
from .text import Refused

_WHOLE = 8  # beside the IP version
_PORTS = 1


class Single(NamedTuple):
    """One address, block or range. ``kind`` tells its family, and whether it is all of that family."""

    addresses: Addresses | None  # None: any, or all of the family
    kind: int
    text: str  # canonical, as in a key


class Ports(NamedTuple):
    """One port or range. ``kind`` 0: it is of the template, where a list may ask for ports, or nothing."""

    intervals: Intervals | None
    kind: int
    text: str


ANY, ANY_PORT = Single(None, 0, "*"), Ports(None, 0, "*")
"""Of a rule without the key."""

Shape = tuple[object, ...]
"""The text of every other key but name and comment."""

Own = tuple[str | None, str | None, str | None, str | None]
"""The texts of src, dst, sport and dport: "" for an absent key, and for ports that are of the shape, because
they are a list or a set; None for what has no template."""


class Template(NamedTuple):
    """Everything of a rule but its name, its addresses and its plain ports."""

    action: Action
    redirect: Redirect | None
    before: tuple[bool, bool, bool, Protocols | None]  # the fields of Match before src
    ports: tuple[Ports, Ports]  # lists
    behind: tuple[Intervals | frozenset[int] | None, ...]  # the fields behind dport
    frame: Frame


class Fit(NamedTuple):
    """A template, and what to put into it."""

    template: Template
    src: Single
    dst: Single
    sport: Ports
    dport: Ports

    def match(self) -> Match:
        template, src, dst, sport, dport = self
        ports = sport.intervals, dport.intervals
        return Match(*template.before, src.addresses, dst.addresses, *ports, *template.behind)  # type: ignore[arg-type]

    def texts(self) -> Texts:
        return Texts(self.src.text, self.dst.text, self.sport.text, self.dport.text)


class Templates:
    """Of one rule file and the files that it names."""

    def __init__(self) -> None:
        self._singles: dict[str | None, Single | None] = {"": ANY, None: None}
        self._ports: dict[str | None, Ports | None] = {"": ANY_PORT, None: None}
        self._known: dict[tuple[Shape, int], Template] = {}

    def find(self, shape: Shape | None, own: Own) -> Fit | None:
        """None: it takes the usual readers."""
        singled = self._singled(own)
        if shape is None or singled is None:
            return None
        src, dst, sport, dport, kinds = singled
        template = self._known.get((shape, kinds))
        if template is None:
            return None
        lists = template.ports
        return Fit(template, src, dst, sport if sport.kind else lists[0], dport if dport.kind else lists[1])

    def learn(
        self,
        shape: Shape | None,
        own: Own,
        match: Match,
        action: tuple[Action, Redirect | None],
        frame: Frame,
        texts: Texts,
    ) -> None:
        """Keep what the usual readers made of a rule of this shape, without a remark."""
        singled = self._singled(own)
        if shape is None or singled is None:
            return
        src, dst, *given, kinds = singled
        lists = Ports(match.sport, 0, texts.sport), Ports(match.dport, 0, texts.dport)
        changed = [
            one.intervals != made.intervals for one, made in zip(given, lists, strict=True) if one.kind
        ]
        if not any(changed) and (match.src, match.dst) == (src.addresses, dst.addresses):
            before = (match.arp, match.ipv4, match.ipv6, match.protocols)
            behind = (match.tcp_flags, match.icmp_type, match.icmp_code, match.vlan)
            self._known[shape, kinds] = Template(*action, before, lists, behind, frame)

    def copy(self, shape: Shape | None, to: Shape, own: Own) -> None:
        """Know the template of one shape under another name too."""
        fit, singled = self.find(shape, own), self._singled(own)
        if fit is not None and singled is not None:
            self._known[to, singled[-1]] = fit.template

    def _singled(self, own: Own) -> tuple[Single, Single, Ports, Ports, int] | None:
        """What the texts are, and their kinds together."""
        singles, ports = self._singles, self._ports
        try:
            src, dst, sport, dport = singles[own[0]], singles[own[1]], ports[own[2]], ports[own[3]]
        except KeyError:
            src, dst = self._single(own[0]), self._single(own[1])
            sport, dport = self._port(own[2]), self._port(own[3])
        if src is None or dst is None or sport is None or dport is None:
            return None
        return src, dst, sport, dport, src.kind | dst.kind << 4 | sport.kind << 8 | dport.kind << 9

    def _single(self, text: str | None) -> Single | None:
        if text not in self._singles:
            self._singles[text] = _single(text or "")
        return self._singles[text]

    def _port(self, text: str | None) -> Ports | None:
        if text not in self._ports:
            self._ports[text] = _port(text or "")
        return self._ports[text]


def _port(text: str) -> Ports | None:
    try:
        low, high = number_range(text, "port", 65535)
    except Refused:
        return None
    return Ports(((low, high),), _PORTS, f"{low:x}-{high:x}")


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
