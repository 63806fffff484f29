"""The figures that the benchmark answers for, each with its bar. Nothing is measured here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Bar:
    """``at_least``: the bar is a least, not a most. ``unit`` is written behind both numbers."""

    figure: str
    limit: float
    unit: str = ""
    at_least: bool = False


@dataclass(frozen=True, slots=True)
class Row:
    """``value`` None: not measured, and ``note`` says why."""

    key: str
    value: float | None
    note: str = ""

    @property
    def reached(self) -> bool | None:
        if self.value is None:
            return None
        bar = BARS[self.key]
        return self.value >= bar.limit if bar.at_least else self.value <= bar.limit

    def words(self) -> tuple[str, str, str, str, str]:
        """figure, value, bar, reached or not, note."""
        bar = BARS[self.key]
        sign = ">=" if bar.at_least else "<="
        value = "**no figure**" if self.value is None else f"{number(self.value)}{bar.unit}"
        verdict = {True: "reached", False: "**not reached**", None: "**not measured**"}[self.reached]
        return bar.figure, value, f"{sign} {number(bar.limit)}{bar.unit}", verdict, self.note


def number(value: float) -> str:
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


_TRIES = "added cost / that of two bare LPM trie lookups"
BARS = {
    "10k 256": Bar(f"{_TRIES}, 10,000 rules, 256 flows, mean", 0.25),
    "10k 65536": Bar(f"{_TRIES}, 10,000 rules, 65,536 flows, mean", 0.30),
    "10k 65536 worst": Bar("the same, worst set", 0.40),
    "100k 256": Bar(f"{_TRIES}, 100,000 rules, 256 flows, mean", 0.20),
    "100k 65536": Bar(f"{_TRIES}, 100,000 rules, 65,536 flows, mean", 0.25),
    "100k 65536 worst": Bar("the same, worst set", 0.35),
    "prototype 256": Bar("added cost / the prototype's, 10,000 rules, 256 flows, mean", 0.85),
    "prototype 65536": Bar("added cost / the prototype's, 10,000 rules, 65,536 flows, mean", 0.85),
    "growth": Bar("added cost at 100,000 rules / at 1,000, 256 flows, mean", 1.4, "x"),
    "ipv6 256": Bar("added cost of IPv6 (/32-/128) / IPv4 (/8-/32), 10,000 rules, 256 flows", 1.6, "x"),
    "ipv6 65536": Bar("the same, 65,536 flows", 1.6, "x"),
    "xdp-filter 10k": Bar("live drop rate, 10,000 rules / xdp-filter's on one port", 0.8, "x", True),
    "xdp-filter 10": Bar("live drop rate, 10 port rules / xdp-filter's with the same ports", 1.0, "x", True),
    "nft linear": Bar("live drop rate, 5,000 rules / nftables' with the same rules", 200, "x", True),
    "nft set": Bar("added cost live, 10,000 rules / that of nftables' interval set with the same rules", 0.1),
    "blocklist": Bar("1,000,000 addresses in a rule, added cost / one LPM trie lookup's, 65,536 flows", 0.35),
    "blocklist MiB": Bar("its tables", 64, " MiB"),
    "blocklist load": Bar("its `load`, whole command", 3.0, " s"),
    "generation": Bar("memory of a generation, 100,000 rules, worst of acl1, fw1, ipc1", 16, " MiB"),
    "load 10": Bar("`load`, whole command, 10 rules in YAML, never loaded before", 0.6, " s"),
    "load 10 again": Bar("the same, unchanged since a load before", 0.6, " s"),
    "load 10k": Bar("`load`, whole command, 10,000 rules in YAML, never loaded before", 1.5, " s"),
    "load 10k again": Bar("the same, unchanged since a load before", 1.5, " s"),
    "load 100k": Bar("`load`, whole command, 100,000 rules in a rules file, never loaded before", 1.5, " s"),
    "load 100k again": Bar("the same, unchanged since a load before", 1.5, " s"),
    "load 100k nft": Bar("`load` of 100,000 rules, never loaded before / nft -f of the same", 1.0, "x"),
    "load peak": Bar("peak memory of `load`, 100,000 rules", 500, " MiB"),
    "counting": Bar("whole path with all counting / without any, 256 flows", 1.10, "x"),
    "owners": Bar("whole path with --account-owners, owner known / without, 256 flows", 1.8, "x"),
    "tc 256": Bar("added cost of TC egress / of XDP, 10,000 rules, 256 flows, mean", 1.25, "x"),
    "tc 65536": Bar("the same, 65,536 flows", 1.25, "x"),
    "verifier xdp": Bar("instructions that the verifier processes: XDP", 100_000),
    "verifier tc": Bar("the same: TC", 100_000),
    "verifier xdp owners": Bar("the same: XDP with --account-owners", 100_000),
    "verifier tc owners": Bar("the same: TC with --account-owners", 100_000),
}  # fmt: skip
