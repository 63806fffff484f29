"""The command line: which commands and options there are, and their help. Runs no command."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import Any, NoReturn

from xdpguard import __version__
from xdpguard.cli import trace_options
from xdpguard.ui.rows import VIEWS
from xdpguard.ui.stats import FORMATS as STATS_FORMATS
from xdpguard.ui.streams import emit, say

MODES = ("auto", "native", "generic")
STATUS_FORMATS = ("table", "json")
RESTORE_FORMATS = ("text", "json")
CONFIRM_MAX = 86_400
WATCH_MIN = 0.1
WATCH_MAX = 86_400.0

EXIT_CODES = """\
exit codes:
  0 done; 1 rule file refused; 2 usage; 3 permission; 4 no such interface, or not loaded;
  5 foreign or changed program; 6 preflight refused; 7 the kernel refused; 130 interrupted
"""

EXAMPLES = {
    "check": "xdpguard check rules/demo.yaml",
    "load": "xdpguard load -i eth0 rules/allow-ssh-only.yaml --confirm 60",
    "confirm": "xdpguard confirm -i eth0",
    "rollback": "xdpguard rollback -i eth0",
    "unload": "xdpguard unload -i eth0",
    "restore": "xdpguard restore -i eth0",
    "status": "xdpguard status --format json",
    "stats": "xdpguard stats -i eth0 --by rule --watch 1",
    "trace": "xdpguard trace -tio --container web,db --port 443 --format json",
}


class Parser(argparse.ArgumentParser):
    """Writes as every command does. argparse itself drops a failed write from Python 3.13 on."""

    def print_help(self, file: Any = None) -> None:
        emit(self.format_help())

    def error(self, message: str) -> NoReturn:
        for line in self.format_usage().splitlines():
            say(line)
        say(f"{self.prog}: error: {message}")
        raise SystemExit(2)


class Version(argparse.Action):
    """``--version``, written as every command writes."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        emit(f"xdpguard {__version__}\n")
        parser.exit()


class Once(argparse.Action):
    """Stores a value and refuses a second one: the last of two would win unseen."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        if getattr(namespace, self.dest, None) is not None:
            raise argparse.ArgumentError(self, "may be given once only")
        setattr(namespace, self.dest, values)


class Several(argparse.Action):
    """Collects values in their order and refuses one that is there already."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        given: list[Any] = getattr(namespace, self.dest, None) or []
        if values in given:
            raise argparse.ArgumentError(self, f"{values!r} is given twice")
        setattr(namespace, self.dest, [*given, values])


def confirm_seconds(text: str) -> int:
    if not (text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= CONFIRM_MAX):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of seconds from 1 to {CONFIRM_MAX}")
    return int(text)


def watch_seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not WATCH_MIN <= seconds <= WATCH_MAX:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a number of seconds from {WATCH_MIN} to {WATCH_MAX:.0f}"
        )
    return seconds


def parser() -> argparse.ArgumentParser:
    """The whole command line. The result of parsing has ``command`` and that command's options."""
    top = Parser(
        prog="xdpguard",
        description="Filter and count the packets of an interface, in (XDP) and out (TC), by rules in YAML.",
        epilog=f"{EXIT_CODES}\nexample:\n  {EXAMPLES['load']}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--version", action=Version, nargs=0, default=argparse.SUPPRESS, help="show the version")
    top.add_argument("--debug", action="store_true", help="show the traceback of an error")
    commands = top.add_subparsers(
        title="commands (`xdpguard COMMAND --help` shows the options)",
        dest="command", metavar="COMMAND", required=True,
    )  # fmt: skip
    _check(commands)
    _load(commands)
    _verb(commands, "confirm", "keep the rules that were loaded with --confirm")
    _verb(commands, "rollback", "go back to the previous rules; a second time: forward again")
    _verb(commands, "unload", "remove xdpguard's programs, maps and counters from the interface")
    _restore(commands)
    _status(commands)
    _stats(commands)
    _trace(commands)
    return top


Commands = Any  # argparse names the type of add_subparsers' result in private


def _command(commands: Commands, name: str, text: str) -> argparse.ArgumentParser:
    command: argparse.ArgumentParser = commands.add_parser(
        name,
        help=text,
        description=f"{text[0].upper()}{text[1:]}.",
        epilog=f"example:\n  {EXAMPLES[name]}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.add_argument("--debug", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    return command


def _netns(command: argparse.ArgumentParser, default: str) -> None:
    command.add_argument(
        "--netns",
        metavar="NAME",
        action=Once,
        help=f"network namespace of the interface (default: {default})",
    )


def _interfaces(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "-i",
        "--interface",
        dest="interfaces",
        metavar="IF",
        action=Several,
        required=True,
        help="interface; may be given several times: then all change, or none",
    )
    _netns(command, "the caller's own")


def _one_interface(command: argparse.ArgumentParser, every: str = "every one that is loaded") -> None:
    command.add_argument("-i", "--interface", metavar="IF", action=Once, help=f"interface (default: {every})")
    _netns(command, "with -i the caller's own, else all")


def _check(commands: Commands) -> None:
    check = _command(commands, "check", "read rule files and report every error as FILE:LINE:COL")
    check.add_argument("rules", metavar="RULES", nargs="+", help="rule file")
    check.add_argument("--verbose", action="store_true", help="also tell what tables the rules become")


def _load(commands: Commands) -> None:
    load = _command(commands, "load", "put a rule file in force; what was in force decides until then")
    _interfaces(load)
    load.add_argument("rules", metavar="RULES", help="rule file")
    load.add_argument(
        "--mode",
        choices=MODES,
        action=Once,
        help="XDP mode; auto: the mode in force if loaded, else native, then generic, and say which "
        "(default: auto)",
    )
    load.add_argument(
        "--confirm",
        metavar="SECONDS",
        type=confirm_seconds,
        action=Once,
        help=f"the kernel goes back to the previous rules by itself after SECONDS (1 to {CONFIRM_MAX}) "
        "unless `xdpguard confirm` comes first",
    )
    load.add_argument(
        "--account-owners",
        action=argparse.BooleanOptionalAction,
        help="also count by process, user and container, for `stats --by`; a reload without the option "
        "leaves it as it is (default: no)",
    )
    load.add_argument("--force", action="store_true", help="load even if the preflight refuses")
    load.add_argument(
        "--verbose",
        action="store_true",
        help="also tell what tables the rules become, and what the verifier counted",
    )


def _verb(commands: Commands, name: str, text: str) -> None:
    _interfaces(_command(commands, name, text))


def _restore(commands: Commands) -> None:
    restore = _command(
        commands,
        "restore",
        "load again what was confirmed last, after a reboot or when it is lost",
    )
    _one_interface(restore, "every one of which rules are kept")
    restore.add_argument("--force", action="store_true", help="load even if the preflight refuses")
    restore.add_argument(
        "--format",
        choices=RESTORE_FORMATS,
        action=Once,
        help="text: on standard error only, as load; json: a document on standard output too (default: text)",
    )


def _status(commands: Commands) -> None:
    status = _command(commands, "status", "show what is loaded where, and whether it still protects")
    _one_interface(status)
    status.add_argument("--format", choices=STATUS_FORMATS, action=Once, help="output (default: table)")


def _stats(commands: Commands) -> None:
    stats = _command(commands, "stats", "show the counters")
    _one_interface(stats)
    stats.add_argument(
        "--by", choices=VIEWS, action=Once, help="one kind of counters only (json: always the whole document)"
    )
    stats.add_argument(
        "--format",
        choices=STATS_FORMATS,
        action=Once,
        help="output (default: table); plain and prometheus are one counter a line, plain without bytes",
    )
    stats.add_argument(
        "--watch",
        metavar="SECONDS",
        type=watch_seconds,
        action=Once,
        help="show totals and rates every SECONDS until Ctrl-C; in a pipe one block each time, "
        "as json one line (prometheus: totals only)",
    )


def _trace(commands: Commands) -> None:
    trace = _command(
        commands, "trace", "show who talks to whom, event by event: process, user, container; Ctrl-C ends it"
    )
    trace_options.add(trace, Once)
