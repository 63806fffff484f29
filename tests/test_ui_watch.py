"""stats --watch: pictures, blocks, and how it ends. Nothing here sleeps: waiting is a recorded call."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator

import pytest
from test_ui_samples import later, snapshot

from xdpguard.stats.model import Snapshot
from xdpguard.ui import watch
from xdpguard.ui.stats import FORMATS, render


class Waits:
    """A ``wait`` that records its calls and ends the watch with Ctrl-C at call number ``end``."""

    def __init__(self, end: int = 0) -> None:
        self.seconds: list[float] = []
        self.end = end

    def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) == self.end:
            raise KeyboardInterrupt


def three() -> Iterator[Snapshot]:
    """Snapshots 2 s apart; 6 packets are dropped in between each time."""
    first = snapshot()
    yield first
    yield later(first, 2.0, drop=6, tcp=6, telnet=6)
    yield later(first, 4.0, drop=12, tcp=12, telnet=12)


def piped(format: str, by: str | None = None) -> list[str]:
    blocks: list[str] = []
    watch.in_pipe(three(), 2.0, Waits(), blocks.append, by, format)
    return blocks


def on_terminal(
    snapshots: Iterator[Snapshot], wait: Callable[[float], None], height: int = 100, by: str | None = "action"
) -> list[str]:
    output: list[str] = []
    watch.on_terminal(snapshots, 2.0, wait, output.append, by, "table", lambda: height)
    return output


# ---- in a pipe


@pytest.mark.parametrize("format", FORMATS)
def test_a_pipe_gets_one_block_per_snapshot_without_escapes(format: str) -> None:
    blocks = piped(format)
    assert len(blocks) == 3
    assert "\x1b" not in "".join(blocks)
    assert all(block.endswith("\n") for block in blocks)


def test_a_pipe_gets_json_lines() -> None:
    lines = "".join(piped("json")).splitlines()
    drops = [json.loads(line)["interfaces"][0]["ingress"]["actions"]["drop"] for line in lines]
    assert [drop["packets"] for drop in drops] == [24, 30, 36]
    assert [drop["packets_per_second"] for drop in drops] == [None, 3.0, 3.0]


def test_a_pipe_gets_one_csv_header() -> None:
    rows = list(csv.DictReader(io.StringIO("".join(piped("csv", "action")))))
    drops = [row for row in rows if (row["hook"], row["name"]) == ("ingress", "drop")]
    assert [(row["packets"], row["packets_per_second"]) for row in drops] == [
        ("24", ""), ("30", "3.000"), ("36", "3.000"),
    ]  # fmt: skip


@pytest.mark.parametrize("format", ["table", "plain"])
def test_blocks_for_people_carry_their_time_and_stand_apart(format: str) -> None:
    first, second, _ = piped(format)
    assert first.startswith("2023-11-14T22:13:20Z\n")
    assert second.startswith("\n2023-11-14T22:13:22Z\n")


def test_it_waits_for_the_interval_after_every_block() -> None:
    waits = Waits()
    watch.in_pipe(three(), 2.0, waits, lambda text: None, None, "plain")
    assert waits.seconds == [2.0, 2.0, 2.0]


def test_ctrl_c_ends_a_piped_watch_normally() -> None:
    blocks: list[str] = []
    watch.in_pipe(three(), 2.0, Waits(end=2), blocks.append, None, "plain")
    assert len(blocks) == 2


# ---- on a terminal


def test_a_terminal_is_overwritten_in_place_and_put_back() -> None:
    output = on_terminal(three(), Waits())
    assert output[0] == watch.ENTER
    assert len(output) == 5
    for picture in output[1:-1]:
        assert picture.startswith(watch.HOME)
        assert picture.endswith(watch.CLEAR_BELOW)
        assert "\x1b[2J" not in picture  # clearing first would flicker
    assert output[-1].startswith(watch.LEAVE)


def test_every_switch_of_the_terminal_is_switched_back() -> None:
    switches = {"?1049h": "?1049l", "?25l": "?25h", "?7l": "?7h"}
    assert sorted(watch.ENTER.split("\x1b[")[1:]) == sorted(switches)
    assert sorted(watch.LEAVE.split("\x1b[")[1:]) == sorted(switches.values())


def test_a_picture_has_a_title_totals_and_rates() -> None:
    picture = on_terminal(three(), Waits())[2]
    assert "2023-11-14T22:13:22Z, every 2 s, Ctrl-C ends" in picture
    [line] = [line for line in picture.split("\n") if line.startswith("drop")]
    assert line.removesuffix(watch.CLEAR_LINE).split()[1:6] == ["30", "3.00", "kB", "3.00", "2.40"]


def test_ctrl_c_leaves_the_last_picture_on_the_terminal_whole() -> None:
    first = snapshot()
    second = later(first, 2.0, drop=6)
    output = on_terminal(iter([first, second]), Waits(end=2), height=5)
    assert output[-1] == watch.LEAVE + render(second, "action", "table", first)


def test_the_terminal_is_put_back_after_an_error() -> None:
    def vanishing() -> Iterator[Snapshot]:
        yield snapshot()
        raise OSError("gone")

    output: list[str] = []
    with pytest.raises(OSError, match="gone"):
        watch.on_terminal(vanishing(), 2.0, Waits(), output.append, None, "table", lambda: 50)
    assert output[-1].startswith(watch.LEAVE)


def test_every_line_clears_what_the_longer_one_before_it_left() -> None:
    assert watch.frame("a\nb\n", 24) == f"{watch.HOME}a\x1b[K\nb\x1b[K\n\x1b[J"


@pytest.mark.parametrize(
    ("height", "shown"),
    [
        (5, ["1", "2", "3", "4"]),
        (4, ["1", "2", "... 2 more lines: make the window taller, or use --by"]),
        (2, ["... 4 more lines: make the window taller, or use --by"]),
        (1, ["... 4 more lines: make the window taller, or use --by"]),
    ],
)
def test_a_small_terminal_never_scrolls_and_is_told_what_is_missing(height: int, shown: list[str]) -> None:
    body = watch.frame("1\n2\n3\n4\n", height).removeprefix(watch.HOME).removesuffix(watch.CLEAR_BELOW)
    assert body.replace(watch.CLEAR_LINE, "").splitlines() == shown


def test_the_height_is_asked_for_every_picture() -> None:
    heights = iter([100, 4, 100])
    output: list[str] = []
    watch.on_terminal(three(), 2.0, Waits(), output.append, "action", "table", lambda: next(heights))
    assert [picture.count("\n") > 4 for picture in output[1:4]] == [True, False, True]
