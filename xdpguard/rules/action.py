"""Actions: of a rule, of the defaults, and where a redirect goes.

Must never ask the kernel whether an interface exists; that is known at load time only.
"""

from __future__ import annotations

import re

from .model import Action, Redirect
from .report import Report
from .text import Refused, has_control, show, suggest
from .tree import Mapping, Node, Scalar, check_keys

VERDICTS = {"pass": Action.PASS, "drop": Action.DROP, "tx": Action.TX}
"""Actions that are one word."""

_OTHER_WORDS = {
    "accept": "pass",
    "allow": "pass",
    "permit": "pass",
    "deny": "drop",
    "block": "drop",
    "discard": "drop",
}
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}\Z")
_MAX_NAME = 15  # IFNAMSIZ - 1 (uapi/linux/if.h)


def read_action(node: Node, report: Report) -> tuple[Action, Redirect | None] | None:
    """The action of a rule, or None when the reason is in the report."""
    if isinstance(node, Scalar):
        verdict = VERDICTS.get(node.text)
        if verdict is not None:
            return verdict, None
        report.error(node.mark, f"unknown action {show(node.text)}; {_hint(node.text)}")
        return None
    if not isinstance(node, Mapping) or not node.marks or not VERDICTS.keys().isdisjoint(node.marks):
        report.error(
            node.mark, "action must be pass, drop, tx or {redirect: {interface: NAME, dst_mac: MAC}}"
        )
        return None
    known = check_keys(node, ("redirect",), "action", report)
    target = node.items.get("redirect")
    redirect = _redirect(target, report) if target is not None else None
    return (Action.REDIRECT, redirect) if known and redirect is not None else None


def _hint(word: str) -> str:
    if word == "redirect":
        return "write {redirect: {interface: NAME}}"
    other = _OTHER_WORDS.get(word.lower())
    return f"did you mean '{other}'?" if other else suggest(word, [*VERDICTS, "redirect"])


def read_default(node: Node, words: dict[str, Action], what: str, report: Report) -> Action | None:
    """One of a few words, such as pass or drop. None when the reason is in the report."""
    if isinstance(node, Scalar):
        found = words.get(node.text)
        if found is not None:
            return found
        other = _OTHER_WORDS.get(node.text.lower(), node.text)
        report.error(node.mark, f"{what} cannot be {show(node.text)}; {suggest(other, words)}")
    else:
        report.error(node.mark, f"{what} takes one word; allowed: {', '.join(words)}")
    return None


def _redirect(node: Node, report: Report) -> Redirect | None:
    if not isinstance(node, Mapping):
        report.error(node.mark, "redirect takes {interface: NAME, dst_mac: MAC}; dst_mac may be left out")
        return None
    before = report.errors
    check_keys(node, ("interface", "dst_mac"), "redirect", report)
    if "interface" not in node.marks:
        report.error(node.mark, "redirect needs an interface")
    found: dict[str, object] = {}
    for key, parse in (("interface", _interface), ("dst_mac", _mac)):
        value = node.items.get(key)
        if isinstance(value, Scalar):
            try:
                found[key] = parse(value.text)
            except Refused as error:
                report.error(value.mark, str(error))
        elif value is not None:
            report.error(value.mark, f"{key} takes one value")
    name, mac = found.get("interface"), found.get("dst_mac")
    if report.errors > before or not isinstance(name, str):
        return None
    return Redirect(name, mac if isinstance(mac, bytes) else None)


def _interface(text: str) -> str:
    """A name the kernel would take (net/core/dev.c, dev_valid_name)."""
    bad = text in (".", "..") or any(c.isspace() or c in "/:" for c in text) or has_control(text)
    if not 1 <= len(text.encode("utf-8", "surrogatepass")) <= _MAX_NAME or bad:
        words = f"a name has 1-{_MAX_NAME} characters without space, '/' and ':', and is not '.' or '..'"
        raise Refused(f"{show(text)} is no interface name; {words}")
    return text


def _mac(text: str) -> bytes:
    if not _MAC.match(text):
        raise Refused(
            f"{show(text)} is no MAC address; write six pairs of hex digits, as in 02:00:00:00:00:02"
        )
    mac = bytes.fromhex(text.replace(":", ""))
    if mac[0] & 1:
        raise Refused(f"{show(text)} is a group MAC address; a frame is redirected to one host only")
    if not any(mac):
        raise Refused(f"{show(text)} is all zero; no host has this MAC address")
    return mac
