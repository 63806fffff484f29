"""``restore`` with its verb replaced: what it passes on, prints and ends with."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import pytest
from cli_fakes import Install, Output, problem

from xdpguard.cli.main import main
from xdpguard.errors import PrivilegeError
from xdpguard.guard.model import Restored

pytestmark = pytest.mark.usefixtures("no_verb_is_real")


@pytest.fixture
def restoring(install: Install, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[object]]:
    """``restoring(results...)`` makes the verb end so; returns what it is called with, and "seeded"."""

    def put(*results: Restored) -> list[object]:
        calls: list[object] = []

        def restore(
            interface: str | None, netns: str | None, say: Callable[[str], None], *, force: bool
        ) -> Iterator[Restored]:
            calls.append((interface, netns, force))
            say("restoring")
            yield from results

        def seed() -> list[str]:
            calls.append("seeded")
            return []

        install("guard.restore", restore=restore)
        monkeypatch.setattr("xdpguard.kernel.owners.needed", lambda: True)
        monkeypatch.setattr("xdpguard.trace.owners.seed", seed)
        return calls

    return put


DAMAGED = Restored("a", "n", "failed", None, problem("kept"), ("ingress", "egress"))
BACK = Restored("b", "n", "restored", "r.yaml")


def test_restore_passes_everything_on(restoring: Callable[..., list[object]], capsys: Output) -> None:
    calls = restoring(BACK)
    assert main(["restore", "-i", "b", "--netns", "n", "--force"]) == 0
    assert calls == [("b", "n", True), "seeded"]
    assert capsys.readouterr() == ("", "restoring\n")


def test_restore_of_all_ends_with_the_code_of_the_first_error(
    restoring: Callable[..., list[object]], capsys: Output
) -> None:
    late = Restored("c", None, "failed", None, PrivilegeError("c: no"))
    assert restoring(BACK, DAMAGED, late) == []
    assert main(["restore"]) == 1
    assert capsys.readouterr().err.splitlines() == [
        "restoring",
        "kept:3:7: error: port 70000: 0 to 65535 are allowed",
        "a (netns n): xdpguard does not filter its ingress and egress",
        "xdpguard: error: c: no",
    ]


@pytest.mark.parametrize("result", ["in force", "pending", "missing"])
def test_restore_of_what_is_left_ends_with_0_and_seeds_nobody(
    result: str, restoring: Callable[..., list[object]]
) -> None:
    calls = restoring(Restored("a", None, result))
    assert main(["restore"]) == 0
    assert calls == [(None, None, False)]


def test_restore_as_json_tells_of_each(restoring: Callable[..., list[object]], capsys: Output) -> None:
    restoring(BACK, DAMAGED)
    assert main(["restore", "--format", "json"]) == 1
    told = json.loads(capsys.readouterr().out)
    assert told["schema"] == "xdpguard.restore/1"
    keys = ("interface", "netns", "result", "file", "exit_code", "error", "unfiltered")
    assert [tuple(one[key] for key in keys) for one in told["interfaces"]] == [
        ("b", "n", "restored", "r.yaml", 0, None, []),
        ("a", "n", "failed", None, 1, str(problem("kept")), ["ingress", "egress"]),
    ]
    assert set(told["interfaces"][0]) == set(keys)
