"""The shipped XDP and TC programs against the oracle: the whole corpus, some drawn pairs, many rules, bytes.

A pair is a rule set and a frame; the million pairs are in test_oracle_volume.py. Draws depend on SEED only,
which a failure names; XDPGUARD_TEST_SEED sets another one. Frames go in by BPF_PROG_TEST_RUN; real traffic is
the matter of test_traffic_*.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab
import pytest
from corpus import CORPUS, DENY_DEFAULT, PASS_DEFAULT
from drawn import SEED, Row, compare_drawn, largest
from packets import eth, ipv4, tcp, udp
from programs import Bench, can_run
from strategies import Edges
from test_verdicts_support import (
    HOOKS,
    Disagreement,
    Judge,
    nothing_met,
    one_cpu,
    runnable,
)

from xdpguard.kernel import accounts
from xdpguard.rules.model import (
    TCP,
    UDP,
    Action,
    Addresses,
    Hook,
    Intervals,
    Match,
    Protocols,
    Redirect,
    Rule,
    RuleSet,
)

__all__ = ["one_cpu"]  # a fixture


@pytest.fixture(scope="module")
def namespace() -> Iterator[str]:
    """The device map holds devices of one namespace: not the caller's."""
    made = lab.Lab("oracle agreement")
    yield made.namespace("t")
    made.close()


# ---- the corpus -----------------------------------------------------------------------------------------
RULE_SETS = (("pass by default", PASS_DEFAULT), ("deny by default", DENY_DEFAULT))


@pytest.mark.parametrize("ruleset", [each for _, each in RULE_SETS], ids=[name for name, _ in RULE_SETS])
def test_the_programs_do_what_the_corpus_says(ruleset: RuleSet) -> None:
    """The hand-written expectation itself, not the oracle's."""
    ran, wrong = 0, []
    with Bench(ruleset) as bench:
        for case in CORPUS:
            if not can_run(case.hook, case.frame):
                continue
            action = case.pass_default if ruleset is PASS_DEFAULT else case.deny_default
            found = bench.run(case.hook, case.frame)
            ran += 1
            if (found.action, found.decider, found.protocol, found.frame) != (
                action, case.decider, case.protocol, case.frame,
            ):  # fmt: skip
                wrong.append(f"{case.name}: {case}, found {found}")
    assert wrong == []
    assert ran >= len(CORPUS) - 10  # the kernel's test run takes no runts


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("l3", [False, True], ids=["ethernet", "L3 device"])
def test_the_programs_agree_with_the_oracle_about_the_corpus(hook: str, l3: bool) -> None:
    """Every frame at both hooks. An L3 device gets it from behind its Ethernet header, and also whole."""
    frames = [case.frame for case in CORPUS]
    if l3:
        frames += [frame[14:] for frame in frames]
    met = nothing_met()
    for _, ruleset in RULE_SETS:
        with Judge(ruleset, l3=l3) as judge:
            met.add(judge.compare(hook, runnable(hook, frames)))
    assert met.pairs == 2 * len(frames)
    assert met.deciders >= {"default", "essential", {"ingress": "ssh", "egress": "ssh-out"}[hook]}
    assert len([name for name in met.deciders if name.startswith("malformed")]) >= (10 if l3 else 12)


@pytest.mark.parametrize("hook", HOOKS)
def test_the_programs_that_account_owners_agree_with_the_oracle_too(namespace: str, hook: str) -> None:
    """The other variant of both programs: the corpus, and some drawn pairs. Every frame is in one account."""
    frames = runnable(hook, [case.frame for case in CORPUS])
    with lab.inside(namespace, Judge, largest(10), account_owners=True) as judge:
        met, kept = nothing_met(), judge.bench.maps.fds["accounts"]
        for _, ruleset in RULE_SETS:
            judge.use(ruleset)
            met.add(judge.compare(hook, frames))
        drawn = Row("accounting", 10, False, 15, 140, 0)
        met.add(compare_drawn(judge, drawn))
        found = accounts.read(kept)
    assert met.pairs == 2 * len(frames) + drawn.pairs
    assert sum(one.packets for one in found) == met.pairs
    assert {one.kind for one in found if one.packets} >= {"kernel", "no_ports", "no_owner"}


# ---- drawn pairs ----------------------------------------------------------------------------------------
SOME = (
    Row("3 rules", 3, False, 14, 80, 4),
    Row("10 rules", 10, False, 14, 80, 4),
    Row("rule files", 12, True, 10, 80, 4),
)


@pytest.mark.parametrize("row", SOME, ids=[row.name for row in SOME])
def test_the_programs_agree_with_the_oracle_about_some_drawn_pairs(namespace: str, row: Row) -> None:
    """A few of those of test_oracle_volume.py, in this process."""
    with lab.inside(namespace, Judge, largest(row.rules)) as judge:
        met = compare_drawn(judge, row)
    assert met.pairs == row.pairs
    assert met.deciders >= {"default"}


# ---- many rules -----------------------------------------------------------------------------------------
def one(value: int) -> Intervals:
    return ((value, value),)


def narrow_match(rng: Random, values: int) -> Match:
    """Hits few packets, so that later rules decide too; ``values`` per field, so that rules overlap."""
    kind, value = rng.randrange(5), rng.randrange(values)
    port = one(rng.randrange(1, 60))
    tcp_udp = Protocols(frozenset({TCP, UDP}), frozenset({TCP, UDP}))
    if kind == 0:
        return Match(ipv6=False, dst=Addresses(one(0x0A000000 + value)))
    if kind == 1:
        net = 0x0A000000 + value * 4
        return Match(ipv6=False, protocols=tcp_udp, src=Addresses(((net, net + 3),)), dport=port)
    if kind == 2:
        return Match(ipv4=False, dst=Addresses((), one((0x20010DB8 << 96) + value)), vlan=((0, 4096),))
    if kind == 3:
        high = (0x20010DB8 << 32) + value << 64
        return Match(ipv4=False, protocols=tcp_udp, src=Addresses((), ((high, high + (1 << 64) - 1),)))
    return Match(protocols=tcp_udp, sport=one(1024 + value % 60000), dport=port)


LAST = Match(ipv6=False, dst=Addresses(one(0xCB0071C8)))  # no other rule hides it


def many_rules(rng: Random, rules: int) -> RuleSet:
    actions = (Action.DROP, Action.PASS, Action.TX, Action.REDIRECT)
    target = Redirect("ids0", b"\2\0\0\0\0\2")

    def rule(hook: str, index: int) -> Rule:
        action = rng.choice(actions)
        where = target if action is Action.REDIRECT else None
        match = narrow_match(rng, rules // 3) if index + 1 < rules else LAST
        return Rule(f"{hook}-{index}", action, match, where, f"{index:032x}", 1, 1)

    ingress, egress = (
        Hook(Action.PASS, tuple(rule(hook, index) for index in range(rules))) for hook in HOOKS
    )
    return RuleSet("many.yaml", ingress, egress)


@pytest.mark.parametrize(("rules", "blocks"), [(5_000, 2), (20_481, 6)])
def test_the_first_match_wins_across_blocks_of_rules(namespace: str, rules: int, blocks: int) -> None:
    """Frames for the rules at the edges of every word, summary and block, and for some in between."""
    seed = f"{SEED}/many/{rules}"
    rng = Random(seed)
    ruleset = many_rules(rng, rules)
    edges = {at + near for at in range(0, rules, 4096) for near in (-1, 0, 1, 63, 64, 65, 2048)}
    edges |= {rules - 1, *rng.sample(range(rules), 200)}
    met = nothing_met()
    with lab.inside(namespace, Judge, ruleset) as judge:
        for hook in HOOKS:
            matches = [rule.match for rule in getattr(ruleset, hook).rules]
            frames = [
                Edges(rng).frame(matches[at]) for at in sorted(edges) for _ in range(2) if 0 <= at < rules
            ]
            try:
                met.add(judge.compare(hook, runnable(hook, frames)))
            except Disagreement as error:
                raise Disagreement(f"seed {seed!r}\n{error}") from None
    print(f"{rules} rules: {met.pairs} pairs, {len(met.deciders)} different deciders")
    decided = {int(name.partition("-")[2]) for name in met.deciders if name.partition("-")[2].isdigit()}
    assert {at // 4096 for at in decided} == set(range(blocks))
    assert rules - 1 in decided


# ---- bytes ----------------------------------------------------------------------------------------------
def redirecting(dst_mac: bytes | None, interface: str = "ids0") -> RuleSet:
    return only(Action.REDIRECT, Redirect(interface, dst_mac))


def only(action: Action, redirect: Redirect | None = None) -> RuleSet:
    """One rule for everything that is IP, at both hooks."""
    chain = Hook(Action.PASS, (Rule("all", action, Match(), redirect, "0" * 32, 1, 1),))
    return RuleSet("bytes.yaml", chain, chain)


FRAME = bytes(eth() / ipv4() / udp() / bytes(range(64)))
DST, SRC, REST = FRAME[:6], FRAME[6:12], FRAME[12:]
NEW = bytes.fromhex("02000000beef")
OWN = bytes.fromhex("02000000aa00")  # of the target ids0
BYTES = (
    ("pass", only(Action.PASS), FRAME),
    ("drop", only(Action.DROP), FRAME),
    ("tx swaps the MACs", only(Action.TX), SRC + DST + REST),
    ("redirect", redirecting(None), FRAME),
    ("redirect with dst_mac", redirecting(NEW), NEW + OWN + REST),
)


@pytest.mark.parametrize("hook", HOOKS)
@pytest.mark.parametrize("row", BYTES, ids=[row[0] for row in BYTES])
def test_an_action_changes_the_mac_addresses_that_it_says_and_no_other_byte(
    namespace: str, row: tuple[str, RuleSet, bytes], hook: str
) -> None:
    _, ruleset, after = row
    with lab.inside(namespace, Judge, ruleset) as judge:
        found = judge.bench.run(hook, FRAME)
    assert found.frame == after
    assert found.action is ruleset.ingress.rules[0].action


@pytest.mark.parametrize("hook", HOOKS)
def test_a_redirect_to_a_device_that_is_gone_is_counted_as_aborted(namespace: str, hook: str) -> None:
    with lab.inside(namespace, Judge, redirecting(None, "ids1")) as judge:
        found = judge.bench.run(hook, FRAME)
    dropped = {"ingress": 0, "egress": 2}[hook]  # XDP_ABORTED, TC_ACT_SHOT
    assert (found.action, found.decider, found.returned) == (Action.ABORTED, "all", dropped)


def test_a_disagreement_names_frame_oracle_program_and_rules(namespace: str) -> None:
    """The comparison itself can fail: the programs run other rules than the oracle."""
    frame = bytes(eth() / ipv4() / tcp())
    with lab.inside(namespace, Judge, only(Action.DROP)) as judge:
        judge.bench.ruleset = only(Action.PASS)
        with pytest.raises(Disagreement, match=f"(?s){frame.hex()}.*oracle.*PASS.*program.*DROP.*Match"):
            judge.compare("ingress", [frame])
