"""The console script: from arguments to an exit code. Owns signals and what becomes of an exception."""

from __future__ import annotations

import io
import os
import signal
import sys
import traceback
from types import FrameType

from xdpguard.cli import options
from xdpguard.errors import Interrupted, KernelError, ReadError, XdpguardError
from xdpguard.ui.streams import OutputClosed, complain, report, say, unwritten

_STATE = "`xdpguard status` tells what is loaded now; --debug shows the traceback"


def entry() -> None:
    """The console script. Ends the process."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup has SIGHUP ignored
            signal.signal(number, _terminate)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character must not end a command.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(_flush(main()))


def main(argv: list[str] | None = None) -> int:
    """Run one command line (default: the process's own). Returns the exit code, raises nothing."""
    debug = False
    try:
        arguments = options.parser().parse_args(argv)
        debug = arguments.debug
        from xdpguard.cli import commands

        return commands.run(arguments)
    except SystemExit as end:  # argparse ends so after --help, --version and a usage error
        return end.code if isinstance(end.code, int) else 0
    except OutputClosed:
        return 0
    except (Exception, KeyboardInterrupt) as error:
        return _failed(error, debug)


def _failed(error: BaseException, debug: bool) -> int:
    """Say what happened and give the exit code."""
    bug = not isinstance(error, XdpguardError | KeyboardInterrupt | OSError | MemoryError)
    if debug or bug:
        for line in "".join(traceback.format_exception(error)).splitlines():
            say(line)
    if isinstance(error, ReadError):
        error = KernelError(f"{error}: {_STATE}")
    if isinstance(error, XdpguardError):
        report(error)
        return error.exit_code
    if isinstance(error, KeyboardInterrupt):
        say(f"xdpguard: interrupted: {_STATE}")
        return Interrupted.exit_code
    text = " ".join(str(error).split())
    complain(f"unexpected {type(error).__name__}{': ' if text else ''}{text}: {_STATE}")
    return KernelError.exit_code


def _terminate(number: int, frame: FrameType | None) -> None:
    """SIGTERM, or the terminal closed (SIGHUP), ends a command as Ctrl-C does: every ``finally`` runs."""
    raise KeyboardInterrupt


def _flush(code: int) -> int:
    """Write what is left in the buffer. Returns ``code``, or another one if that fails after a success."""
    try:
        if sys.stdout is not None:
            sys.stdout.flush()
    except OSError as error:
        # Python flushes once more at its end, and would complain in its own way.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        # A reader that is gone ends a command quietly. After a failure the reason was told already.
        if code == 0 and not isinstance(error, BrokenPipeError):
            return _failed(unwritten(error), False)
    return code


if __name__ == "__main__":
    entry()
