"""Rule sets of real size against a linear search in NumPy, at packets from the rules' edges."""

from __future__ import annotations

import large_sets
import pytest
import tables

from xdpguard.classify.compile import build

PACKETS = 20_000


@pytest.mark.skipif(not large_sets.FOLDER.is_dir(), reason=large_sets.ABSENT)
@pytest.mark.parametrize("name", large_sets.NAMES)
def test_every_first_match_of_a_classbench_set_is_found(name: str) -> None:
    rules = large_sets.read(name)
    reader = tables.Reader(build(large_sets.rule_set(rules, name)).blob.tobytes())
    packets = large_sets.edge_packets(rules, PACKETS, seed=1)
    expected = large_sets.first_matches(rules, packets).tolist()
    wrong = [
        (packet, found, first)
        for packet, first in zip(large_sets.indices(packets), expected, strict=True)
        if (found := tables.answers(reader, "ingress", packet)).first != (None if first < 0 else first)
    ]
    assert wrong == []
    assert len(set(expected)) > len(rules) // 3  # else the packets have hardly tried the rules
