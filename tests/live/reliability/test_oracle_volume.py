"""The shipped XDP and TC programs against the oracle: a million pairs of a rule set and a frame.

What is compared is said in test_verdicts_support.py: verdict, decider, protocol, bytes and every counter.
Draws depend on SEED only, which a failure names; XDPGUARD_TEST_SEED sets another one. How many pairs ran is
printed at the end of the run. Frames go in by BPF_PROG_TEST_RUN; real traffic is the matter of
test_traffic_*.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab
import pytest
from drawn import Row, every_damage, part_of_damage, part_of_row, together, workers
from reached import Figures
from test_verdicts_support import HOOKS, Met

from xdpguard.abi import reasons
from xdpguard.rules.model import Action
from xdpguard.stats.model import PROTOCOLS

ROWS = (
    Row("1 rule", 1, False, 60, 210, 4),
    Row("3 rules", 3, False, 60, 210, 4),
    Row("10 rules", 10, False, 60, 210, 4),
    Row("40 rules", 40, False, 20, 400, 4),
    Row("200 rules", 200, False, 8, 400, 4),
    Row("rule files", 12, True, 60, 210, 4),
)
L3_ROWS = tuple(row._replace(sets=row.sets // 4) for row in ROWS)
SOAK = 10
"""How many times as many rule sets a soak run draws."""


HELD = "pairs of a rule set and a frame held against the oracle"


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """The device map holds devices of one namespace: not the caller's."""
    made = lab.Lab("oracle volume")
    yield made.namespace("t")
    made.close()


@pytest.fixture(scope="module")
def pool() -> Iterator[tuple[ProcessPoolExecutor, int]]:
    with workers() as made:
        yield made


Pool = tuple[ProcessPoolExecutor, int]


def compared(pool: Pool, namespace: str, row: Row, l3: bool, figures: Figures) -> Met:
    processes, parts = pool
    running = [processes.submit(part_of_row, namespace, row, l3, part, parts) for part in range(parts)]
    met = together(each.result() for each in running)
    figures.add(HELD, met.pairs)
    assert met.pairs == row.pairs
    assert met.deciders >= {"default"}
    return met


def meets_everything(met: Met) -> None:
    assert met.protocols == set(PROTOCOLS)
    assert met.actions == set(Action)
    # malformed_unreadable: no frame of a test run is long enough; see test_traffic_jumbo.py
    assert met.deciders >= set(reasons()) - {"none", "malformed_unreadable", "malformed_ethernet"}


@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_programs_agree_with_the_oracle_about_drawn_pairs(
    pool: Pool, namespace: str, row: Row, figures: Figures
) -> None:
    met = compared(pool, namespace, row, False, figures)
    if row.rules in (3, 10):
        meets_everything(met)


@pytest.mark.parametrize("row", L3_ROWS, ids=[row.name for row in L3_ROWS])
def test_the_programs_of_an_l3_device_agree_with_the_oracle_about_drawn_pairs(
    pool: Pool, namespace: str, row: Row, figures: Figures
) -> None:
    compared(pool, namespace, row, True, figures)


def test_the_programs_agree_with_the_oracle_about_every_cut_and_flipped_bit_of_the_corpus(
    pool: Pool, namespace: str, figures: Figures
) -> None:
    processes, parts = pool
    running = [processes.submit(part_of_damage, namespace, part, parts) for part in range(parts)]
    met = together(each.result() for each in running)
    figures.add(HELD, met.pairs)
    assert met.pairs == len(HOOKS) * damage()
    assert met.deciders >= {"default", "essential", "ssh", "ssh-out"}


def damage() -> int:
    return sum(1 for _ in every_damage())


def test_all_of_these_together_are_a_million_pairs() -> None:
    assert sum(row.pairs for row in (*ROWS, *L3_ROWS)) + len(HOOKS) * damage() >= 1_000_000


@pytest.mark.soak
@pytest.mark.parametrize("row", ROWS, ids=[row.name for row in ROWS])
def test_the_programs_agree_with_the_oracle_about_ten_times_as_many_pairs(
    pool: Pool, namespace: str, row: Row, figures: Figures
) -> None:
    """Other rule sets than those of the test above: the name is a part of the seed."""
    compared(pool, namespace, row._replace(name=f"soak, {row.name}", sets=row.sets * SOAK), False, figures)
