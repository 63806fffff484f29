"""The options of ``xdpguard trace``: letters, filters, and where its output goes. Resolves no name."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any

FORMATS = ("text", "table", "json", "nprobe")
LETTERS = {
    "t": ("--tcp", "TCP events"),
    "u": ("--udp", "UDP events"),
    "i": ("--in", "incoming events: accept, UDP receive"),
    "o": ("--out", "outgoing events: connect, also a failed one, UDP send"),
    "r": ("--retr", "retransmissions"),
    "c": ("--tcpclose", "TCP closes, with what was sent and received"),
}
"""Letter -> (long option, help). ebpflowexport's own, therefore also ``--on``."""

FILTERS = {
    "pid": ("PID", "process"),
    "user": ("USER", "name or number"),
    "container": ("NAME|ID", "name, id, or beginning of an id"),
    "port": ("PORT", "local or remote port"),
    "cidr": ("NETWORK", "local or remote address or network"),
}

DURATION_MIN, DURATION_MAX = 0.1, 31_622_400.0
COUNT_MAX = 10**12


class Words(argparse.Action):
    """Collects what is given several times and in comma lists; a second time is no mistake."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        words = str(values).split(",")
        if "" in words:
            raise argparse.ArgumentError(
                self, f"{values!r} is not a value, or several with commas between them"
            )
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest, None) or []), *words])


def duration(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not DURATION_MIN <= seconds <= DURATION_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from {DURATION_MIN} to {DURATION_MAX:.0f}"
        )
    return seconds


def count(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:13]) <= COUNT_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to {COUNT_MAX}")
    return int(text)


def add(command: argparse.ArgumentParser, once: type[argparse.Action]) -> None:
    """Give ``command`` its options. ``once``: the action that refuses a second value."""
    events = command.add_argument_group("events (without a letter: every one)")
    for letter, (long, text) in LETTERS.items():
        names = [f"-{letter}", long, *(["--on"] if letter == "o" else [])]
        events.add_argument(*names, dest=f"letter_{letter}", action="store_true", help=text)
    filters = command.add_argument_group(
        "filters (several times or a comma list: one of them; different filters: all of them)"
    )
    for name, (metavar, text) in FILTERS.items():
        filters.add_argument(f"--{name}", metavar=metavar, action=Words, help=text)
    filters.add_argument(
        "--netns",
        metavar="NAME|all",
        action=once,
        help="network namespace (default: the caller's own)",
    )
    output = command.add_argument_group("output")
    output.add_argument("--format", choices=FORMATS, action=once, help="default: text")
    output.add_argument(
        "-d", "--no-containers", action="store_true", help="do not ask for the names of containers"
    )
    output.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="everything that is known in each line of text, where the events come from, and what it cost",
    )
    output.add_argument("--duration", metavar="S", type=duration, action=once, help="end after S seconds")
    output.add_argument("--count", metavar="N", type=count, action=once, help="end after N events")
