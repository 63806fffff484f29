"""The manifest: names behind a generation's numbers, as bytes and back."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import rulesets

from xdpguard.generation.manifest import Manifest, NamedRule, decode, describe, encode, targets
from xdpguard.rules.model import RuleSet

names = st.text(min_size=1, max_size=64)
rules = st.builds(
    NamedRule, names, st.sampled_from(("drop", "pass", "tx", "redirect")), names, st.integers(1)
)
manifests = st.builds(
    Manifest,
    names,
    names,
    st.floats(0, 1e12),
    st.tuples(names, names),
    st.tuples(st.lists(rules, max_size=5).map(tuple), st.lists(rules, max_size=5).map(tuple)),
    st.dictionaries(names, st.integers(1, 2**31 - 1), max_size=3),
)


@given(manifests)
def test_what_is_encoded_is_decoded_again(manifest: Manifest) -> None:
    assert decode(encode(manifest)) == manifest
    assert targets(encode(manifest)) == manifest.targets


@given(rulesets)
def test_it_names_the_rules_of_both_hooks_in_their_order(ruleset: RuleSet) -> None:
    found = describe(ruleset, 12.5, {"ids0": 7})
    for hook, named in zip((ruleset.ingress, ruleset.egress), found.rules, strict=True):
        assert [(rule.name, rule.action.name.lower(), rule.key, rule.line) for rule in hook.rules] == [
            (rule.name, rule.action, rule.key, rule.line) for rule in named
        ]
    assert (found.file, found.content_hash, found.loaded_at) == (ruleset.file, ruleset.content_hash, 12.5)
    assert found.defaults == (ruleset.ingress.default.name.lower(), ruleset.egress.default.name.lower())
    assert found.targets == {"ids0": 7}


def test_damaged_bytes_are_refused() -> None:
    rule = NamedRule("ssh", "drop", "0" * 32, 3)
    data = encode(Manifest("t.yaml", "0", 1.0, ("pass", "drop"), ((rule,), ()), {}))
    damaged = [data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :] for at in range(len(data))]
    for each in [b"", *damaged, *(data[:length] for length in range(len(data)))]:
        with pytest.raises(ValueError, match="a damaged manifest"):
            decode(each)
