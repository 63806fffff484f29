"""The exception tree. Each class carries the exit code its command ends with.

    XdpguardError            1  base: never raised itself
    ├── RulesError           1  the rule file is refused (one or more Problems)
    ├── UsageError           2  the command line is refused
    ├── PrivilegeError       3  the caller lacks a capability, or a path is not readable
    ├── NotLoadedError       4  no such interface, or nothing of ours is loaded there
    ├── ForeignError         5  someone else's program, or ours was changed
    ├── PreflightError       6  the rules would cut the caller off, or a target cannot take frames
    ├── KernelError          7  the kernel refused a step
    │   └── ReadError        7  it refused to tell something; whoever asked adds the state of the host
    └── Interrupted        130  Ctrl-C, SIGTERM or SIGHUP during a command

A message is one line: the place, the value, what is allowed, and what state the host is in.
"""

from __future__ import annotations

import errno
from dataclasses import dataclass


class XdpguardError(Exception):
    """Base of everything a user's command may end with."""

    exit_code = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One finding in a rule file. ``line`` and ``column`` count from 1; 0 means the whole file."""

    file: str
    line: int
    column: int
    severity: str  # "error" | "warning" | "note"
    message: str

    def __str__(self) -> str:
        place = self.file if not self.line else f"{self.file}:{self.line}:{self.column}"
        return f"{place}: {self.severity}: {self.message}"


class RulesError(XdpguardError):
    """The rule file is refused. ``problems`` holds every finding, warnings and notes too, in file order."""

    exit_code = 1

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems
        super().__init__("\n".join(str(problem) for problem in problems))


class UsageError(XdpguardError):
    exit_code = 2


class PrivilegeError(XdpguardError):
    exit_code = 3


class NotLoadedError(XdpguardError):
    exit_code = 4


class ForeignError(XdpguardError):
    exit_code = 5


class PreflightError(XdpguardError):
    exit_code = 6


class KernelError(XdpguardError):
    exit_code = 7


class ReadError(KernelError):
    """Made in ``kernel/``, where nobody knows what the command has done so far."""


class Interrupted(XdpguardError):
    exit_code = 130


def refusal_text(error: OSError) -> str:
    """Why the kernel refused, for a message: its words and the name of the number."""
    return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, str(error.errno))})"
