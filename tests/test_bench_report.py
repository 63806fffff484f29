"""The figures of the benchmark, their bars, their traces, and the report."""

from __future__ import annotations

from pathlib import Path

import figures
import generator
import harness
import numpy as np
import peers
import plot
import pytest
import report
import traces
import tried
from filterset import Headers, first_match


def test_a_most_is_reached_at_or_below_and_a_least_at_or_above() -> None:
    assert figures.Row("10k 256", 0.25).reached
    assert not figures.Row("10k 256", 0.26).reached
    assert figures.Row("nft linear", 200).reached
    assert not figures.Row("nft linear", 199).reached


def test_a_figure_that_was_not_measured_is_loud_and_says_why() -> None:
    words = figures.Row("nft set", None, "nft is not installed").words()
    assert words[1] == "**no figure**"
    assert words[3] == "**not measured**"
    assert words[4] == "nft is not installed"


def test_a_missing_peer_is_named_with_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert peers.missing("xdp-filter") == "xdp-filter is not installed (Debian package xdp-tools)"
    assert peers.version("nft") == "missing"


def test_rows_of_the_report_come_in_the_order_of_the_bars() -> None:
    found = {key: figures.Row(key, 1.0) for key in ("tc 256", "10k 256")}
    assert [row[0] for row in report.rows(found)] == [
        figures.BARS[key].figure for key in ("10k 256", "tc 256")
    ]


def test_a_table_is_markdown_whatever_is_in_its_cells() -> None:
    assert report.grid(("a", "b"), [("1|2", "3")]) == "| a | b |\n| --- | --- |\n| 1\\|2 | 3 |\n"


def test_the_mean_of_the_middle_half_ignores_the_extremes() -> None:
    assert harness.middle_mean([0, 10, 11, 12, 13, 900, 11, 12]) == 11.5


def test_the_driver_writes_a_true_header_checksum() -> None:
    sent = traces.flows(generator.generate("acl1", 100), 64)
    rows = np.frombuffer(harness.rows4(sent), dtype=np.uint8).reshape(64, 16)
    for row in rows:
        header = bytearray(harness.FRAME4[14:34])
        header[9], header[10:12], header[12:20] = row[12], row[14:16].tobytes(), row[:8].tobytes()
        total = sum(int.from_bytes(header[at : at + 2], "big") for at in range(0, 20, 2))
        while total >> 16:
            total = (total & 0xFFFF) + (total >> 16)
        assert total == 0xFFFF


def test_the_driver_s_frames_are_as_long_as_they_say() -> None:
    assert int.from_bytes(harness.FRAME4[16:18], "big") == len(harness.FRAME4) - 14
    assert int.from_bytes(harness.FRAME6[18:20], "big") == len(harness.FRAME6) - 54


def test_an_ipv6_row_holds_the_addresses_as_on_the_wire() -> None:
    sent = traces.flows(generator.random_prefixes(10, 6, 8), 4)
    first = harness.rows6(sent)[:48]
    high, low = (int(half) for half in sent.ends[0, 0])
    assert first[:16] == (high << 64 | low).to_bytes(16, "big")
    assert first[32:34] == int(sent.ports[0, 0]).to_bytes(2, "big")
    assert first[36] == sent.protocol[0]


def test_headers_of_the_unmatched_trace_match_no_rule() -> None:
    made = generator.generate("acl1", 200)
    assert (first_match(made, traces.unmatched(made, 300)) < 0).all()


def test_strangers_are_of_few_rules_and_hardly_two_alike() -> None:
    made = generator.generate("ipc1", 5000)
    ends = traces.strangers(made).ends.reshape(-1, 4)
    assert len(np.unique(ends, axis=0)) > traces.PACKETS // 8


def test_the_search_for_the_worst_trace_finds_the_dear_rules() -> None:
    made = generator.random_prefixes(400, 4, 8)
    dear = set(made.ends[:20, 0, 1].tolist())

    def cost(trace: Headers) -> float:
        mask = np.uint64(0xFF000000)
        firsts = np.array(sorted({one & 0xFF000000 for one in dear}), dtype=np.uint64)
        return float(np.isin(trace.ends[:, 0, 1] & mask, firsts).mean())

    even = cost(traces.flows(made, traces.PACKETS))
    assert cost(traces.worst(made, cost, parts=20, rounds=4)) > 2 * even


def test_the_plot_has_every_contender_and_is_the_same_twice(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib comes with scripts/setup bench only")
    curves = {"test runs": {"xdpguard": [(10, 30.0), (100, 31.0)], "two tries": [(10, 25.0), (100, 60.0)]}}
    texts = []
    for name in ("one.svg", "two.svg"):
        plot.draw(curves, tmp_path / name)
        texts.append((tmp_path / name).read_text())
    assert texts[0] == texts[1]
    assert "two tries" in texts[0]


def test_what_was_tried_is_told_of_rows_that_are_not_reached_alone() -> None:
    assert "IPv6" in tried.section(["ipv6 65536", "tc 256"])
    assert "New flows" not in tried.section(["ipv6 65536", "tc 256"])
    assert tried.section(["tc 256"]) == ""
    assert {key for note in tried.NOTES for key in note.keys} <= set(figures.BARS)
