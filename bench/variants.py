"""Figures of the whole path: counting, owners, TC beside XDP, a large blocklist, the verifier."""

from __future__ import annotations

import os
from contextlib import ExitStack

import numpy as np
import traces
from contenders import Ours, Tries
from filterset import Filters, Headers, ruleset
from harness import Program
from study import Study

from xdpguard.rules.model import Action, Addresses, Hook, Match, Rule, RuleSet

MIB = 1 << 20
ENTRIES = 1_000_000


def counting(study: Study) -> None:
    """The shipped XDP program and one compiled without counting, on the same maps."""
    ratios = []
    for filters in study.three(10_000):
        with ExitStack() as stack:
            ours = Ours(ruleset(filters))
            stack.callback(ours.close)
            without = ours.without_counting()
            stack.callback(os.close, without.fd)
            study.harness.send(traces.flows(filters, 256))
            added = study.harness.added({"with": ours.xdp, "without": without}, 4 * study.rounds, fine=True)
            study.say(f"  {filters.name}: +{added['with']:.1f} with, +{added['without']:.1f} without")
            ratios.append(added["with"] / added["without"])
    study.mean("counting", ratios)


def owned(study: Study) -> None:
    """Every flow has a known owner: one lookup more, and one account."""
    ratios = []
    for filters in study.three(10_000):
        with ExitStack() as stack:
            plain = Ours(ruleset(filters))
            stack.callback(plain.close)
            accounting = Ours(ruleset(filters), account_owners=True)
            stack.callback(accounting.close)
            _instructions(study, plain, "")
            _instructions(study, accounting, " owners")
            headers = traces.flows(filters, 256)
            accounting.own(headers)
            study.harness.send(headers)
            added = study.harness.added({"with": accounting.xdp, "without": plain.xdp}, study.rounds)
            packets, mine = accounting.decided()[0], accounting.accounted()
            if mine < 0.999 * packets:
                raise AssertionError(f"{mine} of {packets} packets had a known owner")
            study.say(f"  {filters.name}: +{added['with']:.0f} with, +{added['without']:.0f} without")
            ratios.append(added["with"] / added["without"])
    study.mean("owners", ratios)


def _instructions(study: Study, ours: Ours, variant: str) -> None:
    for hook, count in zip(("xdp", "tc"), ours.instructions, strict=True):
        if f"verifier {hook}{variant}" not in study.rows:
            study.answer(f"verifier {hook}{variant}", count, "on this kernel")


def both_hooks(study: Study) -> None:
    """The same rules at ingress and at egress, each above its own floor."""
    ratios: dict[int, list[float]] = {256: [], 65_536: []}
    for filters in study.three(10_000):
        with ExitStack() as stack:
            ingress, egress = Ours(ruleset(filters)), Ours(ruleset(filters, egress=True))
            stack.callback(ingress.close)
            stack.callback(egress.close)
            for flows, found in ratios.items():
                study.harness.send(traces.flows(filters, flows))
                added = study.harness.added({"xdp": ingress.xdp, "tc": egress.tc}, study.rounds)
                study.say(f"  {filters.name}, {flows} flows: XDP +{added['xdp']:.0f}, TC +{added['tc']:.0f}")
                found.append(added["tc"] / added["xdp"])
    for flows, found in ratios.items():
        study.mean(f"tc {flows}", found)


def blocked_addresses() -> np.ndarray[tuple[int, ...], np.dtype[np.uint64]]:
    """ENTRIES distinct IPv4 addresses, ascending; many in the same networks, as on real lists."""
    rng = np.random.default_rng(11)
    networks = rng.integers(1 << 24, 224 << 24, 150_000, dtype=np.uint64) & np.uint64(0xFFFFFF00)
    found = np.unique(rng.choice(networks, 2 * ENTRIES) | rng.integers(0, 256, 2 * ENTRIES, dtype=np.uint64))
    scattered = rng.integers(1 << 24, 224 << 24, ENTRIES, dtype=np.uint64)
    mixed = np.unique(np.concatenate([rng.permutation(found)[: ENTRIES // 2], scattered]))
    chosen: np.ndarray[tuple[int, ...], np.dtype[np.uint64]] = np.sort(rng.permutation(mixed)[:ENTRIES])
    return chosen


def blocklist(study: Study) -> None:
    """One rule with ENTRIES addresses; each packet comes from one of them."""
    addresses = blocked_addresses()
    with ExitStack() as stack:
        ours = Ours(_blocking(addresses))
        stack.callback(ours.close)
        trie = Tries(None, addresses)
        stack.callback(trie.close)
        programs: dict[str, Program] = {"xdpguard": ours.xdp, "one trie": trie.xdp}
        study.harness.send(_from(addresses))
        added = study.harness.added(programs, study.rounds)
        if ours.decided()[1]:
            raise AssertionError("packets were decided without the rule")
        if set(study.harness.verdicts(ours.xdp, 64)) != {int(Action.DROP)}:
            raise AssertionError("a listed address was not dropped")
    note = f"+{added['xdpguard']:.0f} ns and +{added['one trie']:.0f} ns; {len(addresses):,} addresses"
    study.answer("blocklist", added["xdpguard"] / added["one trie"], note)
    study.answer("blocklist MiB", ours.table_bytes / MIB, f"built in {ours.seconds:.1f} s")


def _blocking(addresses: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> RuleSet:
    ends = np.flatnonzero(np.diff(addresses) != 1)
    first = addresses[np.concatenate([[0], ends + 1])].tolist()
    last = addresses[np.concatenate([ends, [len(addresses) - 1]])].tolist()
    match = Match(ipv6=False, src=Addresses(v4=tuple(zip(first, last, strict=True))))
    rule = Rule("blocked", Action.DROP, match, None, f"{1:032x}", 1, 1)
    return RuleSet("blocklist", Hook(Action.PASS, (rule,)), Hook(Action.PASS))


def _from(addresses: np.ndarray[tuple[int, ...], np.dtype[np.uint64]]) -> Headers:
    rng = np.random.default_rng(12)
    one = np.zeros((1, 2, 2), dtype=np.uint64)
    every = Filters(
        "every", 4, one, np.zeros((1, 2), np.int64), np.tile([0, 65535], (1, 2, 1)), np.array([17])
    )
    packets = traces.flows(every, traces.PACKETS)
    packets.ends[:, 0, 1] = rng.choice(addresses, traces.PACKETS, replace=False)
    return packets
