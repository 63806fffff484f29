"""How a command ends: one line and an exit code for whatever its verb raised."""

from __future__ import annotations

import pytest
from cli_fakes import Install, Output, raising
from test_ui_samples import snapshot

from xdpguard.cli.main import main
from xdpguard.errors import (
    ForeignError,
    Interrupted,
    KernelError,
    NotLoadedError,
    PreflightError,
    PrivilegeError,
    XdpguardError,
)
from xdpguard.ui.streams import OutputClosed

pytestmark = pytest.mark.usefixtures("no_verb_is_real")


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (PrivilegeError("not root"), 3),
        (NotLoadedError("eth0: not loaded"), 4),
        (ForeignError("eth0: program 7 is not ours"), 5),
        (PreflightError("r.yaml:3: would drop your SSH session"), 6),
        (KernelError("eth0: E2BIG"), 7),
        (Interrupted("interrupted: nothing was changed"), 130),
    ],
)
def test_an_expected_error_is_one_line_and_its_own_exit_code(
    error: XdpguardError, code: int, install: Install, capsys: Output
) -> None:
    install("guard.verbs", unload=raising(error))
    assert main(["unload", "-i", "eth0"]) == code
    assert capsys.readouterr() == ("", f"xdpguard: error: {error}\n")


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (
            OSError(5, "Input/output error"),
            "unexpected OSError: [Errno 5] Input/output error: `xdpguard status`",
        ),
        (MemoryError(), "unexpected MemoryError: `xdpguard status`"),
        (BrokenPipeError(32, "Broken pipe"), "unexpected BrokenPipeError"),  # not ours: a netlink socket's
    ],
)
def test_an_unexpected_error_of_the_machine_is_one_line_and_7(
    error: Exception, text: str, install: Install, capsys: Output
) -> None:
    install("guard.verbs", unload=raising(error))
    assert main(["unload", "-i", "eth0"]) == 7
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"xdpguard: error: {text}")
    assert err.count("\n") == 1


def test_debug_shows_the_traceback_and_keeps_the_exit_code(install: Install, capsys: Output) -> None:
    for error, code in ((OSError(5, "x"), 7), (NotLoadedError("x"), 4)):
        install("guard.verbs", unload=raising(error))
        assert main(["--debug", "unload", "-i", "eth0"]) == code
        assert capsys.readouterr().err.startswith("Traceback (most recent call last):\n")


def test_a_bug_shows_its_traceback_and_never_looks_like_a_refused_rule_file(
    install: Install, capsys: Output
) -> None:
    install("guard.verbs", unload=raising(ValueError("bug")))
    assert main(["unload", "-i", "eth0"]) == 7
    err = capsys.readouterr().err
    assert err.startswith("Traceback (most recent call last):\n")
    assert "xdpguard: error: unexpected ValueError: bug" in err


def test_ctrl_c_ends_a_command_with_130(install: Install, capsys: Output) -> None:
    install("guard.verbs", unload=raising(KeyboardInterrupt()))
    assert main(["unload", "-i", "eth0"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("xdpguard: interrupted: ")
    assert err.count("\n") == 1


def test_a_reader_that_is_gone_ends_a_command_quietly(
    install: Install, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    install("stats.read", snapshot=lambda interface, netns: snapshot())
    monkeypatch.setattr("xdpguard.cli.commands.emit", raising(OutputClosed()))
    assert main(["stats"]) == 0
    assert capsys.readouterr() == ("", "")
