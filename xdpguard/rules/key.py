"""The key of a rule: its name and a hash of its meaning, the identity of its counters across reloads.

Owns the canonical form. Changing it resets users' counters at the next load, so it may change with
XG_ABI_VERSION only. A long list of intervals, which ten thousand rules may share, stands in it as its own
hash: else each of these rules would hash all of it.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from .model import Action, Addresses, Intervals, Match, Protocols, Redirect

_DIGEST_SIZE = 16
_LONG = 1024
"""Longest text of a list of intervals, in characters, that stands in the canonical form itself."""
_MANY = 16
"""The text of a list with fewer intervals is made again rather than remembered."""


class Frame(NamedTuple):
    """The canonical text of a rule before its addresses and behind its ports."""

    head: str
    tail: str


class Texts(NamedTuple):
    """The canonical text of what is between: addresses and ports."""

    src: str
    dst: str
    sport: str
    dport: str


def digest(hook: str, name: str, texts: Texts, frame: Frame) -> str:
    """The key."""
    return _hash(f"{hook}|{name}|{frame.head}{';'.join(texts)}{frame.tail}")


class Keys:
    """Makes rule keys; remembers the text of big values, which many rules share."""

    def __init__(self) -> None:
        self._texts: dict[int, tuple[Intervals, str]] = {}
        self._numbers: dict[frozenset[int], str] = {}

    def make(self, hook: str, name: str, match: Match, action: Action, redirect: Redirect | None) -> str:
        """32 hex digits. Rules of equal meaning have equal keys, whatever file they are in."""
        return digest(hook, name, self.texts(match), self.frame(match, action, redirect))

    def texts(self, match: Match) -> Texts:
        addresses = self._addresses(match.src), self._addresses(match.dst)
        return Texts(*addresses, self._intervals(match.sport), self._intervals(match.dport))

    def frame(self, match: Match, action: Action, redirect: Redirect | None) -> Frame:
        """The text of all but hook, name, addresses and ports."""
        families = f"{int(match.arp)}{int(match.ipv4)}{int(match.ipv6)}"
        fields = (
            self._bytes(match.tcp_flags),
            self._intervals(match.icmp_type),
            self._intervals(match.icmp_code),
            self._intervals(match.vlan),
        )
        mac = redirect.dst_mac.hex() if redirect is not None and redirect.dst_mac is not None else "-"
        target = "-" if redirect is None else f"{redirect.interface}/{mac}"
        return Frame(
            f"{families};{self._protocols(match.protocols)};", f";{';'.join(fields)}|{int(action)}|{target}"
        )

    def _addresses(self, addresses: Addresses | None) -> str:
        if addresses is None:
            return "*"
        return f"{self._intervals(addresses.v4)}/{self._intervals(addresses.v6)}"

    def _intervals(self, parts: Intervals | None) -> str:
        if parts is None:
            return "*"
        if len(parts) < 2:
            return f"{parts[0][0]:x}-{parts[0][1]:x}" if parts else ""
        if len(parts) < _MANY:
            return _text(parts)
        known = self._texts.get(id(parts))
        if known is None or known[0] is not parts:
            known = self._texts[id(parts)] = (parts, _text(parts))
        return known[1]

    def _protocols(self, protocols: Protocols | None) -> str:
        return "*" if protocols is None else f"{self._bytes(protocols.v4)}/{self._bytes(protocols.v6)}"

    def _bytes(self, numbers: frozenset[int] | None) -> str:
        if numbers is None:
            return "*"
        text = self._numbers.get(numbers)
        if text is None:
            text = self._numbers[numbers] = ",".join(map(str, sorted(numbers)))
        return text


def _text(parts: Intervals) -> str:
    text = ",".join(f"{low:x}-{high:x}" for low, high in parts)
    return text if len(text) <= _LONG else f"#{_hash(text)}"


def _hash(text: str) -> str:
    return hashlib.blake2s(text.encode(), digest_size=_DIGEST_SIZE).hexdigest()
