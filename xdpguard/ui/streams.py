"""Standard output and standard error: the only place that writes to them."""

from __future__ import annotations

import errno
import io
import os
import sys
from typing import TextIO

from xdpguard.errors import KernelError, RulesError, XdpguardError
from xdpguard.ui.text import printable


class OutputClosed(Exception):
    """Whoever read standard output is gone: the command ends quietly."""


def emit(text: str) -> None:
    """Write ``text`` to standard output at once. Raises OutputClosed, or KernelError (a full disk)."""
    if sys.stdout is None:  # started with standard output closed
        raise OutputClosed
    try:
        _write_all(sys.stdout, text)
    except BrokenPipeError:
        raise OutputClosed from None
    except OSError as error:
        raise unwritten(error) from error


def _write_all(stream: TextIO, text: str) -> None:
    """PYTHONUNBUFFERED leaves no buffer, and Python then loses the rest of a write() cut by a signal."""
    raw = getattr(stream, "buffer", None)
    if not isinstance(raw, io.RawIOBase):
        stream.write(text)
        stream.flush()
        return
    stream.flush()
    left = memoryview(text.encode(stream.encoding, stream.errors or "strict"))
    while left:
        written = raw.write(left)
        if written is None:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        left = left[written:]


def unwritten(error: OSError) -> KernelError:
    """The exception for output that could not be written."""
    return KernelError(f"cannot write to standard output: {error.strerror}")


def say(line: str) -> None:
    """One line on standard error. A reader that is gone must not stop a load half way: failures end here."""
    if sys.stderr is None:
        return
    try:
        sys.stderr.write(printable(line) + "\n")
        sys.stderr.flush()
    except OSError:
        pass  # there is no other place to say so


def complain(message: str) -> None:
    """``xdpguard: error: message``; further lines of the message (a verifier's log) follow as they are."""
    first, *rest = message.splitlines() or [""]
    say(f"xdpguard: error: {first}")
    for line in rest:
        say(line)


def report(error: XdpguardError) -> None:
    """An exception as the user sees it: problems of a rule file one a line in the form editors read."""
    if isinstance(error, RulesError):
        for problem in error.problems:
            say(str(problem))
    else:
        complain(str(error))
