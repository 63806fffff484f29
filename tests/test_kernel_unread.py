"""What the kernel refuses to tell: one line with what was asked, the reason, and the state of the host."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable

import pytest

from xdpguard.cli.main import main
from xdpguard.errors import KernelError, ReadError
from xdpguard.guard.chosen import chosen, explained
from xdpguard.kernel import features, link, neighbour, netlink, processes, tc

NUMBER = 9
WHO = f"the interface with index {NUMBER}"
WHY = f"{os.strerror(errno.ENOBUFS)} (ENOBUFS)"
ASKED: dict[str, tuple[Callable[[], object], str]] = {
    "an interface by name": (lambda: link.find("eth7"), "the state of eth7"),
    "an interface by number": (lambda: link.by_index(NUMBER), f"the state of {WHO}"),
    "filters": (lambda: tc.attached(NUMBER), f"the TC filters of {WHO}"),
    "qdiscs": (lambda: tc.clsact_kind(NUMBER), f"the TC filters of {WHO}"),
    "features": (lambda: features.xdp_features(NUMBER), f"the XDP features of {WHO}"),
    "routes": (lambda: neighbour.gateways(NUMBER), f"the routes and neighbours of {WHO}"),
}


@pytest.fixture(autouse=True)
def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every question by netlink fails."""

    def fail(*_: object, **__: object) -> list[bytes]:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    monkeypatch.setattr(netlink, "request", fail)
    monkeypatch.setattr(processes, "require", lambda *_: None)


@pytest.mark.parametrize("case", ASKED)
def test_a_refused_question_names_what_was_asked_and_the_errno(case: str) -> None:
    ask, what = ASKED[case]
    with pytest.raises(ReadError) as caught:
        ask()
    assert str(caught.value) == f"cannot read {what}: {WHY}"


@pytest.mark.parametrize("case", ASKED)
def test_whoever_asks_adds_the_state_of_the_host_once(case: str) -> None:
    ask, what = ASKED[case]
    with pytest.raises(KernelError) as caught, explained("outer", "unknown"), explained("inner", "as it was"):
        ask()
    assert str(caught.value) == f"inner: cannot read {what}: {WHY}; as it was"


def test_a_command_that_cannot_find_its_interface_says_that_nothing_changed() -> None:
    with pytest.raises(KernelError) as caught, chosen(["eth7"], "xdpguard load"):
        raise AssertionError("not reached")
    assert str(caught.value) == f"xdpguard load: cannot read the state of eth7: {WHY}; nothing changed"


@pytest.mark.parametrize("command", ["status", "stats", "confirm", "rollback", "unload"])
def test_a_command_ends_with_one_line_that_tells_the_state(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "-i", "eth7"]) == KernelError.exit_code
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.endswith(f"xdpguard {command}: cannot read the state of eth7: {WHY}; nothing changed\n")


def test_a_question_outside_of_any_verb_is_answered_with_how_to_learn_the_state(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdpguard.cli.commands.run", lambda _: link.find("eth7"))
    assert main(["status"]) == KernelError.exit_code
    said = capsys.readouterr().err
    assert f"cannot read the state of eth7: {WHY}: `xdpguard status` tells what is loaded now" in said
    assert said.count("\n") == 1


def test_a_refused_step_is_told_even_if_the_interface_cannot_be_asked_for() -> None:
    refused = link.refusal(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), f"add it to {WHO}", NUMBER)
    words = f"cannot add it to {WHO}: {os.strerror(errno.ENOSPC)} (ENOSPC); nothing changed"
    assert (type(refused), str(refused)) == (KernelError, words)
