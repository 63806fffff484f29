"""``vmtests/kernels``: the kernels of the lab, and the table of what was found on each."""

from __future__ import annotations

import argparse
import importlib
import os
import struct
import sys

from vmlab import kernels, report, topology, trial
from vmlab.boot import PROJECT
from vmlab.errors import LabError, NotFetched
from vmlab.kernels import Kernel
from vmlab.lab import Lab

TABLE = PROJECT / "docs" / "kernels.md"
_LLVM = b"""
int llvm_version(void *none) { return __clang_major__ << 16 | __clang_minor__ << 8 | __clang_patchlevel__; }
"""


def main() -> int:
    arguments = _arguments()
    try:
        wanted = [kernels.by_name(arguments.name)] if arguments.name else list(kernels.listed())
        return {"list": _list, "fetch": _fetch, "refresh": _refresh, "table": _table}[arguments.command](
            wanted
        )
    except (LabError, OSError) as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="vmtests/kernels", description="The kernels of the VM lab (vmtests/kernels.toml)."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    commands.add_parser("list", help="what there is, and what is in the cache")
    for name, text in (("fetch", "download what is missing"), ("refresh", "download again")):
        commands.add_parser(name, help=text).add_argument(
            "name", nargs="?", metavar="NAME", help="default: all"
        )
    commands.add_parser("table", help="boot each kernel, try xdpguard on it, write docs/kernels.md")
    parser.set_defaults(name=None)
    return parser.parse_args()


def _say(text: str) -> None:
    print(f"vmtests/kernels: {text}", file=sys.stderr, flush=True)


def _list(wanted: list[Kernel]) -> int:
    for kernel in wanted:
        version = kernels.cached(kernel)
        print(f"{kernel.name:8} {kernel.suite:18} {version or 'not fetched'}")
    return 0


def _fetch(wanted: list[Kernel], *, refresh: bool = False) -> int:
    failed = 0
    for kernel in wanted:
        try:
            print(f"{kernel.name:8} {kernels.fetch(kernel, refresh=refresh).version}", flush=True)
        except NotFetched as error:
            _say(f"error: {error}")
            failed = 1
    return failed


def _refresh(wanted: list[Kernel]) -> int:
    return _fetch(wanted, refresh=True)


def _table(wanted: list[Kernel]) -> int:
    """1: fewer than two kernels could be tried; the file is then as it was."""
    rows = [_tried(kernel) for kernel in wanted]
    if sum(bool(one.works) for one in rows) < 2:
        raise LabError("fewer than two kernels could be tried; docs/kernels.md is as it was")
    TABLE.write_text(report.render(_compiler(), rows))
    print(f"{TABLE.relative_to(PROJECT)}: {len(rows)} kernels")
    return 0


def _tried(kernel: Kernel) -> report.Row:
    try:
        with Lab(topology.read("single"), kernels.fetch(kernel), _say) as lab:
            found = trial.run(lab["host"])
    except NotFetched as error:
        _say(str(error))
        return report.not_tried(kernel.name, str(error))
    for name, why in found.reasons.items():
        if why:
            _say(f"{kernel.name}: {name}: {why}")
    return report.row(kernel.name, found)


def _compiler() -> str:
    """BCC's version, and that of the clang inside it, asked of the compiler itself."""
    os.environ["BCC_KERNEL_SOURCE"] = str(PROJECT / "bpf" / "include" / "kbuild")
    bcc = importlib.import_module("bcc")
    code: bytes = bcc.BPF(text=_LLVM, cflags=["-DPAGE_SIZE=4096"]).dump_func(b"llvm_version")
    (number,) = struct.unpack_from("=I", code, 4)  # the first instruction loads the result
    version = f"{number >> 16}.{number >> 8 & 0xFF}.{number & 0xFF}"
    return f"BCC {importlib.import_module('bcc.version').__version__} with LLVM {version}"


if __name__ == "__main__":
    sys.exit(main())
