"""The same rules in nftables, on the netdev ingress hook of a veth: 10,000 pairs, and each known difference.

Our side is the shipped XDP program, held against the oracle on the same bytes. Where the two may differ is a
table in docs/limitations.md; each of its lines has a row in DIFFERENCES, and one frame here that shows it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import test_verdicts_support  # noqa: F401 - puts tests/ on the path

# isort: split

import lab
import nft
import pytest
from drawn import SEED, largest
from lab import Veth
from oracle import EXTENSION_HEADERS, FRAGMENT, Verdict, decide, extension_bytes
from packets import Packet, ah, destination, eth, fragment, icmp, ipv4, ipv6, raw, tcp, udp, vlan
from reached import Figures
from strategies import edge_packets, random_ruleset
from test_verdicts_support import Judge, one_cpu, runnable

from xdpguard.rules.model import Action, Hook, RuleSet
from xdpguard.rules.parse import parse

__all__ = ["one_cpu"]  # a fixture; frames of one CPU arrive in their order
SETS, FRAMES, RULES = 56, 240, 8
PAIRS = 10_000
"""Pairs that must be compared; those that a named difference excuses are beside them."""
LIMITATIONS = Path(__file__).resolve().parents[3] / "docs" / "limitations.md"
AH = 51


# ---- what may differ ------------------------------------------------------------------------------------
def tag_types(frame: bytes) -> list[bytes]:
    """Of the first two tags."""
    found = []
    for at in (12, 16):
        if frame[at : at + 2] not in (b"\x81\0", b"\x88\xa8", b"\x91\0"):
            break
        found.append(frame[at : at + 2])
    return found


def payload(frame: bytes, ethertype: bytes) -> bytes:
    """What is behind the Ethernet header and one tag, if it is of this type; else b""."""
    at = 12 + 4 * len(tag_types(frame))
    return frame[at + 2 :] if frame[at : at + 2] == ethertype else b""


def later4(frame: bytes) -> bool:
    data = payload(frame, b"\x08\0")
    return bool(int.from_bytes(data[6:8], "big") & 0x1FFF)


def chain6(frame: bytes) -> Iterator[tuple[int, bool, int]]:
    """Of each extension header: its number, whether it is that of a later fragment, what comes next."""
    data = payload(frame, b"\x86\xdd")
    number, data = (data[6], data[40:]) if len(data) >= 40 else (59, b"")
    while number in EXTENSION_HEADERS and len(data) >= 8:
        later = number == FRAGMENT and bool(int.from_bytes(data[2:4], "big") & 0xFFF8)
        yield number, later, data[0]
        if later:
            return
        number, data = data[0], data[extension_bytes(number, data) :]


@dataclass(frozen=True, slots=True)
class Difference:
    """``holds(frame, ours, theirs)``: this is one of those. ``frame`` shows it under RULE_FILE, where we say
    ``ours`` and nftables says ``theirs``.
    """

    name: str
    holds: Callable[[bytes, str, str], bool]
    frame: Packet
    ours: str
    theirs: str


RULE_FILE = """version: 1
ingress:
  - {name: web, proto: tcp, dport: 80, action: drop}
  - {name: no-dns, proto: udp, not: {dport: 53}, action: drop}
  - {name: ping, proto: icmp, icmp_type: echo-request, action: drop}
  - {name: auth, proto: ah, action: drop}
  - {name: options, proto: 60, action: drop}
"""
WEB = tcp(dport=80)
DIFFERENCES = (
    Difference("malformed packets", lambda frame, ours, theirs: ours.startswith("malformed_"),
               eth() / ipv4() / tcp(dport=80, doff=4), "malformed_tcp", "web"),
    Difference("essential traffic", lambda frame, ours, theirs: (ours, theirs) == ("essential", "default"),
               eth() / ipv4() / icmp(3, 4), "essential", "default"),
    Difference("two tags", lambda frame, ours, theirs: len(tag_types(frame)) == 2,
               eth() / vlan(5) / vlan(6) / ipv4() / WEB, "web", "default"),
    Difference("tags of type 0x9100", lambda frame, ours, theirs: tag_types(frame)[:1] == [b"\x91\0"],
               eth() / vlan(5, tpid=0x9100) / ipv4() / WEB, "web", "default"),
    Difference("later fragments of IPv4", lambda frame, ours, theirs: later4(frame),
               eth() / ipv4(offset=100, proto=6) / WEB, "default", "web"),
    Difference("authentication headers", lambda frame, ours, theirs: any(at[0] == AH for at in chain6(frame)),
               eth() / ipv6() / ah() / WEB, "web", "auth"),
    Difference("later fragments inside the IPv6 header chain",
               lambda frame, ours, theirs: any(at[1] and at[2] in EXTENSION_HEADERS for at in chain6(frame)),
               eth() / ipv6() / fragment(100, then=60) / bytes(destination(then=6)), "options", "default"),
    Difference("later fragments of IPv6", lambda frame, ours, theirs: any(at[1] for at in chain6(frame)),
               eth() / ipv6() / fragment(100) / udp(), "default", "no-dns"),
)  # fmt: skip


def excuse(frame: bytes, ours: str, theirs: str) -> str:
    """The name of the difference, or ""."""
    return next((each.name for each in DIFFERENCES if each.holds(frame, ours, theirs)), "")


# ---- both sides -----------------------------------------------------------------------------------------
@pytest.fixture
def quiet(lab: lab.Lab) -> Veth:
    return lab.veth(ipv6=False)


def theirs_named(quiet: Veth, hook: Hook, frames: list[bytes]) -> list[str]:
    """What nftables says, in our words; "not seen" for a frame that the kernel did not show it."""
    names = {nft.DEFAULT: "default", None: "not seen"}
    names |= {number: rule.name for number, rule in enumerate(hook.rules, 1)}
    return [names[number] for number in nft.deciders(quiet.client, quiet.server, hook, frames)]


def plain(ruleset: RuleSet) -> RuleSet:
    """Without what nftables has no word for: which rule decides is compared, so actions do not matter."""
    rules = tuple(replace(rule, action=Action.DROP, redirect=None) for rule in ruleset.ingress.rules)
    ingress = Hook(Action.PASS, rules)
    return replace(ruleset, ingress=ingress, malformed=Action.DROP, drop_fragments=False)


def test_10_000_pairs_are_decided_by_the_same_rule_as_in_nftables(quiet: Veth, figures: Figures) -> None:
    same, excused, unexplained = 0, Counter[str](), []
    with lab.inside(quiet.server.name, Judge, largest(RULES)) as judge:
        for index in range(SETS):
            seed = f"{SEED}/nft/{index}"
            rng = Random(seed)
            ruleset = plain(random_ruleset(rng, RULES))
            drawn = edge_packets(ruleset, "ingress", rng, FRAMES, mutations=0.05, shortest=14)
            frames = [nft.numbered(frame, number) for number, frame in enumerate(drawn)]
            judge.use(ruleset)
            judge.compare("ingress", runnable("ingress", frames))
            for frame, theirs in zip(frames, theirs_named(quiet, ruleset.ingress, frames), strict=True):
                ours = decide(ruleset, "ingress", frame).decider
                if ours == theirs:
                    same += 1
                elif name := excuse(frame, ours, theirs):
                    excused[name] += 1
                else:
                    rules = "\n".join(map(repr, ruleset.ingress.rules))
                    unexplained.append(f"seed {seed!r}: {frame.hex()}: {ours}, nft {theirs}\n{rules}")
    figures.add("pairs decided by the same rule as in nftables", same)
    figures.add("pairs decided otherwise, as the documentation says", excused.total())
    assert unexplained == []
    assert same >= PAIRS


# ---- each difference ------------------------------------------------------------------------------------
@pytest.mark.parametrize("row", DIFFERENCES, ids=[each.name for each in DIFFERENCES])
def test_a_difference_is_there_and_is_known_by_its_name(quiet: Veth, row: Difference) -> None:
    ruleset = parse(RULE_FILE.encode(), "nft.yaml", lab.PINS)
    frame = bytes(row.frame)
    with lab.inside(quiet.server.name, Judge, ruleset) as judge:
        judge.compare("ingress", runnable("ingress", [frame]))
    ours: Verdict = decide(ruleset, "ingress", frame)
    (theirs,) = theirs_named(quiet, ruleset.ingress, [frame])
    assert (ours.decider, theirs) == (row.ours, row.theirs)
    assert excuse(frame, ours.decider, theirs) == row.name


def test_a_frame_that_is_like_any_other_is_excused_by_nothing(quiet: Veth) -> None:
    ruleset = parse(RULE_FILE.encode(), "nft.yaml", lab.PINS)
    frames = [bytes(frame) for frame in ALIKE]
    ours = [decide(ruleset, "ingress", frame).decider for frame in frames]
    assert theirs_named(quiet, ruleset.ingress, frames) == ours
    assert [excuse(frame, "web", "default") for frame in frames] == [""] * len(frames)


ALIKE = (
    eth() / ipv4() / WEB,
    eth() / vlan(5) / ipv6() / WEB,
    eth() / ipv6() / destination() / fragment(0, True) / WEB / bytes(4),
    eth() / ipv4(mf=True) / udp() / bytes(8),
    eth() / ipv4() / icmp(),
    eth() / ipv4() / raw(bytes(8), 51),
    eth() / ipv6() / raw(bytes(8), 50),
)


def test_the_documentation_names_every_difference_and_no_other() -> None:
    lines = LIMITATIONS.read_text().partition("## Beside nftables")[2].splitlines()
    rows = [line.split("|")[1].strip() for line in lines if line.startswith("| ")]
    assert rows[1:] == [each.name for each in DIFFERENCES]
