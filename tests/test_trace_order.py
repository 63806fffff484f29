"""The order of events from several CPUs: a window, a clock that is the caller's, and nothing lost."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from xdpguard.trace.order import Order


def test_events_of_two_cpus_leave_in_the_order_of_their_time() -> None:
    order: Order[str] = Order(window=10)
    for time, name in ((5, "b"), (3, "a"), (7, "c")):
        order.add(time, name)
    assert order.flush(17) == ["a", "b", "c"]
    assert order.late == 0


def test_what_is_younger_than_the_window_waits() -> None:
    order: Order[str] = Order(window=10)
    order.add(5, "old")
    order.add(6, "young")
    assert order.flush(15) == ["old"]
    assert order.flush(15) == []
    assert order.flush(16) == ["young"]


def test_a_late_event_leaves_and_is_counted() -> None:
    order: Order[str] = Order(window=10)
    order.add(50, "first")
    assert order.flush(60) == ["first"]
    order.add(49, "late")
    assert order.flush(60) == ["late"]
    assert order.late == 1


def test_after_a_late_event_the_next_one_is_measured_by_the_youngest_that_left() -> None:
    order: Order[str] = Order(window=10)
    order.add(50, "first")
    order.flush(60)
    order.add(40, "late")
    order.flush(60)
    order.add(45, "late too")
    order.flush(60)
    assert order.late == 2


def test_equal_times_leave_as_they_came() -> None:
    order: Order[str] = Order(window=10)
    for name in ("fork", "exec", "connect"):
        order.add(5, name)
    assert order.flush(99) == ["fork", "exec", "connect"]


def test_the_end_gives_what_claims_to_come_from_the_future() -> None:
    order: Order[str] = Order(window=10)
    order.add(1 << 63, "future")
    assert order.flush(100) == []
    assert order.drain() == ["future"]


STEPS = st.lists(st.tuples(st.lists(st.integers(0, 500), max_size=8), st.integers(0, 600)), max_size=12)


@given(STEPS)
def test_nothing_is_lost_and_every_batch_is_sorted(steps: list[tuple[list[int], int]]) -> None:
    order: Order[tuple[int, int]] = Order(window=100)
    given_, left, number = [], [], 0
    for times, now in steps:
        for time in times:
            number += 1
            given_.append((time, number))
            order.add(time, (time, number))
        batch = order.flush(now)
        assert batch == sorted(batch)
        assert all(time <= now - 100 for time, _ in batch)
        left += batch
        assert len(order) == len(given_) - len(left)
    left += order.drain()
    assert sorted(left) == sorted(given_)
    disorder = sum(one[0] < max(time for time, _ in left[:index]) for index, one in enumerate(left) if index)
    assert disorder <= order.late
