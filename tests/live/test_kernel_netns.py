"""Working inside a network namespace, and telling which one it is."""

from __future__ import annotations

import os
import signal
import threading

import lab as network
import pytest
from lab import Veth, inside

from xdpguard.errors import NotLoadedError
from xdpguard.kernel import netns

pytestmark = pytest.mark.usefixtures("no_leaks")


def test_identities_and_names_of_namespaces_agree(veth: Veth) -> None:
    here, client, server = (
        netns.identity(),
        *(inside(end.name, netns.identity) for end in (veth.client, veth.server)),
    )
    assert len({here, client, server}) == 3
    assert client.cookie != server.cookie or client.cookie == 0
    assert netns.names()[client.inode] == veth.client.name
    assert netns.names()[server.inode] == veth.server.name
    assert here.inode not in netns.names()
    assert inside(None, netns.identity) == here == netns.identity()


def test_a_name_without_a_namespace_behind_it_is_refused(veth: Veth) -> None:
    for name in ("no-such-name", "", ".", "..", "../ns", "nul\0", "a" * 300):
        with pytest.raises(NotLoadedError, match="no such network namespace"):
            inside(name, netns.identity)
    leftover = netns.FOLDER / f"{network.RUN}file"
    leftover.touch()
    try:
        with pytest.raises(NotLoadedError, match="is not a network namespace"):
            inside(leftover.name, netns.identity)
        assert leftover.name not in netns.names().values()
    finally:
        leftover.unlink()


def test_an_exception_inside_a_namespace_arrives_with_its_traceback(veth: Veth) -> None:
    def fail() -> None:
        raise ZeroDivisionError("inside")

    here = netns.identity()
    with pytest.raises(ZeroDivisionError, match="inside") as caught:
        inside(veth.server.name, fail)
    assert [entry.name for entry in caught.traceback][-1] == "fail"
    assert netns.identity() == here


def test_an_interruption_lets_the_function_clean_up_where_it_works(veth: Veth) -> None:
    here, done = netns.identity(), []

    def work() -> None:
        try:
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait(network.PATIENCE)
        finally:
            done.append(netns.identity())

    with pytest.raises(KeyboardInterrupt):
        inside(veth.server.name, work)
    assert done == [inside(veth.server.name, netns.identity)]
    assert netns.identity() == here
