"""The option and the fixtures that VM tests share; they are made in lab_fixtures.py."""

from lab_fixtures import image, lab, pytest_addoption

__all__ = ["image", "lab", "pytest_addoption"]
