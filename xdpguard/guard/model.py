"""What ``status`` finds, as plain data. Made by ``guard/status.py``, printed by ``ui/``."""

from __future__ import annotations

from dataclasses import dataclass

from xdpguard.errors import XdpguardError


@dataclass(frozen=True, slots=True)
class Generation:
    """One rule set held in a slot of the kernel's maps."""

    serial: int  # counts up with every load on this interface; 1 is the built-in "no rules: pass"
    file: str  # rule file it came from; "" for the built-in one
    content_hash: str
    loaded_at: float  # seconds since the epoch
    ingress_rules: int
    egress_rules: int


@dataclass(frozen=True, slots=True)
class InterfaceStatus:
    """One interface. ``problems`` is empty when all is as loaded; each entry is one printable line."""

    interface: str
    ifindex: int
    netns: str | None
    mode: str  # "native" | "generic" | "none"
    active: Generation | None
    previous: Generation | None
    confirm_seconds: float | None  # left until the kernel falls back; None when nothing is pending
    fell_back: bool  # the deadline passed unconfirmed: `active` is the set fallen back to
    xdp_program: int | None  # program ids as attached now
    tc_program: int | None
    helpers: tuple[str, ...]  # interfaces that carry our pass-only program for redirects from here
    table_bytes: int  # memory of one generation's tables
    problems: tuple[str, ...]

    def protected(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Restored:
    """What ``restore`` did on one interface.

    ``result``: "restored", with an ``error`` if something could not be cleaned up behind it; "in force":
    rules decided there already and were left; "pending": so too, and they wait for `confirm`; "missing":
    there is no such interface now; "failed".
    """

    interface: str
    netns: str | None
    result: str
    file: str | None = None  # the rule file that was restored, as it was given to `load`
    error: XdpguardError | None = None
    unfiltered: tuple[str, ...] = ()  # of what failed: the hooks without our program
