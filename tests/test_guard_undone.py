"""A command that fails behind a change never says that nothing changed."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from xdpguard.errors import ForeignError, KernelError, ReadError, XdpguardError
from xdpguard.generation.compiled import Compiled
from xdpguard.guard import attach, confirmed, load, records, stage, targets, verbs
from xdpguard.guard.chosen import restated
from xdpguard.guard.records import Record, Records
from xdpguard.guard.stage import Request, Staged
from xdpguard.kernel import features, link

REFUSED = "cannot detach the native XDP program from eth1: busy (EBUSY); nothing changed"
WHY = REFUSED.removesuffix("; nothing changed")


def raising(error: BaseException) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def staged(said: list[str]) -> Staged:
    found = cast(Any, SimpleNamespace(link=SimpleNamespace(name="eth0", ifindex=2)))
    rules = cast(Compiled, SimpleNamespace(outline=SimpleNamespace(file="a.yaml")))
    return Staged(found, Request(rules, "auto", None, None, False, False, said.append), lambda: None)


def test_an_error_gets_another_state_and_keeps_its_code() -> None:
    changed = restated(ForeignError(REFUSED), "half")
    assert (type(changed), str(changed)) == (ForeignError, f"{WHY}; half")
    changed = restated(ReadError("cannot read it"), "half")
    assert (type(changed), str(changed)) == (KernelError, "cannot read it; half")


@pytest.mark.parametrize("undo", [OSError(errno.EBUSY, "busy"), KernelError(REFUSED)])
def test_a_load_that_cannot_take_a_step_back_does_not_say_that_nothing_changed(undo: Exception) -> None:
    said: list[str] = []
    one = staged(said)
    one.steps.undo.callback(raising(undo))
    with pytest.raises(KernelError) as caught:
        stage.left_behind([one], KernelError("eth0: load a.yaml: no memory; nothing changed"))
    assert str(caught.value) == (
        "eth0: load a.yaml: no memory; not all could be undone: `xdpguard status` tells what is left"
    )
    (warning,) = said
    assert warning.startswith("warning: eth0: not all could be undone: ")
    assert "nothing changed" not in warning


def test_a_load_that_takes_every_step_back_leaves_the_error_as_it_is() -> None:
    stage.left_behind([staged([]), staged([])], KernelError(REFUSED))  # and the caller raises it again


def test_a_sweep_that_fails_after_the_store_says_that_the_new_rules_are_live(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    @contextmanager
    def chosen(*_: object) -> Iterator[tuple[list[object], object]]:
        yield [], SimpleNamespace(check=lambda: None, pending=False)

    monkeypatch.setattr(load, "chosen", chosen)
    monkeypatch.setattr(load, "sweep", raising(KernelError(REFUSED)))
    with pytest.raises(KernelError) as caught:
        load._load([], staged([]).request)
    assert "the new rules are live" in str(caught.value)
    assert WHY in str(caught.value)
    assert "nothing changed" not in str(caught.value)


def test_what_fails_behind_a_load_is_told_without_a_state() -> None:
    one = staged([])
    failing = SimpleNamespace(link=one.found.link, finish=raising(KernelError(REFUSED)), found=one.found)
    assert load._finish(cast(Staged, failing)) == f"eth0: {WHY}"


@pytest.mark.parametrize("error", [KernelError(REFUSED), ForeignError(REFUSED)])
def test_an_unload_that_cannot_clean_up_says_that_it_is_unloaded(
    error: XdpguardError, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attach, "remove", lambda _: None)
    monkeypatch.setattr(verbs, "_clean_up", raising(error))
    monkeypatch.setattr(confirmed, "forget", lambda *_: False)
    monkeypatch.setattr(targets, "used", lambda _: {})
    current = SimpleNamespace(current_abi=False, put=lambda *_: None)
    found = cast(Any, SimpleNamespace(current=current, link=SimpleNamespace(name="eth0")))
    with pytest.raises(type(error)) as caught:
        verbs._take_off(found, lambda _: None)
    assert str(caught.value) == (
        f"{WHY}; eth0 is unloaded, and `xdpguard status` tells what is left elsewhere"
    )


class Stuck(Records):
    """On a disk that moves the mark and then removes no file."""

    def remove(self) -> None:
        raise OSError(errno.EIO, "input/output error")


def test_rules_that_cannot_be_removed_but_do_not_come_back_are_told_as_such(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "FOLDER", tmp_path / "state")
    where = Stuck(None, "eth0")
    where.store(1.5, Record("native", False, False, {"a.yaml": b"version: 1\n"}))
    where.mark(1.5)
    said: list[str] = []
    assert confirmed._forget(where, said.append)
    (warning,) = said
    assert warning.endswith("input/output error: rules that do not come back stay kept there")


def helping(monkeypatch: pytest.MonkeyPatch, answers: list[int | Exception | None]) -> list[str]:
    """Targets that need a helper; what is attached and removed is in the list."""
    done: list[str] = []

    def ask(_: int) -> int | None:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    def attach_helper(one: link.Link, _: object) -> bool:
        done.append(f"+{one.name}")
        return True

    monkeypatch.setattr(features, "xdp_features", ask)
    monkeypatch.setattr(
        link, "find", lambda name: SimpleNamespace(name=name, ifindex=int(name[3:]), xdp=(), kind="veth")
    )
    monkeypatch.setattr(targets, "_attach_helper", attach_helper)
    monkeypatch.setattr(targets, "remove_helper", lambda ifindex: done.append(f"-eth{ifindex}"))
    return done


def prepared(*names: str) -> list[int]:
    redirects = tuple((0, name, "r", "a.yaml:3:5") for name in names)
    plan = cast(Any, SimpleNamespace(redirects=redirects, tx=False))
    return targets.prepare(plan, cast(Any, SimpleNamespace(name="eth0", kind="")), "native", lambda _: None)


def test_a_helper_goes_when_its_target_cannot_be_asked_whether_it_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    done = helping(monkeypatch, [None, None, 0, ReadError("cannot read it")])
    with pytest.raises(ReadError):
        prepared("eth1", "eth2")
    assert done == ["+eth1", "+eth2", "-eth2", "-eth1"]


def test_a_target_is_looked_for_once_so_that_its_helper_is_noted(monkeypatch: pytest.MonkeyPatch) -> None:
    done = helping(monkeypatch, [None, None])
    found = link.find("eth1")
    looks = [found]
    monkeypatch.setattr(link, "find", lambda _: looks.pop())
    assert prepared("eth1") == [1]
    assert done == ["+eth1"]
