"""The letters of ``trace``: each class of combination, in any order."""

from __future__ import annotations

from itertools import chain, combinations

import pytest

from xdpguard.errors import UsageError
from xdpguard.trace.letters import LETTERS, kinds

CASES = {
    "": "",
    "t": "accept connect connect-failed",
    "u": "udp-recv udp-send",
    "tu": "accept connect connect-failed udp-recv udp-send",
    "i": "accept udp-recv",
    "o": "connect connect-failed udp-send",
    "io": "accept connect connect-failed udp-recv udp-send",
    "ti": "accept",
    "to": "connect connect-failed",
    "ui": "udp-recv",
    "uo": "udp-send",
    "tio": "accept connect connect-failed",
    "uio": "udp-recv udp-send",
    "tui": "accept udp-recv",
    "tuo": "connect connect-failed udp-send",
    "tuio": "accept connect connect-failed udp-recv udp-send",
}
ADDED = {"": "", "r": "retransmit", "c": "close", "rc": "retransmit close"}


@pytest.mark.parametrize("more", ADDED)
@pytest.mark.parametrize("letters", CASES)
def test_protocols_and_directions_intersect_and_r_and_c_add(letters: str, more: str) -> None:
    assert kinds(letters + more) == {*CASES[letters].split(), *ADDED[more].split()}


def test_the_cases_are_all_combinations() -> None:
    every = chain.from_iterable(combinations(LETTERS, count) for count in range(len(LETTERS) + 1))
    assert {frozenset(one) for one in every} == {frozenset(a + b) for a in CASES for b in ADDED}


def test_order_and_repetition_do_not_matter() -> None:
    assert kinds("oit") == kinds("tio") == kinds("ttioo")


def test_another_letter_is_refused_by_name() -> None:
    with pytest.raises(UsageError, match="'x', one of t, u, i, o, r, c expected"):
        kinds("tx")
