"""``vmtests/shell``: a terminal in a machine of the lab, over its second serial line."""

from __future__ import annotations

import argparse
import os
import select
import shutil
import signal
import socket
import sys
import termios
import tty
from pathlib import Path

from vmlab import kernels, topology
from vmlab.errors import LabError
from vmlab.lab import Lab

_LEAVE = b"\x1d"  # Ctrl-]


def main() -> int:
    arguments = _arguments()
    for ending in (signal.SIGHUP, signal.SIGTERM):  # a closed terminal leaves no folder behind
        signal.signal(ending, signal.default_int_handler)
    try:
        if arguments.attach:
            _relay(Path(arguments.attach) / f"{arguments.topology}.shell")
        else:
            _boot(arguments.topology or "redirect", arguments.machine, arguments.kernel)
    except (LabError, OSError) as error:
        print(f"shell: error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vmtests/shell",
        description="Boot a topology and open a shell in one of its machines. Ctrl-] leaves.",
        epilog="example: vmtests/shell redirect filter --kernel 5.10",
    )
    parser.add_argument(
        "topology", nargs="?", help=f"one of {', '.join(topology.available())}; default redirect"
    )
    parser.add_argument("machine", nargs="?", help="default: filter, else the first one")
    parser.add_argument("--kernel", default="6.12", help="a name of kernels.toml; default 6.12")
    parser.add_argument("--attach", metavar="FOLDER", help="open a shell in MACHINE of the lab in FOLDER")
    arguments = parser.parse_args()
    if arguments.attach and not arguments.topology:
        parser.error("--attach FOLDER needs the name of a machine")
    return arguments


def _boot(name: str, machine: str | None, kernel: str) -> None:
    shape = topology.read(name)
    if machine is None:
        machine = "filter" if "filter" in shape.machines else next(iter(shape.machines))
    if machine not in shape.machines:
        raise LabError(f"topology {name} has no machine {machine}; it has {', '.join(shape.machines)}")
    with Lab(shape, kernels.fetch(kernels.by_name(kernel)), lambda text: print(text, flush=True)) as lab:
        size = shutil.get_terminal_size()
        for each in lab.machines.values():
            each.request("shell", 30, do="shell", rows=size.lines, columns=size.columns)
        others = [other for other in shape.machines if other != machine]
        print(f"shell in {machine}; Ctrl-] ends the lab; xdpguard is in the PATH")
        for other in others:
            print(f"in another terminal: vmtests/shell --attach {lab.folder} {other}")
        _relay(lab.folder / f"{machine}.shell")


def _relay(path: Path) -> None:
    """Bytes both ways between this terminal and the serial line, until Ctrl-], or the end of either."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
        line.connect(str(path))
        line.sendall(b"\r")  # for a prompt
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard) if os.isatty(keyboard) else None
        try:
            if before:
                tty.setraw(keyboard)
            _copy(keyboard, line)
        finally:
            if before:
                termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
                print()


def _copy(keyboard: int, line: socket.socket) -> None:
    while True:
        ready, _, _ = select.select([keyboard, line.fileno()], [], [])
        if line.fileno() in ready:
            data = line.recv(65536)
            if not data:
                return
            os.write(sys.stdout.fileno(), data)
        if keyboard in ready:
            data = os.read(keyboard, 4096)
            if not data or _LEAVE in data:
                return
            line.sendall(data)


if __name__ == "__main__":
    sys.exit(main())
