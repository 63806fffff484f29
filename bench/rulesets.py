"""Rule files of any size for the benchmark: seeded, in the shape of host filters."""

from __future__ import annotations

import random

_ACTIONS = ("drop", "pass")


def rule_file(rules: int, seed: int = 1) -> str:
    """YAML text with ``rules`` ingress rules: prefixes on either or both sides, ports, both protocols."""
    rng = random.Random(seed)
    lines = ["version: 1", "default: {ingress: pass, egress: pass}", "ingress:"]
    for index in range(rules):
        fields = [f"name: r{index}", f"proto: {rng.choice(('tcp', 'udp'))}"]
        sides = rng.choice((("src",), ("dst",), ("src", "dst")))
        fields += [f"{side}: {_prefix(rng)}" for side in sides]
        if rng.random() < 0.7:
            fields.append(f"dport: {_port(rng)}")
        fields.append(f"action: {rng.choice(_ACTIONS)}")
        lines.append(f"  - {{{', '.join(fields)}}}")
    return "\n".join(lines) + "\n"


def _prefix(rng: random.Random) -> str:
    length = rng.choice((8, 16, 20, 24, 24, 24, 28, 32, 32))
    value = rng.getrandbits(32) >> (32 - length) << (32 - length)
    return ".".join(str(value >> shift & 255) for shift in (24, 16, 8, 0)) + f"/{length}"


def _port(rng: random.Random) -> str:
    if rng.random() < 0.7:
        return str(rng.choice((22, 53, 80, 443, 8080, 3306, 5432, rng.randrange(1, 65536))))
    first = rng.randrange(1024, 60000)
    return f"{first}-{first + rng.randrange(1, 5000)}"
