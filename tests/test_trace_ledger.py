"""The ledger: the kernel's books and user space's always add up, and say where events went."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xdpguard.trace.decode import KINDS, TASKS
from xdpguard.trace.ledger import Tally, adds_up, balance
from xdpguard.trace.model import KindLedger

CLOSE = next(number for number, kind in KINDS.items() if kind == "close")
NUMBERS = st.integers(0, 1000)


def test_a_lost_event_is_reported_by_its_cause() -> None:
    ledger = balance({CLOSE: (10, 5, 2, 3, 0, 1)}, {"close": Tally(5, 4, 1, 0, 1)}, final=True)
    assert ledger.kinds["close"] == KindLedger(10, 4, 3, 1, {"ring": 3})
    assert ledger.total == ledger.kinds["close"]


def test_what_is_left_in_the_ring_is_not_seen_yet_and_lost_in_the_end() -> None:
    kernel, user = {CLOSE: (10, 10, 0, 0, 0, 0)}, {"close": Tally(received=8, emitted=6)}
    assert balance(kernel, user).kinds["close"] == KindLedger(6, 6)
    assert balance(kernel, user, final=True).kinds["close"] == KindLedger(10, 6, lost={"unread": 4})


def test_bytes_that_were_no_event_are_lost_as_such() -> None:
    ledger = balance({CLOSE: (3, 3, 0, 0, 0, 0)}, {"close": Tally(3, 2, 0, 1)}, final=True)
    assert ledger.kinds["close"].lost == {"malformed": 1}


def test_what_is_missing_in_the_kernel_s_own_sum_is_told() -> None:
    ledger = balance({CLOSE: (10, 2, 1, 0, 0, 0)}, {"close": Tally(2, 2)}, final=True)
    assert ledger.kinds["close"] == KindLedger(10, 2, 1, lost={"unaccounted": 7})


def test_events_that_came_after_the_kernel_s_books_were_read_are_seen_too() -> None:
    ledger = balance({CLOSE: (1, 1, 0, 0, 0, 0)}, {"close": Tally(5, 5)}, final=True)
    assert ledger.kinds["close"] == KindLedger(5, 5)


def test_forks_are_booked_beside_the_events() -> None:
    fork = next(number for number, kind in TASKS.items() if kind == "fork")
    ledger = balance({fork: (4, 3, 0, 1, 0, 0)}, {"fork": Tally(3, 3)}, final=True)
    assert ledger.tasks["fork"].lost == {"ring": 1}
    assert ledger.total.seen == 0


TALLIES = st.builds(
    lambda emitted, filtered, malformed, waiting, unknown: Tally(
        emitted + filtered + malformed + waiting, emitted, filtered, malformed, min(unknown, emitted)
    ),
    *[NUMBERS] * 5,
)
BOOKS = st.dictionaries(st.sampled_from([*KINDS, *TASKS]), st.tuples(*[NUMBERS] * 6))
USER = st.dictionaries(st.sampled_from([*KINDS.values(), *TASKS.values()]), TALLIES)


@given(BOOKS, USER, st.booleans())
def test_it_adds_up_whatever_both_sides_say(
    kernel: dict[int, tuple[int, ...]], user: dict[str, Tally], final: bool
) -> None:
    ledger = balance(kernel, user, final)
    for one in (*ledger.kinds.values(), *ledger.tasks.values(), ledger.total):
        assert adds_up(one)
        assert min(one.seen, one.emitted, one.filtered, one.unknown, *one.lost.values()) >= 0
    assert ledger.total.seen == sum(one.seen for one in ledger.kinds.values())


@given(BOOKS, USER)
def test_in_the_end_nothing_that_either_side_has_seen_is_missing(
    kernel: dict[int, tuple[int, ...]], user: dict[str, Tally]
) -> None:
    ledger = balance(kernel, user, final=True)
    for number, kind in {**KINDS, **TASKS}.items():
        one = {**ledger.kinds, **ledger.tasks}[kind]
        assert one.seen >= kernel.get(number, (0,))[0]
        assert one.seen >= user.get(kind, Tally()).received
