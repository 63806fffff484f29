"""Fixtures that several test files share, and how hypothesis runs here."""

import signal
from collections.abc import Iterator

import pytest
from cli_fakes import install, no_verb_is_real, parser
from hypothesis import HealthCheck, settings
from reached import Figures

__all__ = ["install", "no_verb_is_real", "parser"]

# A machine that is busy with something else is no defect: no test fails by the clock.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")


_REACHED = Figures()


@pytest.fixture(scope="session")
def figures() -> Figures:
    return _REACHED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if lines := _REACHED.lines():
        terminalreporter.section("figures reached")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session", autouse=True)
def ctrl_c() -> Iterator[None]:
    """Ctrl-C works, here and in every command that a test runs: a shell's background job would ignore it. So
    does SIGHUP, which nohup(1) would ignore.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    hung_up = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGINT, before)
    signal.signal(signal.SIGHUP, hung_up)
