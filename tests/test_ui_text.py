"""Names, numbers and times as text."""

from __future__ import annotations

import pytest

from xdpguard.ui.text import exact, place, printable, scaled, short, shorten, size, utc


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("eth0", "eth0"),
        ("büro 1", "büro 1"),
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("line\nbreak\t", r"line\nbreak\t"),
        ("\x7f\x9b", r"\x7f\x9b"),
        ("left\u202eright", r"left\u202eright"),
        ("\u2028", r"\u2028"),
        ("\udcff", r"\udcff"),  # a byte of a file name that is not UTF-8
    ],
)
def test_printable_leaves_no_character_that_a_terminal_obeys(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0"),
        (0.5, "0.50"),
        (24, "24.0"),
        (99.96, "100"),
        (999, "999"),
        (999.6, "1.00 k"),
        (1964, "1.96 k"),
        (12_345_678, "12.3 M"),
        (2**64, "18.4 E"),
    ],
)
def test_scaled_numbers_have_three_digits(number: float, shown: str) -> None:
    assert scaled(number) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0 B"), (999, "999 B"), (1000, "1.00 kB"), (10**9, "1.00 GB")]
)
def test_a_size_says_bytes(count: int, shown: str) -> None:
    assert size(count) == shown


def test_short_is_exact_until_it_would_take_ten_columns() -> None:
    assert (short(9_999_999), short(10_000_000)) == ("9,999,999", "10.0 M")
    assert exact(10_000_000) == "10,000,000"


def test_shorten_keeps_both_ends() -> None:
    assert shorten("abcdefghij", 10) == "abcdefghij"
    assert shorten("abcdefghijk", 10) == "abcd...ijk"


def test_times_are_utc() -> None:
    assert utc(1_700_000_000.25) == "2023-11-14T22:13:20Z"
    assert utc(1_700_000_000.25, "milliseconds") == "2023-11-14T22:13:20.250Z"


def test_a_place_names_the_namespace_only_if_it_is_another() -> None:
    assert place("eth0", None) == "eth0"
    assert place("e\x1b", "b\x1b") == r"e\x1b (netns b\x1b)"
