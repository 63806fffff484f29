"""One short function per command: call the verb, show its result, give the exit code.

No logic of the filter is here. Every verb is imported when its command runs, because imports are most of what
a command costs.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from xdpguard.errors import ForeignError, NotLoadedError, RulesError, UsageError, XdpguardError
from xdpguard.ui.streams import emit, report, say
from xdpguard.ui.text import nothing, place, printable

if TYPE_CHECKING:
    from xdpguard.guard.model import InterfaceStatus
    from xdpguard.stats.model import Snapshot
    from xdpguard.stats.owners import Names


def run(arguments: argparse.Namespace) -> int:
    """Run the command that was parsed. Returns its exit code or raises XdpguardError."""
    return COMMANDS[arguments.command](arguments)


def check(arguments: argparse.Namespace) -> int:
    codes = [_check_one(file, arguments.verbose) for file in arguments.rules]
    return RulesError.exit_code if RulesError.exit_code in codes else max(codes)


def _check_one(file: str, verbose: bool) -> int:
    try:
        from xdpguard.classify.compile import build
        from xdpguard.rules.parse import load_file

        ruleset = load_file(file)
        for note in ruleset.notes:
            say(note)
        tables = build(ruleset)  # so that what check accepts also compiles
    except XdpguardError as error:
        report(error)
        return error.exit_code
    counts = f"{len(ruleset.ingress.rules)} ingress and {len(ruleset.egress.rules)} egress rules"
    emit(f"{printable(file)}: ok, {counts}\n")
    if verbose:
        for line in tables.summary:
            say(f"{printable(file)}: {line}")
    return 0


def load(arguments: argparse.Namespace) -> int:
    from xdpguard.generation.compiled import read
    from xdpguard.guard.load import load as verb

    rules = read(arguments.rules, say, verbose=arguments.verbose)
    verb(
        arguments.interfaces,
        rules,
        mode=arguments.mode or "auto",
        netns=arguments.netns,
        confirm=arguments.confirm,
        force=arguments.force,
        say=say,
        verbose=arguments.verbose,
        account_owners=arguments.account_owners,
    )
    _seed_owners()
    return 0


def _seed_owners() -> None:
    """Say whose the sockets are that are open now, if owners are accounted."""
    from xdpguard.kernel import owners

    if owners.needed():
        from xdpguard.trace.owners import seed

        for note in seed():
            say(f"warning: {note}")


def confirm(arguments: argparse.Namespace) -> int:
    from xdpguard.guard.verbs import confirm as verb

    verb(arguments.interfaces, arguments.netns, say)
    return 0


def rollback(arguments: argparse.Namespace) -> int:
    from xdpguard.guard.verbs import rollback as verb

    verb(arguments.interfaces, arguments.netns, say)
    return 0


def unload(arguments: argparse.Namespace) -> int:
    from xdpguard.guard.verbs import unload as verb

    verb(arguments.interfaces, arguments.netns, say)
    return 0


def restore(arguments: argparse.Namespace) -> int:
    from xdpguard.guard.restore import restore as verb

    found = []
    for one in verb(arguments.interface, arguments.netns, say, force=arguments.force):
        found.append(one)
        if one.error is not None:
            report(one.error)
        if one.unfiltered:
            hooks = " and ".join(one.unfiltered)
            say(f"{place(one.interface, one.netns)}: xdpguard does not filter its {hooks}")
    if any(one.result == "restored" for one in found):
        _seed_owners()
    if arguments.format == "json":
        from xdpguard.ui.jsondoc import restore_document

        emit(restore_document(found))
    return next((one.error.exit_code for one in found if one.error is not None), 0)


def status(arguments: argparse.Namespace) -> int:
    from xdpguard.guard.status import status as verb
    from xdpguard.ui.status import render

    found = verb(arguments.interface, arguments.netns)
    emit(render(found, arguments.format or "table", arguments.netns))
    return _status_code(found, arguments.interface, arguments.netns)


def _status_code(found: list[InterfaceStatus], interface: str | None, netns: str | None) -> int:
    if any(not one.protected() for one in found):
        return ForeignError.exit_code
    if interface is not None and not any(one.active for one in found):
        say(f"{place(interface, netns)}: xdpguard is not loaded there")
        return NotLoadedError.exit_code
    return 0


def stats(arguments: argparse.Namespace) -> int:
    from xdpguard.stats.read import snapshot as read
    from xdpguard.ui.rows import OWNER_VIEWS
    from xdpguard.ui.stats import render

    format = arguments.format or "table"
    by_owner = arguments.by in OWNER_VIEWS
    if by_owner and arguments.by == "process" and format == "prometheus":
        raise UsageError(
            "stats: processes are too many for prometheus: --by user or container; nothing changed"
        )
    names = {"names": _owner_names()} if by_owner or format == "json" else {}

    def snapshot() -> Snapshot:
        fresh = {key: make() for key, make in names.items()}
        taken = read(arguments.interface, arguments.netns, **fresh)
        _tell(taken, format, arguments.netns, by_owner)
        return taken

    if arguments.watch is not None:
        _watch(snapshot, arguments, format)
    else:
        emit(render(snapshot(), arguments.by, format))
    return 0


def _owner_names() -> Callable[[], Names]:
    """Fresh names for each reading, of one resolver, which keeps what it has learned."""
    from xdpguard.identity.resolver import Resolver
    from xdpguard.stats.owners import Names, paths

    resolver = Resolver()
    path = paths(resolver.cgroup_path)
    return lambda: Names(resolver, path)


def _tell(snapshot: Snapshot, format: str, netns: str | None, by_owner: bool) -> None:
    """On standard error, what the chosen format has no place for."""
    from xdpguard.ui.identity import faults

    if not snapshot.interfaces:
        say(f"{nothing(netns)}: there are no counters")
    if format != "table":
        for fault in faults(snapshot):
            say(f"xdpguard: warning: {fault}")
    if by_owner and format != "table":
        from xdpguard.ui.owners import remarks

        for remark in remarks(snapshot):
            say(f"xdpguard: note: {remark}")


def _watch(snapshot: Callable[[], Snapshot], arguments: argparse.Namespace, format: str) -> None:
    from xdpguard.ui import watch

    endless = iter(snapshot, None)
    terminal = sys.stdout is not None and sys.stdout.isatty()
    if terminal and os.environ.get("TERM", "dumb") != "dumb":
        watch.on_terminal(endless, arguments.watch, time.sleep, emit, arguments.by, format, _terminal_rows)
    else:
        watch.in_pipe(endless, arguments.watch, time.sleep, emit, arguments.by, format)


def _terminal_rows() -> int:
    return shutil.get_terminal_size().lines


def trace(arguments: argparse.Namespace) -> int:
    from xdpguard.cli.trace import run as verb

    return verb(arguments)


COMMANDS: dict[str, Callable[[argparse.Namespace], int]] = {
    "check": check,
    "load": load,
    "confirm": confirm,
    "rollback": rollback,
    "unload": unload,
    "restore": restore,
    "status": status,
    "stats": stats,
    "trace": trace,
}
