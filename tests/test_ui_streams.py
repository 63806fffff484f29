"""What goes to standard output and standard error, and what happens when nobody reads them."""

from __future__ import annotations

import errno
import io
import sys
from typing import Any

import pytest

from xdpguard.errors import KernelError, NotLoadedError, Problem, RulesError
from xdpguard.ui.streams import OutputClosed, complain, emit, report, say


class Failing(io.StringIO):
    """A stream whose writes fail with one error number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number

    def write(self, text: str) -> int:
        raise OSError(self.number, "failed")  # OSError gives BrokenPipeError for EPIPE


def test_an_error_is_one_line_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    report(NotLoadedError("eth0: not loaded"))
    assert capsys.readouterr() == ("", "xdpguard: error: eth0: not loaded\n")


def test_problems_of_a_rule_file_are_printed_as_they_are(capsys: pytest.CaptureFixture[str]) -> None:
    problems = [
        Problem("r.yaml", 3, 7, "error", "port 70000: 0 to 65535 are allowed"),
        Problem("r.yaml", 0, 0, "warning", "no rules"),
    ]
    report(RulesError(problems))
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "r.yaml:3:7: error: port 70000: 0 to 65535 are allowed\nr.yaml: warning: no rules\n"


def test_messages_are_escaped(capsys: pytest.CaptureFixture[str]) -> None:
    say("a\x1b[2J")
    complain("b\x07")
    report(RulesError([Problem("c\x1b", 1, 1, "error", "d\ne")]))
    assert capsys.readouterr().err == "a\\x1b[2J\nxdpguard: error: b\\x07\nc\\x1b:1:1: error: d\\ne\n"


def test_a_verifier_log_keeps_its_lines(capsys: pytest.CaptureFixture[str]) -> None:
    complain("eth0: the verifier refused\n0: r1 = 0\n1: exit")
    err = capsys.readouterr().err
    assert err == "xdpguard: error: eth0: the verifier refused\n0: r1 = 0\n1: exit\n"


def test_a_reader_that_is_gone_is_told_apart_from_a_full_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", Failing(errno.EPIPE))
    with pytest.raises(OutputClosed):
        emit("x")
    monkeypatch.setattr(sys, "stdout", Failing(errno.ENOSPC))
    with pytest.raises(KernelError, match="cannot write to standard output: failed"):
        emit("x")


class Short(io.RawIOBase):
    """An unbuffered file that takes a few bytes at a time, as a write() does that a signal cuts short."""

    def __init__(self) -> None:
        self.taken = b""

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        few = bytes(data)[:7]
        self.taken += few
        return len(few)


def test_nothing_is_lost_where_standard_output_has_no_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    """PYTHONUNBUFFERED. Python itself loses what is left of a write that was cut short."""
    file = Short()
    unbuffered: Any = file  # as Python makes it, though its types forbid it
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(unbuffered, "utf-8", write_through=True))
    emit("a line of text, \N{SNOWMAN}\n" * 3)
    assert file.taken.decode() == "a line of text, \N{SNOWMAN}\n" * 3


def test_standard_output_may_be_closed_from_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    with pytest.raises(OutputClosed):
        emit("x")


@pytest.mark.parametrize("stream", [None, Failing(errno.EPIPE), Failing(errno.ENOSPC)])
def test_progress_that_nobody_can_read_stops_nothing(
    stream: Failing | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", stream)
    say("loading")
