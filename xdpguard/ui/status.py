"""``status``: what is loaded where, as text for people. Pure; ``jsondoc`` has the same for programs."""

from __future__ import annotations

from tabulate import tabulate

from xdpguard.guard.model import Generation, InterfaceStatus
from xdpguard.ui.text import nothing, place, printable, size, utc

FORMATS = ("table", "json")


def render(found: list[InterfaceStatus], format: str, netns: str | None = None) -> str:
    """A whole document that ends in a newline. ``netns``: the only namespace that was asked for."""
    if format == "json":
        from xdpguard.ui import jsondoc

        return jsondoc.status_document(found)
    if not found:
        return f"{nothing(netns)}\n"
    return "\n".join(_block(one) for one in found)


def _block(one: InterfaceStatus) -> str:
    lines = [("mode", one.mode), ("rules", _generation(one.active))]
    if one.previous is not None:
        lines.append(("previous", _generation(one.previous)))
    lines += [("confirm", text) for text in _confirm(one)]
    lines.append(("programs", f"XDP {_program(one.xdp_program)}, TC {_program(one.tc_program)}"))
    if one.helpers:
        names = ", ".join(printable(name) for name in one.helpers)
        lines.append(("helpers", f"pass-only program for redirects on {names}"))
    lines.append(("tables", f"{size(one.table_bytes)} of memory a generation"))
    lines += [("PROBLEM", printable(problem)) for problem in one.problems]
    body = tabulate([("", *line) for line in lines], tablefmt="plain", disable_numparse=True)
    state = _state(one)
    return f"{place(one.interface, one.netns)}: {state}\n{body}\n"


def _state(one: InterfaceStatus) -> str:
    if not one.protected():
        return "NOT PROTECTED"
    return "not loaded" if one.active is None else "as loaded"


def _generation(generation: Generation | None) -> str:
    if generation is None:
        return "none"
    if not generation.file:
        return f"built-in: no rules, pass (generation {generation.serial})"
    return (
        f"{printable(generation.file)}: {generation.ingress_rules} ingress and {generation.egress_rules} "
        f"egress rules, generation {generation.serial}, loaded {utc(generation.loaded_at)}"
    )


def _confirm(one: InterfaceStatus) -> list[str]:
    if one.fell_back:
        return ["not confirmed in time: fell back to the rules shown above"]
    if one.confirm_seconds is None:
        return []
    netns = "" if one.netns is None else f" --netns {printable(one.netns)}"
    command = f"xdpguard confirm -i {printable(one.interface)}{netns}"
    return [f"pending: falls back to previous in {one.confirm_seconds:.0f} s unless: {command}"]


def _program(number: int | None) -> str:
    return "not attached" if number is None else f"id {number}"
