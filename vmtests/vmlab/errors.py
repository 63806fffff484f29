"""What can go wrong in the lab itself, as opposed to what it tests."""

from __future__ import annotations


class LabError(Exception):
    """The lab could not do its part; the message is one line, log lines may follow it."""


class NotFetched(LabError):
    """A kernel that cannot be had here, with the reason."""
