"""Fixtures of the VM tests: the kernel that a run is about, and the machines of a module.

``--kernel NAME`` picks one of kernels.toml; ``kernel`` is each of them in turn, booted once for all that is
tried on every kernel. A kernel that cannot be had skips what needs it, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import large_run
import pytest
import trace_run
from large_run import LargeRun
from trace_run import TraceRun
from vmlab import kernels, topology
from vmlab import trial as trials
from vmlab.errors import LabError, NotFetched
from vmlab.kernels import Image, Kernel
from vmlab.lab import Lab
from vmlab.trial import Trial

DEFAULT = "6.12"
_REPORT = pytest.StashKey[list[str]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    names = ", ".join(kernel.name for kernel in kernels.listed())
    parser.addoption("--kernel", default=DEFAULT, help=f"kernel of the VM lab: {names}; default {DEFAULT}")


@pytest.hookimpl(tryfirst=True)  # before those that are not wanted are taken out
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A run of all stages must end within 20 minutes.

    It traces on the oldest and the newest kernel only, and loads 100,000 rules on the default one.
    """
    between = kernels.listed()[1:-1]
    for item in items:
        kernel = _kernel(item)
        traced_elsewhere = "traced" in _fixtures(item) and kernel in between
        large_elsewhere = "large" in _fixtures(item) and kernel is not None and kernel.name != DEFAULT
        if traced_elsewhere or large_elsewhere:
            item.add_marker(pytest.mark.whole_lab)


def _fixtures(item: pytest.Item) -> list[str]:
    return getattr(item, "fixturenames", [])


def _kernel(item: pytest.Item) -> Kernel | None:
    """What the fixture ``kernel`` is for it."""
    return item.callspec.params.get("kernel") if hasattr(item, "callspec") else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Whose the scripted connections were, on each kernel."""
    if lines := config.stash.get(_REPORT, []):
        terminalreporter.section("trace: owners of the scripted events")
        for line in lines:
            terminalreporter.line(line)


@pytest.fixture(scope="session")
def image(request: pytest.FixtureRequest) -> Image:
    """The kernel of this run, unpacked. One that is not in the list is a usage error, not a skip."""
    name = request.config.getoption("--kernel")
    names = [kernel.name for kernel in kernels.listed()]
    if name not in names:
        raise pytest.UsageError(f"--kernel {name}: there are {', '.join(names)}")
    try:
        return kernels.fetch(kernels.by_name(name))
    except NotFetched as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest, image: Image) -> Iterator[Lab]:
    """The topology that the module names as TOPOLOGY, booted once for all of its tests."""
    with Lab(topology.read(request.module.TOPOLOGY), image) as made:
        yield made


@dataclass(slots=True)
class Ran:
    """What was tried on one kernel: all that the tests of this run ask for. An error is its askers' only."""

    trial: Trial | LabError | None = None
    traced: TraceRun | LabError | None = None
    large: LargeRun | LabError | None = None


@pytest.fixture(scope="session", params=kernels.listed(), ids=lambda kernel: kernel.name)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    found = request.param
    assert isinstance(found, Kernel)
    return found


@pytest.fixture(scope="session")
def ran(kernel: Kernel, request: pytest.FixtureRequest) -> Ran:
    """One boot a kernel. The machine is gone before the first test looks: one at a time."""
    try:
        found = kernels.fetch(kernel)
    except NotFetched as error:
        pytest.skip(str(error))
    items = [item for item in request.session.items if _kernel(item) == kernel]
    wanted = {name for item in items for name in _fixtures(item)}
    done = Ran()
    with Lab(topology.read("single"), found) as lab:
        lab["host"].request("import of the package", 300, do="warm")
        if "trial" in wanted:
            try:
                done.trial = trials.run(lab["host"])
            except LabError as error:
                done.trial = error
        if "large" in wanted:
            try:
                done.large = large_run.run(lab["host"])
            except LabError as error:
                done.large = error
        if "traced" in wanted:
            try:
                done.traced = trace_run.run(lab["host"])
                request.config.stash.setdefault(_REPORT, []).extend(done.traced.report(kernel.name))
            except LabError as error:
                done.traced = error
    return done


@pytest.fixture(scope="session")
def trial(ran: Ran) -> Trial:
    """What the verbs did."""
    if isinstance(ran.trial, LabError):
        raise ran.trial
    assert ran.trial is not None
    return ran.trial


@pytest.fixture(scope="session")
def traced(ran: Ran) -> TraceRun:
    """What the tracing told."""
    if isinstance(ran.traced, LabError):
        raise ran.traced
    assert ran.traced is not None
    return ran.traced


@pytest.fixture(scope="session")
def large(ran: Ran) -> LargeRun:
    """What 100,000 rules did."""
    if isinstance(ran.large, LabError):
        raise ran.large
    assert ran.large is not None
    return ran.large
