"""Rules of one interface where another one is: an index that is used again, a program on two interfaces; and
what is told by commands that put rules in force which nobody asks.
"""

from __future__ import annotations

import os
from dataclasses import replace

import lab as network
import pytest
from crash_scenes import Verdicts, verdicts
from interface_state import CLEAN, await_state
from lab import Lab, inside
from test_lifecycle_support import TOGGLED, Site, dropping
from test_restore_support import back, loaded

from xdpguard.kernel import link, objects, xdp

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, _, _ = TOGGLED


def test_an_interface_with_the_index_of_one_that_moved_away_has_none_of_its_rules(
    site: Site, lab: Lab
) -> None:
    site.load(dropping(A))
    away, third = lab.namespace("away"), lab.namespace("third")
    network.run(site.end.name, "ip", "link", "set", site.end.dev, "netns", away)
    moved = replace(site, end=replace(site.end, name=away))
    assert inside(away, link.find, moved.end.dev).ifindex == site.end.ifindex
    before = verdicts(moved.end)
    pair = ("type", "veth", "peer", "name", "other0", "index", "77")
    network.run(third, "ip", "link", "add", "new0", "index", str(site.end.ifindex), *pair)
    network.run(third, "ip", "link", "set", "new0", "netns", site.end.name)
    new = replace(site, end=replace(site.end, dev="new0"))
    new.load(dropping(B))
    assert (verdicts(new.end), verdicts(moved.end)) == (Verdicts({B}, {B}), before)
    new.unload()
    assert verdicts(moved.end) == before
    moved.load(dropping(B))
    moved.unload()
    await_state(moved.end, lambda found: found == CLEAN)


def test_our_program_on_a_second_interface_is_foreign_there_and_an_unload_leaves_the_first(
    site: Site, lab: Lab
) -> None:
    """As put there by ``bpftool net attach xdp id N dev DEV``."""
    second = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    site.load(dropping(A))
    fd = objects.prog_by_id(inside(site.end.name, link.find, site.end.dev).xdp[0].program)
    inside(site.end.name, xdp.attach, second.end.ifindex, fd, "native")
    os.close(fd)
    assert second.console("unload").code == 4
    assert second.console("load", second.write(dropping(B))).code == 5
    assert verdicts(site.end) == Verdicts({A}, {A})
    assert site.status().problems == ()


def take_off_xdp(site: Site) -> None:
    network.run(site.end.name, "ip", "link", "set", site.end.dev, "xdp", "off")


@pytest.mark.parametrize("command", ["confirm", "rollback"])
def test_a_command_that_puts_rules_in_force_where_nobody_asks_them_says_so(site: Site, command: str) -> None:
    site.load(dropping(A))
    site.load(dropping(B), confirm=600)
    take_off_xdp(site)
    done = site.console(command)
    warning = f"warning: {site.end.dev}: ingress is not filtered: our XDP program is no longer attached"
    assert done.code == 0
    assert warning in done.err


def test_a_restore_that_leaves_rules_behind_another_filter_says_so(site: Site) -> None:
    loaded(site, dropping(A))
    earlier = f"tc filter add dev {site.end.dev} egress prio 3 protocol ip u32 match u32 0 0 flowid 1:1"
    network.run(site.end.name, *earlier.split())
    assert back(site) == "in force"
    dev = site.end.dev
    assert f"warning: {dev}: TC filter of kind u32 (priority 3) runs before ours on {dev}" in site.said
