"""Figures of live traffic over veth pairs: xdpguard and its peers dropping, each in a namespace of its own,
in turn."""

from __future__ import annotations

import os
import statistics
from contextlib import ExitStack
from dataclasses import dataclass

import generator
import numpy as np
import peers
import traces
from contenders import Ours
from filterset import Filters, Headers, ruleset
from livegen import Generator, Road
from study import Study, Table

from xdpguard.rules.model import Action

_FLOWS = 256
Setting = tuple[Road, Headers]
PANEL = "live, 256 flows"


@dataclass(frozen=True, slots=True)
class Stage:
    """Makes roads; all of them go when the stack does."""

    study: Study
    stack: ExitStack

    def road(self, name: str) -> Road:
        road = Road(name)
        self.stack.callback(road.close)
        return road

    def empty(self, name: str, filters: Filters) -> Setting:
        """A program that drops at once: the floor."""
        road, fd = self.road(name), self.study.harness.own("dropping_xdp")
        self.stack.callback(os.close, fd)
        road.attach(fd)
        return road, traces.flows(filters, _FLOWS)

    def ours(self, name: str, filters: Filters) -> Setting:
        """The shipped programs with rules that all drop."""
        ours = Ours(ruleset(filters, actions=(Action.DROP,)))
        self.stack.callback(ours.close)
        road = self.road(name)
        road.attach(ours.xdp.fd)
        return road, traces.flows(filters, _FLOWS)

    def nft(self, name: str, filters: Filters, kind: str) -> Setting:
        road = self.road(name)
        if kind == "single":
            text = peers.nft_single(road.INTO)
        else:
            text = {"linear": peers.nft_linear, "set": peers.nft_set}[kind](filters, road.INTO)
        peers.nft(road, text)
        return road, traces.flows(filters, _FLOWS)

    def iptables(self, name: str, filters: Filters) -> Setting:
        road = self.road(name)
        peers.iptables(road, filters)
        return road, traces.flows(filters, _FLOWS)

    def xdp_filter(self, name: str, filters: Filters) -> Setting:
        road = self.road(name)
        self.stack.callback(peers.XdpFilter(road, filters.ports[:, 1, 0].tolist()).close)
        return road, traces.flows(filters, _FLOWS)


def measure(study: Study, settings: dict[str, Setting]) -> dict[str, float]:
    """Median ns of a packet for each, in turn; generator and veth included."""
    generator_, seconds = Generator(study.harness), 0.15 if study.quick else 0.5
    seen: dict[str, list[float]] = {name: [] for name in settings}
    for _ in range(study.rounds):
        for name, (road, headers) in settings.items():
            study.harness.send(headers)
            seen[name].append(generator_.rate(road, seconds).nanoseconds)
    found = {name: statistics.median(values) for name, values in seen.items()}
    study.say("  " + ", ".join(f"{name} {one:,.0f} ns" for name, one in found.items()))
    return found


def port_rules(filters: Filters) -> Filters:
    """Those for TCP or UDP: every packet that is drawn from them is then dropped by every peer."""
    return filters.take(np.flatnonzero(np.isin(filters.protocol, (6, 17))))


def against_xdp_filter(study: Study) -> None:
    keys = ("xdp-filter 10k", "xdp-filter 10")
    if why := peers.missing("xdp-filter"):
        for key in keys:
            study.answer(key, None, why)
        return
    many = port_rules(generator.generate("acl1", 12_000)).first(10_000)
    ten = generator.ten_ports()
    with ExitStack() as stack:
        stage = Stage(study, stack)
        found = measure(
            study,
            {
                "floor": stage.empty("floor", many),
                "xdpguard, 10,000 rules": stage.ours("many", many),
                "xdpguard, 10 ports": stage.ours("ten", ten),
                "xdp-filter, 1 port": stage.xdp_filter("one", ten.first(1)),
                "xdp-filter, 10 ports": stage.xdp_filter("ports", ten),
            },
        )
    study.answer(keys[0], found["xdp-filter, 1 port"] / found["xdpguard, 10,000 rules"], _notes(found))
    study.answer(keys[1], found["xdp-filter, 10 ports"] / found["xdpguard, 10 ports"], _notes(found))
    for rules, name in ((1, "xdp-filter, 1 port"), (10, "xdp-filter, 10 ports")):
        study.curve(PANEL, "xdp-filter (ports)", rules, found[name])
    _table(study, "Live: beside xdp-filter", found)


def against_nft(study: Study) -> None:
    if why := peers.missing("nft"):
        study.answer("nft linear", None, why)
        study.answer("nft set", None, why)
        return
    rules = port_rules(generator.generate("acl1", 6_000)).first(5_000)
    with ExitStack() as stack:
        stage = Stage(study, stack)
        found = measure(
            study,
            {"xdpguard, 5,000": stage.ours("ours", rules), "nft, 5,000": stage.nft("nft", rules, "linear")},
        )
    study.answer("nft linear", found["nft, 5,000"] / found["xdpguard, 5,000"], _notes(found))
    _table(study, "Live: beside nftables, linear", found)
    listed = generator.disjoint(10_000)
    with ExitStack() as stack:
        stage = Stage(study, stack)
        found = measure(
            study,
            {
                "floor": stage.empty("floor", listed),
                "xdpguard, 10,000": stage.ours("ours", listed),
                "nft, one rule": stage.nft("single", listed, "single"),
                "nft set, 10,000": stage.nft("set", listed, "set"),
            },
        )
    ours = found["xdpguard, 10,000"] - found["floor"]
    study.answer("nft set", ours / (found["nft set, 10,000"] - found["nft, one rule"]), _notes(found))
    _table(study, "Live: beside nftables, interval set", found)


def curves(study: Study) -> None:
    """ns of a dropped packet by number of rules, every system."""
    counts = (10, 100, 1_000) if study.quick else (10, 100, 1_000, 10_000)
    for rules in (*counts, 100_000):
        filters = port_rules(generator.generate("acl1", rules + rules // 5 + 10)).first(rules)
        listed = generator.disjoint(rules)
        with ExitStack() as stack:
            stage = Stage(study, stack)
            settings = {"xdpguard": stage.ours("ours", filters)}
            if rules <= 10_000:
                if not peers.missing("nft"):
                    settings["nftables, rules"] = stage.nft("linear", filters, "linear")
                    settings["nftables, interval set"] = stage.nft("set", listed, "set")
                if not peers.missing("iptables-restore"):
                    settings["iptables"] = stage.iptables("tables", filters)
            study.say(f"live at {rules:,} rules")
            for name, one in measure(study, settings).items():
                study.curve(PANEL, name, rules, one)


def _notes(found: dict[str, float]) -> str:
    return ", ".join(f"{name} {one:,.0f} ns" for name, one in found.items())


def _table(study: Study, title: str, found: dict[str, float]) -> None:
    rows = tuple((name, f"{one:,.0f}", f"{1e3 / one:.2f}") for name, one in found.items())
    words = (
        "A packet made, sent, received and dropped on one CPU; 256 flows, 54-byte frames, native XDP on veth."
    )
    study.tables.append(Table(title, words, ("who drops", "ns a packet", "million packets/s"), rows))
