"""Random rule sets of one shape each, so that every way by which the classifier finds a rule is drawn.

``strategies.random_ruleset`` draws all that a rule can say; its rules are too different from each other to
crowd one place. Here they are alike: many at one address, many sets of many ranges, prefixes in prefixes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from strategies import DOC, PORT_TOP, complement, normal, random_match

from xdpguard.rules.model import Action, Addresses, Hook, Intervals, Match, Protocols, Rule, RuleSet

BITS = {4: 32, 6: 128}
BASE = {4: 0xC6336400, 6: DOC}
BY_PORT = (Protocols(frozenset({6}), frozenset({6})), Protocols(frozenset({17}), frozenset({17})), None)
Sides = tuple[Addresses | None, Addresses | None]


def prefix(rng: Random, family: int, lengths: Sequence[int]) -> Intervals:
    """Near the base, so that prefixes nest."""
    bits = BITS[family]
    size = 1 << bits - rng.choice(lengths)
    value = BASE[family] ^ rng.getrandbits(4) << rng.choice((0, 4, bits // 2 - 2, bits - 4))
    return ((value & -size, value & -size | size - 1),)


def of(family: int, spans: Intervals) -> Addresses:
    return Addresses(v4=spans) if family == 4 else Addresses(v6=spans)


def hosts(rng: Random, family: int) -> Sides:
    """One of three addresses on one side or both: long lists."""
    host = BASE[family] + rng.randrange(3)
    one, other = of(family, ((host, host),)), of(family, ((host + 8, host + 8),))
    return rng.choice(((one, None), (None, one), (one, other)))


def nested(rng: Random, family: int) -> Sides:
    """Prefixes of every length on one side or both."""
    lengths = range(BITS[family] + 1)
    src, dst = (of(family, prefix(rng, family, lengths)) for _ in range(2))
    return rng.choice(((src, None), (None, dst), (src, dst), (src, dst)))


def spread(rng: Random, family: int) -> Sides:
    """Sets of many ranges, or all but them."""

    def some() -> Addresses:
        step = 1 << rng.choice((1, 3, BITS[family] // 2 - 4))
        firsts = [BASE[family] + rng.randrange(64) * step for _ in range(rng.choice((2, 9, 30)))]
        found = normal([(first, first + rng.randrange(step)) for first in firsts])
        return of(family, complement(found, (1 << BITS[family]) - 1) if rng.random() < 0.3 else found)

    return rng.choice(((some(), None), (None, some()), (some(), some())))


def broad(rng: Random, family: int) -> Sides:
    """Short prefixes and nothing at all, over a few addresses that make them broad."""
    if rng.random() < 0.4:
        return of(family, prefix(rng, family, (BITS[family],))), of(
            family, prefix(rng, family, (BITS[family],))
        )
    src, dst = (of(family, prefix(rng, family, (0, 1, 2, 3))) for _ in range(2))
    return rng.choice(((src, dst), (src, None), (None, None)))


Shape = Callable[[Random, int], Sides]
SHAPES: tuple[Shape, ...] = (hosts, nested, spread, broad)


def shaped_match(rng: Random, shape: Shape) -> Match:
    family = rng.choice((4, 4, 6))
    src, dst = shape(rng, family)
    if rng.random() < 0.15:  # both families in one rule
        more_src, more_dst = shape(rng, 10 - family)
        src, dst = joined(src, more_src), joined(dst, more_dst)
    first = rng.randrange(PORT_TOP - 9)
    ports: Intervals | None = rng.choice(
        (None, ((first, first),), ((first, first + 9),), ((first, first), (first + 2, first + 9)))
    )
    if rng.random() < 0.03:  # too many for a rule's words
        ports = tuple((at * 9, at * 9) for at in range(20))
    sport, dport = rng.choice(((None, ports), (None, ports), (ports, None), (ports, ports)))
    tag = ((vid := rng.randrange(90), vid),) if rng.random() < 0.15 else None
    flags = frozenset(range(rng.randrange(256), 256)) if rng.random() < 0.1 else None
    protocols = BY_PORT[0] if flags is not None else rng.choice(BY_PORT)
    return Match(protocols=protocols, src=src, dst=dst, sport=sport, dport=dport, vlan=tag, tcp_flags=flags)


def joined(one: Addresses | None, two: Addresses | None) -> Addresses | None:
    return Addresses(one.v4 or two.v4, one.v6 or two.v6) if one and two else one or two


def shaped_ruleset(rng: Random, rules: int, shape: Shape) -> RuleSet:
    """The same rules on both hooks, a tenth of any kind; the specific ones rather first: so all decide."""
    matches = [random_match(rng) if rng.random() < 0.1 else shaped_match(rng, shape) for _ in range(rules)]
    matches.sort(key=lambda match: (match.src is None) + (match.dst is None) + rng.random() * 3)
    made = tuple(
        Rule(f"r{at}", rng.choice((Action.DROP, Action.PASS)), match, None, f"{at:032x}", at + 1, 1)
        for at, match in enumerate(matches)
    )
    return RuleSet("shaped.yaml", Hook(Action.PASS, made), Hook(Action.PASS, made))
