"""What a command leaves alone since it is not gone: namespaces that cannot be seen or were made meanwhile.
What is gone is passed over where it was listed, and told where it was named.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import lab as network
import pytest
from interface_state import state
from lab import Lab
from privileges import entered
from test_delivery_support import sending
from test_lifecycle_support import CONSOLE, TOGGLED, Done, Site, dropping, patched, run
from test_status_leftovers import make_older

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import netns, objects, owners, pins, survey
from xdpguard.kernel.survey import Spot

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, *_ = TOGGLED
GONE = "removed the pins of a network namespace that is gone"
NEVER = f"{network.RUN}never"  # a namespace that nobody made
UNSEEING = 'umount -l /run/netns; umount -a -t nsfs; mount -t tmpfs none /run/netns; exec "$@"'
# Its own processes, names and mounts are all that it sees.
CONTAINER = ["unshare", "--pid", "--fork", "--mount", "--mount-proc", "sh", "-ec", UNSEEING, "sh"]


@pytest.fixture
def other(lab: Lab, tmp_path: Path) -> Site:
    """Another interface to load rules on, in namespaces of its own."""
    return Site.of(lab.veth(ipv6=False), tmp_path)


def bare(dev: str) -> list[str]:
    return [f"ip link set {dev} xdp off", f"tc qdisc del dev {dev} clsact"]


def take_off(site: Site) -> None:
    for line in bare(site.end.dev):
        network.run(site.end.name, *line.split())


# --- namespaces that cannot be seen -------------------------------------------------------------------------


def test_a_load_in_a_container_leaves_what_is_pinned_of_namespaces_that_it_does_not_see(
    site: Site, other: Site
) -> None:
    assert site.console("load", "--account-owners", site.write(sending())).code == 0
    before = state(site.end)
    assert {Path(pin).name for pin in before.pins} >= {"control", "accounts", "delivery"}
    path = other.write(dropping(A), "other.yaml")
    done = run(*entered(other.end.name), *CONTAINER, CONSOLE, "load", "-i", other.end.dev, path)
    assert (done.code, GONE in done.err) == (0, False), done.err
    assert (state(site.end), owners.exists()) == (before, True)
    assert site.status().problems == ()
    other.unload()


class Held:
    """A namespace that a mount on a file keeps, as Docker keeps its own: no name, no process. d0 is in it."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.touch()
        make = "ip link add d0 type veth peer name d1; ip link set d0 up"
        subprocess.run(["unshare", f"--net={file}", "sh", "-ec", make], check=True)
        self.inode = file.stat().st_ino

    def run(self, *command: object) -> Done:
        return run("nsenter", f"--net={self.file}", *command)

    def console(self, command: str, *arguments: object) -> Done:
        return self.run(CONSOLE, command, "-i", "d0", *arguments)

    def places(self) -> list[pins.Place]:
        return [place for place in pins.places() if place.inode == self.inode]

    def close(self) -> None:
        if self.places():
            self.console("unload")
        subprocess.run(["umount", str(self.file)], check=True)


@pytest.fixture
def held(tmp_path: Path) -> Iterator[Held]:
    made = Held(tmp_path / "held")
    yield made
    made.close()


@pytest.mark.parametrize("seen_by", [[], CONTAINER], ids=["the mount", "its programs"])
def test_a_load_elsewhere_leaves_the_pins_of_a_namespace_without_name_and_process(
    site: Site, held: Held, seen_by: list[str]
) -> None:
    assert held.console("load", "--account-owners", site.write(dropping(A))).code == 0
    places = held.places()
    if not seen_by:
        for line in bare("d0"):
            assert held.run(*line.split()).code == 0
    path = site.write(dropping(B))
    done = run(*entered(site.end.name), *seen_by, CONSOLE, "load", "-i", site.end.dev, path)
    assert (done.code, GONE in done.err) == (0, False), done.err
    assert (held.places(), len(places)) == (places, 1)
    assert (places[0].accounted(), owners.exists()) == (True, True)
    assert held.console("status").code == (0 if seen_by else 5)


@pytest.mark.parametrize("older", [False, True], ids=["of this version", "of another version"])
def test_what_a_namespace_has_left_that_is_gone_goes_with_the_next_load_elsewhere(
    site: Site, lab: Lab, older: bool
) -> None:
    gone = Site.of(lab.veth(ipv6=False), site.folder)
    inode = (netns.FOLDER / gone.end.name).stat().st_ino
    assert gone.console("load", gone.write(sending())).code == 0
    if older:
        make_older(gone)
    (place,) = [one for one in pins.places() if one.inode == inode]
    subprocess.run(["ip", "netns", "delete", gone.end.name], check=True)
    try:
        await_no_programs(place)
        site.load(dropping(A))
        assert not place.folder.parent.exists()  # with the observation of delivery
    finally:
        subprocess.run(["ip", "netns", "add", gone.end.name], check=True)  # the lab removes what it made


def await_no_programs(place: pins.Place) -> None:
    """The kernel frees a namespace and what is in it a moment after its last use."""
    deadline = time.monotonic() + network.PATIENCE
    while pins.map_ids(place) & objects.maps_of_programs():
        assert time.monotonic() < deadline


# --- namespaces and interfaces that come and go meanwhile ---------------------------------------------------


def test_a_namespace_that_is_made_and_loaded_while_others_are_swept_keeps_its_pins(
    site: Site, lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, made = netns.living, list[Site]()

    def living() -> set[int]:
        """And then it happens. With nothing attached only the pins tell that it was loaded."""
        found = real()
        if not made:
            made.append(Site.of(lab.veth(ipv6=False), site.folder))
            assert made[0].console("load", site.write(dropping(B))).code == 0
            take_off(made[0])
        return found

    monkeypatch.setattr(netns, "living", living)
    site.load(dropping(A))
    assert not any(GONE in line for line in site.said)
    assert made[0].console("status").code == 5
    made[0].unload()


def listing(site: Site, *names: str) -> dict[int, str]:
    """As if the host had no other named namespaces than the site's and these."""
    return {(netns.FOLDER / site.end.name).stat().st_ino: site.end.name} | dict(enumerate(names))


@pytest.mark.parametrize("command", ["status", "stats"])
def test_a_namespace_that_is_deleted_after_it_was_listed_is_passed_over(site: Site, command: str) -> None:
    site.load(dropping(A))
    patch = f"from xdpguard.kernel import netns\nnetns.names = lambda: {listing(site, NEVER)}"
    done = patched(patch, [command, "--format", "json"])
    assert (done.code, site.end.name in done.out) == (0, True), done.err
    assert f"no such network namespace: {NEVER}" in run(CONSOLE, command, "--netns", NEVER).refusal(4)


def test_a_namespace_that_is_deleted_before_it_is_entered_is_told_as_one_that_is_not_there(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(netns, "_path", netns.FOLDER.joinpath)  # it was there
    with pytest.raises(NotLoadedError, match=f"^no such network namespace: {NEVER} .*; nothing changed$"):
        netns.inside(NEVER, netns.identity)
    site.load(dropping(A))
    monkeypatch.setattr(netns, "names", lambda: listing(site, NEVER))
    assert list(survey.spots(None)) == [Spot(site.end.name, site.end.dev)]


# The device is gone when it is asked for the programs that run before the filters.
VANISHING = """
import subprocess
from xdpguard.kernel import link, objects
real = objects.prog_query
def vanish(ifindex, kind):
    if link.label(ifindex) == "{dev}":
        subprocess.run(["ip", "link", "del", "{dev}"], check=True)
    return real(ifindex, kind)
objects.prog_query = vanish
"""


@pytest.fixture
def vanishing(site: Site, lab: Lab) -> Site:
    """A second interface of the site's namespace, loaded."""
    one = Site.of(lab.veth(server=site.end.name, ipv6=False), site.folder)
    site.load(dropping(A))
    one.load(dropping(B))
    return one


def test_an_interface_that_vanishes_while_all_are_looked_at_is_passed_over(
    site: Site, vanishing: Site
) -> None:
    patch = VANISHING.format(dev=vanishing.end.dev)
    done = patched(patch, ["status", "--netns", site.end.name])
    assert (done.code, done.err) == (0, "")
    assert f"{site.end.dev} (netns {site.end.name}): as loaded" in done.out
    assert vanishing.end.dev not in done.out


@pytest.mark.parametrize("command", ["load", "rollback", "status"])
def test_an_interface_that_vanishes_while_it_is_looked_at_is_told_as_gone(
    vanishing: Site, command: str
) -> None:
    rules = [vanishing.write(dropping(A))] if command == "load" else []
    line = patched(VANISHING.format(dev=vanishing.end.dev), vanishing.words(command, *rules)).refusal(4)
    assert "no such interface: " in line
    assert line.endswith("; nothing changed")
