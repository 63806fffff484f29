"""What the tests of ``restore`` share: a load as the command does it, a reboot, and what is back."""

from __future__ import annotations

import lab as network
from crash_scenes import verdicts
from interface_state import CLEAN, await_state
from lab import inside
from test_lifecycle_support import Site

from xdpguard.errors import NotLoadedError, XdpguardError
from xdpguard.generation import compiled
from xdpguard.guard.load import load
from xdpguard.guard.records import Records
from xdpguard.guard.restore import restore
from xdpguard.kernel import netns, pins
from xdpguard.kernel.delivery import Observation


def loaded(site: Site, text: str, *, confirm: int | None = None, mode: str = "auto") -> None:
    """From a file, as the command does it."""
    rules = compiled.read(str(site.write(text)), site.said.append)
    load(
        [site.end.dev], rules, mode=mode, netns=site.end.name, confirm=confirm, force=False,
        say=site.said.append, verbose=False,
    )  # fmt: skip


def reboot(site: Site) -> None:
    """Programs, maps and pins are gone, as after a power cut; the disk is as it was."""
    end = site.end
    for mode in ("xdp", "xdpgeneric"):
        network.run(end.name, "ip", "link", "set", end.dev, mode, "off", check=False)
    network.run(end.name, "tc", "qdisc", "del", "dev", end.dev, "clsact")
    lose_pins(site)
    await_state(end, lambda found: found == CLEAN)


def lose_pins(site: Site) -> None:
    inode, ifindex = inside(site.end.name, netns.identity).inode, site.end.ifindex
    for place in pins.of(inode, ifindex):
        pins.remove(place)
    Observation(inode, ifindex).remove()


def records(site: Site) -> Records:
    return Records(site.end.name, site.end.dev)


def back(site: Site, **options: bool) -> str:
    """What became of the interface, which is no error."""
    (found,) = restore(site.end.dev, site.end.name, site.said.append, **options)
    assert found.error is None, found.error
    return found.result


def refusal(site: Site, *unfiltered: str) -> XdpguardError:
    """Why nothing comes back. ``unfiltered``: the hooks that it says are open, by default both."""
    (found,) = restore(site.end.dev, site.end.name, site.said.append)
    assert found.error is not None
    assert found.unfiltered == (unfiltered or ("ingress", "egress"))
    return found.error


def comes_back(site: Site, *ports: int) -> None:
    """After a reboot."""
    reboot(site)
    assert back(site) == "restored"
    assert verdicts(site.end).whole(set(ports))


def nothing_comes_back(site: Site) -> None:
    reboot(site)
    error = refusal(site)
    assert isinstance(error, NotLoadedError)
    assert "no confirmed rules are kept" in str(error)
