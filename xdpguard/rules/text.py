"""Plain text helpers of the rule language: safe decoding, safe quoting, did-you-mean.

Owns what text may enter (UTF-8 without control characters) and how a user's value is shown in a message.
Must never know a key of the language.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from itertools import islice

SHOWN_LENGTH = 60
"""Longest piece of a user's value that a message repeats, in characters."""
COMPARED, SHOWN_WORDS = 200, 50
"""Known words that an unknown one is compared with (20 us each), and those that a message lists."""

# C0 and C1 controls but tab and line ends, a lone CR, the Unicode line separators (YAML 1.1 counts them as
# line ends, editors do not), byte order marks inside the text, and the bidirectional overrides that make a
# line read differently from what it says.
_UNSAFE = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]|\r(?!\n)"
)

_PLAIN = bytes(range(0x20, 0x7F)) + b"\t\n"
"""Where these are all there is, nothing is unsafe, which is told 20 times faster."""


class Refused(ValueError):
    """A value is not allowed. The message has no place; the caller knows it."""


class BadText(Exception):
    """The bytes are not clean text. ``line`` and ``column`` count from 1."""

    def __init__(self, line: int, column: int, message: str) -> None:
        super().__init__(message)
        self.line = line
        self.column = column


def decode(data: bytes) -> str:
    """UTF-8 bytes to text without its byte order mark. Raises BadText for the first unclean one."""
    if not data.translate(None, _PLAIN):
        return data.decode("ascii")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = _place(data[: error.start].decode("utf-8"))
        hint = "; it looks like UTF-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else ""
        raise BadText(line, column, f"byte 0x{data[error.start]:02x} is not UTF-8 text{hint}") from None
    text = text.removeprefix("\ufeff")
    found = _UNSAFE.search(text)
    if found:
        line, column = _place(text[: found.start()])
        raise BadText(
            line, column, f"control character U+{ord(found.group()):04X} is not allowed in the file"
        )
    return text


def _place(before: str) -> tuple[int, int]:
    return before.count("\n") + 1, len(before) - (before.rfind("\n") + 1) + 1


def has_control(text: str) -> bool:
    """True if ``text`` holds a character that could spoil a terminal or a log line."""
    return "\t" in text or "\n" in text or "\r" in text or _UNSAFE.search(text) is not None


def show(text: str) -> str:
    """``text`` in single quotes, made safe to print on one line, cut at SHOWN_LENGTH."""
    cut = text if len(text) <= SHOWN_LENGTH else text[:SHOWN_LENGTH] + "..."
    if cut.isprintable():
        return f"'{cut}'"
    return "'" + "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut) + "'"


def allowed(words: Iterable[str]) -> str:
    """The tail of a message: which words are allowed."""
    return "allowed: " + ", ".join(words)


def suggest(word: str, words: Iterable[str]) -> str:
    """The tail of a message about an unknown word: the nearest of the first COMPARED known ones, or else the
    known ones, SHOWN_WORDS at most."""
    among = iter(words)
    known = list(islice(among, COMPARED))
    near = difflib.get_close_matches(word[:SHOWN_LENGTH].lower(), known, n=1, cutoff=0.6)
    if near:
        return f"did you mean '{near[0]}'?"
    more = len(known) - SHOWN_WORDS + sum(1 for _ in among)
    return allowed(known[:SHOWN_WORDS]) + (f", and {more} more" if more > 0 else "")
