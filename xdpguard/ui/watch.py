"""``stats --watch``: the same picture again and again, in place on a terminal, block after block in a pipe.

Reads no counter, knows no clock and never sleeps: it is given snapshots and a way to wait.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from xdpguard.stats.model import Snapshot
from xdpguard.ui.stats import render, render_block
from xdpguard.ui.text import utc

# ECMA-48 and xterm control sequences. A second screen keeps what was on the terminal; without line wrap the
# terminal itself cuts long lines.
ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l"
LEAVE = "\x1b[?7h\x1b[?25h\x1b[?1049l"
HOME = "\x1b[H"
CLEAR_LINE = "\x1b[K"
CLEAR_BELOW = "\x1b[J"

Emit = Callable[[str], None]
Wait = Callable[[float], None]


def in_pipe(
    snapshots: Iterable[Snapshot], seconds: float, wait: Wait, emit: Emit, by: str | None, format: str
) -> None:
    """One block per snapshot, no control sequences. Ends with the snapshots, or quietly with Ctrl-C."""
    previous = None
    try:
        for snapshot in snapshots:
            block = render_block(snapshot, by, format, previous or snapshot, first=previous is None)
            if format in ("table", "plain"):
                block = _dated(block, snapshot)
            emit(block)
            previous = snapshot
            wait(seconds)
    except KeyboardInterrupt:
        return


def on_terminal(
    snapshots: Iterable[Snapshot],
    seconds: float,
    wait: Wait,
    emit: Emit,
    by: str | None,
    format: str,
    height: Callable[[], int],
) -> None:
    """Refresh in place; ``height`` gives the terminal's rows now. Ctrl-C ends it normally.

    However it ends, the terminal is put back and the last picture is left on it, whole.
    """
    previous = None
    picture = ""
    try:
        emit(ENTER)
        for snapshot in snapshots:
            picture = render(snapshot, by, format, previous or snapshot)
            title = f"{utc(snapshot.time)}, every {seconds:g} s, Ctrl-C ends"
            emit(frame(f"{title}\n\n{picture}", height()))
            previous = snapshot
            wait(seconds)
    except KeyboardInterrupt:
        return
    finally:
        emit(LEAVE + picture)


def frame(text: str, height: int) -> str:
    """``text`` as one overwrite of the screen from its home, in at most ``height`` rows, the last one unused.

    What does not fit is cut at the bottom, and the last row says how much.
    """
    lines = text.splitlines()
    room = max(height - 1, 1)
    if len(lines) > room:
        hidden = len(lines) - room + 1
        lines = [*lines[: room - 1], f"... {hidden} more lines: make the window taller, or use --by"]
    return HOME + "".join(f"{line}{CLEAR_LINE}\n" for line in lines) + CLEAR_BELOW


def _dated(block: str, snapshot: Snapshot) -> str:
    gap = "\n" if block.startswith("\n") else ""
    return f"{gap}{utc(snapshot.time)}\n{block.removeprefix(gap)}"
