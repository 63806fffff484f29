"""The option, the hooks and the fixtures that VM tests share; they are made in lab_fixtures.py."""

from lab_fixtures import (
    image,
    kernel,
    lab,
    large,
    pytest_addoption,
    pytest_collection_modifyitems,
    pytest_terminal_summary,
    ran,
    traced,
    trial,
)

__all__ = [
    "image",
    "kernel",
    "lab",
    "large",
    "pytest_addoption",
    "pytest_collection_modifyitems",
    "pytest_terminal_summary",
    "ran",
    "traced",
    "trial",
]
