"""The counters of what is loaded -> Snapshot. Only reads; takes no lock."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from xdpguard.abi import abi, reasons
from xdpguard.errors import ForeignError, KernelError, NotLoadedError, PrivilegeError, ReadError
from xdpguard.generation import slots, totals
from xdpguard.generation.manifest import Manifest
from xdpguard.generation.totals import HookTotals, Totals
from xdpguard.kernel import accounts, link, netns, owners, processes
from xdpguard.kernel.accounts import Account
from xdpguard.kernel.delivery import Lost
from xdpguard.kernel.discover import Found, examined
from xdpguard.kernel.maps import ACCOUNTS, MapSet
from xdpguard.kernel.survey import Spot, spots
from xdpguard.stats.model import (
    ACTIONS,
    PROTOCOLS,
    Count,
    HookCounts,
    InterfaceCounts,
    Owners,
    RuleCount,
    Snapshot,
)
from xdpguard.stats.owners import Names, of_hook

_ACTIONS = abi().numbers["XG_ACTIONS"]


def snapshot(interface: str | None, netns_name: str | None, names: Names | None = None) -> Snapshot:
    """One interface, or every one that carries xdpguard. NotLoadedError: nothing of ours on ``interface``.

    ``names``: whom to ask who the owners are; without it owners are left out.
    """
    processes.require("xdpguard stats", "CAP_SYS_ADMIN")
    places = spots(netns_name) if interface is None else [Spot(netns_name, interface)]
    try:
        found = tuple(one for place in places for one in _at(place, interface is not None, names))
    except PermissionError as error:
        needed = processes.needs("CAP_SYS_ADMIN")
        raise PrivilegeError(f"xdpguard stats: {error.strerror}: {needed}; nothing changed") from error
    except ReadError as error:
        raise KernelError(f"xdpguard stats: {error}; nothing changed") from error
    return Snapshot(time.time(), found)


def _at(spot: Spot, named: bool, names: Names | None) -> Iterator[InterfaceCounts]:
    try:
        found = netns.inside(spot.netns, _one, spot.interface, spot.netns, names)
    except NotLoadedError:
        if named:
            raise
        return  # gone since it was listed
    if found is not None:
        yield found
    elif named:
        raise NotLoadedError(f"{spot.interface}: xdpguard is not loaded there")


def _one(interface: str, netns_name: str | None, names: Names | None) -> InterfaceCounts | None:
    with examined(link.find(interface)) as found:
        if found.current is None:
            return None
        if not found.current.current_abi:
            raise ForeignError(
                f"{interface} was loaded by another version of xdpguard: load again, or unload"
            )
        # The accounts first: a packet is in the counters before it is in an account.
        accounted = _accounts(found) if names is not None else None
        counts = _counts(found, found.current, netns_name)
        if accounted is None or names is None:
            return counts
        return replace(counts, owners=replace(_owners(accounted, counts, names), moved=found.moved))


def _accounts(found: Found) -> list[Account] | None:
    """None: not accounted. In an interface that was moved its programs know another namespace's sockets."""
    if found.current is None or ACCOUNTS not in found.current.fds:
        return None
    return [] if found.moved else accounts.read(found.current.fds[ACCOUNTS])


def _owners(accounted: list[Account], counts: InterfaceCounts, names: Names) -> Owners:
    ingress, egress = (
        of_hook(accounted, hook, side.seen(), side.actions["drop"] + side.actions["aborted"], names)
        for hook, side in enumerate((counts.ingress, counts.egress))
    )
    return Owners(owners.kept(), ingress, egress)


def _counts(found: Found, current: MapSet, netns_name: str | None) -> InterfaceCounts:
    slots.settle(current, found.link)
    active = slots.in_force(current.word)
    names = slots.describe(current, active)
    if names is None:
        raise ForeignError(f"{found.link.name}: the slot in force holds no generation: load again")
    value = slots.sum_of(current)
    _add_predecessor(value, found, current)
    lost = found.delivery.read(found.xdp.program if found.xdp is not None else current.get("xdp_program"))
    return InterfaceCounts(
        interface=found.link.name,
        ifindex=found.link.ifindex,
        netns=netns_name,
        generation=slots.serial(current, active),
        mode=found.xdp.mode if found.xdp else "none",
        ingress=_hook(value.hooks[0], names, 0, lost or Lost()),
        egress=_hook(value.hooks[1], names, 1, Lost()),  # TC has no tracepoint that tells
    )


def _add_predecessor(value: Totals, found: Found, current: MapSet) -> None:
    """A set of maps that was replaced and not yet absorbed still holds counts of its own."""
    other = found.other
    epoch = other.get("epoch") if other is not None else 0
    if other is not None and current.get("predecessor") == epoch and epoch not in value.absorbed:
        totals.add_totals(value, slots.sum_of(other))


def _hook(value: HookTotals, names: Manifest, hook: int, lost: Lost) -> HookCounts:
    cells = [Count(*pair) for pair in value.matrix]
    live = [RuleCount(rule.name, rule.action, _count(value, rule.key)) for rule in names.rules[hook]]
    keys = {rule.key for rule in names.rules[hook]}
    retired = [
        RuleCount(rule.name, rule.action, Count(*rule.count), retired=True)
        for key, rule in value.rules.items()
        if key not in keys and rule.count[0]
    ]
    return HookCounts(
        actions={name: sum(cells[index::_ACTIONS], Count()) for index, name in enumerate(ACTIONS)},
        protocols={
            name: sum(cells[index * _ACTIONS : (index + 1) * _ACTIONS], Count())
            for index, name in enumerate(PROTOCOLS)
        },
        reasons={name: Count(*value.reasons[index]) for index, name in enumerate(reasons()) if index},
        rules=(*live, *sorted(retired, key=lambda rule: rule.name)),
        default_action=names.defaults[hook],
        default=Count(*value.default),
        not_delivered={"tx": lost.tx, "redirect": lost.redirect},
    )


def _count(value: HookTotals, key: str) -> Count:
    found = value.rules.get(key)
    return Count(*found.count) if found else Count()
