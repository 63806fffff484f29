"""How a single name, number or time looks in text. Pure: never prints, never knows a format's layout."""

from __future__ import annotations

from datetime import UTC, datetime

EXACT_BELOW = 10_000_000
"""Where packet counts become scaled when a rate stands beside them: a table stays under 100 columns."""

_PREFIXES = ("", "k", "M", "G", "T", "P", "E")


def printable(text: str) -> str:
    """``text`` on one line, with every control, format and undecodable character as a backslash escape.

    Interface names and file names may hold any of them, and a terminal would obey.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def shorten(text: str, width: int) -> str:
    """``text`` in at most ``width`` columns; the middle goes, because names differ at their ends."""
    if len(text) <= width:
        return text
    tail = (width - 3) // 2
    return text[: width - 3 - tail] + "..." + text[len(text) - tail :]


def exact(number: int) -> str:
    """``1,234,567``."""
    return f"{number:,}"


def scaled(number: float) -> str:
    """Three digits and a decimal prefix: ``0``, ``1.50``, ``24.0``, ``1.23 G``; 6 columns below 10^21."""
    if number == 0:
        return "0"
    for prefix in _PREFIXES:
        if number < 999.5 or prefix == _PREFIXES[-1]:
            break
        number /= 1000
    digits = 2 if number < 9.995 else 1 if number < 99.95 else 0
    return f"{number:.{digits}f} {prefix}".rstrip()


def size(count: int) -> str:
    """Bytes with a decimal prefix: ``24 B``, ``1.46 MB``. At most 7 columns below 10^21."""
    if count < 1000:
        return f"{count} B"
    return f"{scaled(count)}B"


def short(number: int) -> str:
    """``exact`` up to 9 columns, ``scaled`` from there."""
    return exact(number) if number < EXACT_BELOW else scaled(number)


def utc(seconds: float, precision: str = "seconds") -> str:
    """Seconds since the epoch as RFC 3339 in UTC; ``precision`` is "seconds" or "milliseconds"."""
    stamp = datetime.fromtimestamp(seconds, UTC).isoformat(timespec=precision)
    return stamp.removesuffix("+00:00") + "Z"


def place(interface: str, netns: str | None) -> str:
    """``eth0``, or ``eth0 (netns blue)``."""
    name = printable(interface)
    return name if netns is None else f"{name} (netns {printable(netns)})"


def nothing(netns: str | None) -> str:
    """That no interface (of that namespace) has xdpguard."""
    where = "" if netns is None else f" of the network namespace {printable(netns)}"
    return f"xdpguard is not loaded on any interface{where}"
