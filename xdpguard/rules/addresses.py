"""One address, CIDR block or address range to an interval of integers.

Owns the text forms of addresses. inet_pton is used and not the ipaddress module: it is ten times faster, and
a set may hold a million entries. Must never know sets, the tree or the report.
"""

from __future__ import annotations

import socket
import sys
from array import array
from collections.abc import Iterable
from functools import partial
from itertools import repeat
from operator import and_, or_
from typing import NamedTuple

from .intervals import from_values
from .model import Interval, Intervals
from .numbers import has_space, is_digits
from .text import Refused, show

BITS = {4: 32, 6: 128}
WHOLE: dict[int, Interval] = {4: (0, 2**32 - 1), 6: (0, 2**128 - 1)}
"""Every address of an IP version, as one interval."""
_HOST_BITS = {
    version: {str(length): (1 << bits - length) - 1 for length in range(bits + 1)}
    for version, bits in BITS.items()
}
"""Masks by the text of a prefix length."""
_STRETCH = 256  # lines
_pack4 = partial(socket.inet_pton, socket.AF_INET)
_FAMILY = {4: socket.AF_INET, 6: socket.AF_INET6}


class Block(NamedTuple):
    """One entry: addresses ``first`` to ``last`` of IP version 4 or 6, and what to tell the user about it."""

    version: int
    first: int
    last: int
    note: str = ""


def parse_block(text: str) -> Block:
    """An IPv4 or IPv6 address (RFC 4291 text form), CIDR block or range "a-b". Raises Refused."""
    version = 6 if ":" in text else 4
    if "/" in text:
        return _cidr(text, version)
    try:
        value = int.from_bytes(socket.inet_pton(_FAMILY[version], text), "big")
        return Block(version, value, value)
    except (OSError, ValueError):  # ValueError: a NUL character from an escape
        pass
    if "-" in text:
        return _range(text)
    raise Refused(_why_not(text))


Value = tuple[int, int, int]
"""IP version, first and last address."""


def plain_values(texts: list[str]) -> list[Value | None]:
    """What ``parse_block`` says of each; None: it refuses it, or has something to tell.

    A stretch of IPv4 addresses and blocks is read in one go, if there is nothing to say of any.
    """
    found: list[Value | None] = []
    for start in range(0, len(texts), _STRETCH):
        stretch = texts[start : start + _STRETCH]
        try:
            found += _plain4(stretch)
        except (OSError, ValueError, KeyError):
            found += map(plain_value, stretch)
    return found


def plain_value(text: str) -> Value | None:
    """Of one."""
    try:
        version, first, last, note = parse_block(text)
    except Refused:
        return None
    return None if note else (version, first, last)


def _plain4(texts: list[str]) -> Iterable[Value]:
    """Raises OSError, ValueError or KeyError if one of them is no IPv4 address or block, or has host bits."""
    hosts, slashes, lengths = zip(*map(str.partition, texts, repeat("/")), strict=True)
    masks = [_HOST_BITS[4][length if slash else "32"] for slash, length in zip(slashes, lengths, strict=True)]
    first = _values4(map(_pack4, hosts))
    if any(map(and_, first, masks)):
        raise ValueError
    return zip(repeat(4), first, map(or_, first, masks), strict=False)


def _values4(packed: Iterable[bytes]) -> array[int]:
    values = array("I", b"".join(packed))
    if sys.byteorder == "little":
        values.byteswap()
    return values


def plain_addresses(lines: list[str]) -> tuple[Intervals, list[tuple[int, str]]]:
    """Lines that are nothing but an IPv4 address, as intervals, and the others with their numbers from 1.

    A line at a time costs microseconds, and a block list has a million; so those of a stretch are read in one
    go where all are plain.
    """
    packed: list[bytes] = []
    rest: list[tuple[int, str]] = []
    for start in range(0, len(lines), _STRETCH):
        stretch = lines[start : start + _STRETCH]
        try:
            packed.append(b"".join(map(_pack4, stretch)))
        except (OSError, ValueError):
            rest += enumerate(stretch, start + 1)
    return from_values(_values4(packed)), rest


def _host(text: str, version: int) -> int:
    try:
        return int.from_bytes(socket.inet_pton(_FAMILY[version], text), "big")
    except (OSError, ValueError):
        raise Refused(_why_not(text)) from None


def _cidr(text: str, version: int) -> Block:
    host, _, length = text.partition("/")
    value = _host(host, version)
    mask = _HOST_BITS[version].get(length)
    if mask is None:
        words = f"is not a number from 0 to {BITS[version]}"
        raise Refused(f"prefix length {show(length)} in {show(text)} {words}")
    first = value & ~mask
    note = ""
    if first != value:
        note = f"{text} has host bits, read as {to_text(version, first)}/{length}"
    return Block(version, first, first | mask, note)


def _range(text: str) -> Block:
    low, _, high = text.partition("-")
    version = 6 if ":" in low else 4
    if (6 if ":" in high else 4) != version and high:
        raise Refused(f"range {show(text)} mixes IPv4 and IPv6; both ends must be of one family")
    first, last = _host(low, version), _host(high, version)
    if first > last:
        raise Refused(f"range {show(text)} runs backwards; the lower address comes first")
    return Block(version, first, last)


def to_text(version: int, value: int) -> str:
    """The usual text form of an address."""
    return socket.inet_ntop(_FAMILY[version], value.to_bytes(BITS[version] // 8, "big"))


def _why_not(text: str) -> str:
    """Why ``text`` is no address, for the mistakes that are easy to make."""
    if "%" in text:
        return f"{show(text)} has a scope id (%...); a packet carries none, remove it"
    parts = text.split(".")
    if len(parts) == 4 and all(is_digits(part) for part in parts):
        if any(len(part) > 1 and part[0] == "0" for part in parts):
            return f"address {show(text)} has a leading zero; write each part in decimal without it"
        return f"address {show(text)} has a part over 255"
    hint = "; spaces are not allowed" if has_space(text) else ""
    return f"{show(text)} is not an IPv4 or IPv6 address, CIDR block or range a-b{hint}"
