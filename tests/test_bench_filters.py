"""The filter sets of the benchmark: made, read, enlarged, and what they answer."""

from __future__ import annotations

from pathlib import Path

import adversaries
import commands
import filterset
import generator
import numpy as np
import public_sets
import pytest

LINES = (
    "@10.1.2.0/24\t192.168.0.1/32\t0 : 65535\t80 : 80\t0x06/0xFF\t0x1000/0x1000\t\n"
    "@0.0.0.0/0\t10.0.0.0/8\t1024 : 65535\t53 : 60\t0x00/0x00\t0x0000/0x0000\t\n"
)


@pytest.mark.parametrize("shape", generator.SHAPES)
def test_a_generated_set_has_as_many_rules_as_asked_for_and_no_two_alike(shape: str) -> None:
    made = generator.generate(shape, 2000)
    assert len(made) == 2000
    assert len(filterset.distinct(made)) == 2000


def test_the_same_seed_gives_the_same_set_and_another_seed_another() -> None:
    one, same, other = (generator.generate("fw1", 500, seed) for seed in (1, 1, 2))
    assert (one.ends == same.ends).all()
    assert (one.ports == same.ports).all()
    assert not (one.ends == other.ends).all()


def test_no_address_has_bits_beyond_its_prefix() -> None:
    for made in (generator.generate("ipc2", 500), generator.random_prefixes(500, 6, 8)):
        assert not (made.ends & ~filterset.masks(made.lengths, made.family)).any()


def test_rules_of_protocols_without_ports_ask_for_no_port() -> None:
    made = generator.generate("acl1", 3000)
    without = ~np.isin(made.protocol, (filterset.ANY, *filterset.WITH_PORTS))
    assert without.any()
    assert (made.ports[without] == [0, 65535]).all()


def test_the_sources_of_a_disjoint_set_do_not_overlap() -> None:
    sources = generator.disjoint(1000).ends[:, 0, 1] >> np.uint64(8)
    assert len(np.unique(sources)) == 1000


@pytest.mark.parametrize("make", adversaries.ALL)
def test_adversaries_are_well_formed(make: object) -> None:
    assert callable(make)
    made = make(300)
    assert 0 < len(made) <= 300
    assert (made.ports[:, :, 0] <= made.ports[:, :, 1]).all()


def test_a_classbench_file_is_read_as_it_is_written(tmp_path: Path) -> None:
    file = tmp_path / "set"
    file.write_text(LINES)
    found = public_sets.read(file)
    assert found.ends[:, :, 1].tolist() == [[0x0A010200, 0xC0A80001], [0, 0x0A000000]]
    assert found.lengths.tolist() == [[24, 32], [0, 8]]
    assert found.ports.tolist() == [[[0, 65535], [80, 80]], [[1024, 65535], [53, 60]]]
    assert found.protocol.tolist() == [6, filterset.ANY]


def test_a_line_that_is_no_classbench_rule_is_named(tmp_path: Path) -> None:
    file = tmp_path / "set"
    file.write_text(LINES + "10.0.0.0/8\n")
    with pytest.raises(ValueError, match=r"set:3: not a ClassBench rule"):
        public_sets.read(file)


def test_an_enlarged_set_keeps_the_nesting_of_prefixes() -> None:
    base = generator.generate("ipc1", 200)
    large = public_sets.enlarged(base, 1000)
    assert len(large) == 1000
    assert not (large.ends & ~filterset.masks(large.lengths, 4)).any()
    assert sorted(np.unique(large.lengths)) == sorted(np.unique(base.lengths))


def test_headers_drawn_from_a_rule_match_it() -> None:
    made = generator.generate("acl3", 300)
    rows = np.arange(300)
    said = np.isin(made.protocol, (filterset.ANY, 6, 17))
    drawn = filterset.matching(made, rows[said], np.random.default_rng(1))
    decided = filterset.first_match(made, drawn)
    assert (decided >= 0).all()
    assert (decided <= rows[said]).all()


def test_the_first_of_two_matching_rules_decides_and_none_is_minus_one() -> None:
    made = generator.ten_ports()
    twice = made.take(np.array([3, 3, 4]))
    headers = filterset.matching(made, np.array([3, 4, 5]), np.random.default_rng(1))
    assert filterset.first_match(twice, headers).tolist() == [0, 2, -1]


def test_the_table_and_the_yaml_of_a_set_say_the_same() -> None:
    made = generator.generate("ipc1", 50)
    yaml, table = commands.yaml_of(made).splitlines()[2:], commands.tsv_of(made).splitlines()
    heads = table[0].split("\t")
    for line, row in zip(yaml, table[1:], strict=True):
        cells = {name: cell for name, cell in zip(heads, row.split("\t"), strict=True) if cell}
        assert all(f"{name}: " in line for name in cells)
        assert line.count(": ") == len(cells)


def test_the_peak_of_a_small_command_is_small_though_this_process_is_large() -> None:
    held = np.ones(200 << 17)  # 200 MiB
    cost = commands.run(["true"])
    assert held.nbytes / 2**20 >= 200
    assert cost.peak < 100


def test_a_command_that_fails_is_told_with_its_last_line() -> None:
    with pytest.raises(RuntimeError, match=r"exit code 3: no luck"):
        commands.run(["sh", "-c", "echo no luck; exit 3"])
