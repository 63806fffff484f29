"""Fixtures of the VM tests: the kernel that a run is about, and the machines of a module.

``--kernel NAME`` picks one of kernels.toml. A kernel that cannot be had skips what needs it, with the reason.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from vmlab import kernels, topology
from vmlab.errors import NotFetched
from vmlab.kernels import Image
from vmlab.lab import Lab

DEFAULT = "6.12"


def pytest_addoption(parser: pytest.Parser) -> None:
    names = ", ".join(kernel.name for kernel in kernels.listed())
    parser.addoption("--kernel", default=DEFAULT, help=f"kernel of the VM lab: {names}; default {DEFAULT}")


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
