"""The order of the rooms and the size of things, read from the source itself.

Imports inside functions and under TYPE_CHECKING count like any others: a lazy import is a dependency too.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import xdpguard
from xdpguard.abi import folder

PACKAGE = Path(xdpguard.__file__).resolve().parent
ORDER = (
    "errors",
    "abi",
    "rules",
    "classify",
    "identity",
    "kernel",
    "generation",
    "guard",
    "stats",
    "trace",
    "ui",
    "cli",
)
"""A room imports only from itself and from those before it."""
PRINTING = ("ui", "cli")
STDOUT = "sys.stdout"
ONLY_IN = {
    "ctypes": "kernel",
    "mmap": "kernel",
    "bcc": "kernel",
    "pyroute2": "kernel",
    "numpy": "classify",
}
MODULE_LINES, FUNCTION_LINES, HEADER_LINES, PROGRAM_LINES = 300, 39, 250, 120

Modules = dict[str, Path]


@cache
def modules() -> Modules:
    """Dotted name below the package -> file; a package is named like its folder."""
    found = {}
    for file in sorted(PACKAGE.rglob("*.py")):
        parts = file.relative_to(PACKAGE).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def room(module: str) -> str:
    return module.split(".")[0]


@cache
def tree(file: Path) -> ast.Module:
    return ast.parse(file.read_text(), str(file))


def imports(module: str, known: Modules) -> Iterator[tuple[str, int]]:
    """Absolute dotted names that a module imports, and the line of each."""
    package = module if known[module].name == "__init__.py" else module.rpartition(".")[0]
    for node in ast.walk(tree(known[module])):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = ["xdpguard", *filter(None, package.split("."))]
                base = ".".join([*parts[: len(parts) - node.level + 1], *filter(None, [base])])
            # "from package import module" and "from module import name" look the same.
            yield from ((f"{base}.{alias.name}", node.lineno) for alias in node.names)


def inside(module: str, known: Modules) -> Iterator[tuple[str, int]]:
    """Modules of the package that a module imports."""
    for name, line in imports(module, known):
        top, _, rest = name.partition(".")
        if top != "xdpguard":
            continue
        while rest and rest not in known:
            rest = rest.rpartition(".")[0]
        if rest:  # the package's own __init__ holds the version and nothing else
            yield rest, line


def wrong_way(known: Modules) -> list[str]:
    found = []
    for module in known:
        if room(module) in ("", "__main__"):
            continue
        for other, line in inside(module, known):
            if ORDER.index(room(other)) > ORDER.index(room(module)):
                found.append(f"{module}:{line} imports {other}")
    return found


def cycles(known: Modules) -> list[str]:
    """Each module from which a way leads back to itself."""
    direct = {module: {other for other, _ in inside(module, known)} - {module} for module in known}
    found = []
    for start in known:
        seen: set[str] = set()
        ahead = set(direct[start])
        while ahead:
            seen |= ahead
            ahead = {further for module in ahead for further in direct[module]} - seen
        if start in seen:
            found.append(start)
    return found


def misplaced(known: Modules) -> list[str]:
    """Imports of libraries outside of the one room that may use them."""
    return [
        f"{module}:{line} imports {name}"
        for module in known
        for name, line in imports(module, known)
        if room(module) != ONLY_IN.get(name.split(".")[0], room(module))
    ]


def prints(known: Modules) -> list[str]:
    """Uses of print and of standard output outside of the rooms that talk."""
    found = []
    for module, file in known.items():
        if room(module) in PRINTING:
            continue
        found += [
            f"{module}:{line} imports {name}" for name, line in imports(module, known) if name == STDOUT
        ]
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.Name | ast.Attribute) and ast.unparse(node) in ("print", STDOUT):
                found.append(f"{module}:{node.lineno} uses {ast.unparse(node)}")
    return found


def long_functions(known: Modules) -> list[str]:
    found = []
    for module, file in known.items():
        for node in ast.walk(tree(file)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or 0) - node.lineno + 1
                if lines > FUNCTION_LINES:
                    found.append(f"{module}:{node.lineno} {node.name}: {lines} lines")
    return found


def long_files(files: dict[str, Path], most: int) -> list[str]:
    counts = {name: len(file.read_text().splitlines()) for name, file in files.items()}
    return [f"{name}: {count} lines" for name, count in counts.items() if count > most]


def sources(suffix: str) -> dict[str, Path]:
    found = {str(file.relative_to(folder())): file for file in sorted(folder().rglob(f"*{suffix}"))}
    assert found
    return found


# ---- the rules ------------------------------------------------------------------------------------------
def test_every_room_is_in_the_order() -> None:
    assert {room(module) for module in modules()} - {"", "__main__"} == set(ORDER)


def test_imports_point_one_way() -> None:
    assert wrong_way(modules()) == []


def test_no_module_imports_itself_by_a_detour() -> None:
    assert cycles(modules()) == []


def test_only_ui_and_cli_write_to_standard_output() -> None:
    assert prints(modules()) == []


def test_the_kernel_and_numpy_are_touched_in_one_room_each() -> None:
    assert misplaced(modules()) == []


def test_every_module_says_what_it_owns() -> None:
    assert [module for module, file in modules().items() if not ast.get_docstring(tree(file))] == []


def test_modules_are_small() -> None:
    assert long_files(modules(), MODULE_LINES) == []


def test_functions_are_small() -> None:
    assert long_functions(modules()) == []


def test_c_headers_are_small() -> None:
    assert long_files(sources(".h"), HEADER_LINES) == []


def test_c_programs_are_small() -> None:
    assert long_files(sources(".c"), PROGRAM_LINES) == []


# ---- the checks can fail ----------------------------------------------------------------------------------
WRONG = {
    "upwards": (wrong_way, {"rules/a.py": "from xdpguard.kernel import bpf", "kernel/bpf.py": ""}),
    "upwards, inside a function": (
        wrong_way,
        {"guard/a.py": "def f():\n    import xdpguard.cli.b", "cli/b.py": ""},
    ),
    "upwards, relative": (wrong_way, {"rules/a.py": "from ..ui import b", "ui/b.py": ""}),
    "a cycle of two": (
        cycles,
        {"kernel/a.py": "from xdpguard.kernel import b", "kernel/b.py": "from .a import name"},
    ),
    "a cycle of three": (
        cycles,
        {"ui/a.py": "from . import b", "ui/b.py": "from .c import x", "ui/c.py": "import xdpguard.ui.a"},
    ),
    "print": (prints, {"guard/a.py": "print('x')"}),
    "sys.stdout": (prints, {"kernel/a.py": "import sys\nsys.stdout.write('x')"}),
    "from sys import stdout": (prints, {"kernel/a.py": "from sys import stdout as out"}),
    "ctypes": (misplaced, {"guard/a.py": "import ctypes"}),
    "numpy": (misplaced, {"kernel/a.py": "def f():\n    from numpy.typing import NDArray"}),
    "pyroute2": (misplaced, {"stats/a.py": "from pyroute2 import IPRoute"}),
    "a function of 40 lines": (long_functions, {"ui/a.py": "def f():\n" + "    x = 1\n" * 39}),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_violation_is_found(case: str, tmp_path: Path) -> None:
    check, texts = WRONG[case]
    known: Modules = {}
    for name, text in texts.items():
        file = tmp_path / name
        file.parent.mkdir(exist_ok=True)
        file.write_text(text)
        known[name.removesuffix(".py").replace("/", ".")] = file
    assert check(known)
