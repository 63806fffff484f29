"""Corners of load and unload: circles, modes that stay, what killed unloads leave."""

from __future__ import annotations

import errno
import os

import pytest
from interface_state import CLEAN, await_state, state
from lab import Lab, inside
from test_lifecycle_support import TOGGLED, Site, dropping

from xdpguard.errors import KernelError, NotLoadedError, PreflightError
from xdpguard.guard import targets
from xdpguard.kernel import bpf, link, objects, pins, xdp
from xdpguard.kernel.discover import examined

pytestmark = pytest.mark.usefixtures("no_leaks")
A, B, C, D = TOGGLED


def away(device: str, hook: str) -> str:
    rule = f"{{name: away, proto: udp, dport: 9, action: {{redirect: {{interface: {device}}}}}}}"
    return f"version: 1\n{hook}:\n  - {rule}\n"


def device_map(site: Site) -> list[bytes]:
    def keys() -> list[bytes]:
        with examined(link.find(site.end.dev)) as found:
            assert found.current is not None
            return bpf.map_keys(found.current.fds["targets"], 4)

    return inside(site.end.name, keys)


def test_egress_must_not_redirect_to_its_own_interface(site: Site) -> None:
    with pytest.raises(PreflightError, match="to itself would run in circles; nothing changed"):
        site.load(away(site.end.dev, "egress"))
    assert state(site.end) == CLEAN


def test_a_target_leaves_the_device_map_with_the_last_rules_that_name_it(site: Site, lab: Lab) -> None:
    target = lab.veth(client=site.end.name, ipv6=False).client
    site.load(away(target.dev, "ingress"), mode="generic")
    assert device_map(site) == [target.ifindex.to_bytes(4, "little")]
    for port in (A, B, C):  # until no slot holds the redirect any more
        site.load(dropping(port))
    assert device_map(site) == []


def test_the_mode_stays_when_someone_took_our_program_off(site: Site) -> None:
    site.load(dropping(A), mode="generic")

    def take_off() -> None:
        (attached,) = xdp.attached(site.end.ifindex)
        fd = objects.prog_by_id(attached.program)
        xdp.detach(site.end.ifindex, fd, attached.mode)
        os.close(fd)

    inside(site.end.name, take_off)
    site.load(dropping(B))
    assert site.status().mode == "generic"


def test_a_clean_up_that_fails_says_that_the_new_rules_are_live(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))

    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(targets, "tidy", refuse)
        with pytest.raises(KernelError, match="the new rules are live") as refused:
            site.load(dropping(B))
    assert "Input/output error" in str(refused.value)
    assert site.verdicts() == {B}


def test_an_unload_that_died_among_the_pins_is_finished_by_the_next_one(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    site.load(dropping(A))
    with monkeypatch.context() as patch:
        patch.setattr(pins, "remove", lambda place: None)
        site.unload()
    with pytest.raises(NotLoadedError, match="not loaded there; nothing changed"):
        site.unload()
    await_state(site.end, lambda found: found == CLEAN)
