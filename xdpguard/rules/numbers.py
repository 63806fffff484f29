"""Numbers, ranges of numbers and names of numbers as a rule file writes them.

Decimal only: a leading zero, 0x, _ and : are refused, because YAML readers disagree about what they mean
(YAML 1.1 reads 010 as 8 and 22:53 as 1373). Must never know the tree or the report.
"""

from __future__ import annotations

from collections.abc import Mapping

from .model import Interval
from .text import Refused, show, suggest

_LONGEST = (
    10  # digits; longer ones are out of range for every field, and int() of thousands of digits is slow
)


def is_digits(text: str) -> bool:
    """True for one or more of the ASCII digits and nothing else."""
    return text.isascii() and text.isdigit()


def number(text: str, what: str, high: int) -> int:
    """One decimal number from 0 to ``high``. Raises Refused; ``what`` opens the message."""
    if not is_digits(text):
        raise Refused(f"{what} {show(text)} is not a number from 0 to {high}{_hint(text)}")
    if text[0] == "0" and len(text) > 1:
        raise Refused(f"{what} {show(text)} has a leading zero; write the decimal number without it")
    value = int(text) if len(text) <= _LONGEST else high + 1
    if value > high:
        raise Refused(f"{what} {show(text)} is out of range; allowed: 0-{high}")
    return value


def _hint(text: str) -> str:
    if ":" in text:
        return "; a range is written with '-', a list as [a, b]"
    if "," in text:
        return "; a list is written as [a, b]"
    return "; spaces are not allowed" if has_space(text) else ""


def has_space(text: str) -> bool:
    return any(map(str.isspace, text))


def number_range(text: str, what: str, high: int) -> Interval:
    """A number or a range "a-b", both ends included. Raises Refused."""
    first, dash, last = text.partition("-")
    if not dash or not first or not last:
        value = number(text, what, high)
        return value, value
    try:
        low, top = number(first, what, high), number(last, what, high)
    except Refused:
        if has_space(text):
            raise Refused(f"{what} range {show(text)} has spaces; write it without, as in 20-30") from None
        raise
    if low > top:
        raise Refused(f"{what} range {show(text)} runs backwards; write {top}-{low}")
    return low, top


def named(text: str, what: str, high: int, names: Mapping[str, int]) -> Interval:
    """A name, a number or a range of numbers. Raises Refused."""
    value = names.get(text)
    if value is not None:
        return value, value
    if text[:1].isdigit():
        return number_range(text, what, high)
    if not names:
        raise Refused(f"{what} {show(text)} is not a number from 0 to {high}{_hint(text)}")
    raise Refused(
        f"{what} {show(text)} is neither a known name nor a number from 0 to {high}; {suggest(text, names)}"
    )
