"""``stats --format table``: for people, under 100 columns (``--by rule`` is as wide as its longest name).

Tables have one line per counter and both directions side by side; rules have a table of their own.
"""

from __future__ import annotations

from collections.abc import Iterable

from tabulate import SEPARATING_LINE, tabulate

from xdpguard.ui import owners
from xdpguard.ui.identity import interface_faults
from xdpguard.ui.rows import KINDS, OWNER_VIEWS, HookRows, InterfaceRows, Row, total
from xdpguard.ui.text import exact, place, printable, scaled, short, shorten, size

TOP_RULES = 20
"""Rules that the overview shows at most."""

_NAME_WIDTH = 40
_Pair = tuple[str, Row, Row]
_Line = list[str] | str


def document(interfaces: list[InterfaceRows], by: str | None, rates: bool) -> str:
    """One block per interface: heading, tables, and a loud line if the counters do not add up."""
    return "\n".join(_block(interface, by, rates) for interface in interfaces)


def _block(interface: InterfaceRows, by: str | None, rates: bool) -> str:
    counts = interface.counts
    mode = "XDP not attached" if counts.mode == "none" else counts.mode
    parts = [f"{place(counts.interface, counts.netns)}: {mode}, generation {counts.generation}"]
    if by == "rule":
        parts.append(_every_rule(interface, rates))
    elif by in OWNER_VIEWS:
        parts += _owners(interface, by, rates)
    else:
        parts.append(_side_by_side(_sections(interface, by), rates))
    parts += _not_delivered(interface.hooks[0], by)
    if by is None:
        parts += _top_rules(interface, rates)
    parts += [f"!!! {fault}" for fault in interface_faults(counts)]
    return "\n\n".join(parts) + "\n"


def _owners(interface: InterfaceRows, by: str, rates: bool) -> list[str]:
    lines: list[_Line] = [owners.seen(interface, rates)]
    found = owners.lines(interface, by, rates)
    if found:
        lines += [SEPARATING_LINE, *found]
    table = _tabulate(lines, owners.headings(rates), text_columns=1)
    return ["\n".join([table, *owners.notes(interface, by)])]


def _sections(interface: InterfaceRows, by: str | None) -> list[list[_Pair]]:
    ingress, egress = interface.hooks
    sections: list[list[_Pair]] = [[("seen", ingress.seen, egress.seen)]]
    if by is not None:
        return [*sections, _pairs(interface, by)]
    reasons = [pair for pair in _pairs(interface, "reason") if pair[1].count.packets or pair[2].count.packets]
    deciders = [
        ("rules", total("rules", ingress.of("rule")), total("rules", egress.of("rule"))),
        *_pairs(interface, "default"),
        *reasons,
    ]
    return [*sections, _pairs(interface, "action"), _pairs(interface, "protocol"), deciders]


def _not_delivered(hook: HookRows, by: str | None) -> list[str]:
    """A line below the actions, once there are frames that it can be said of."""
    known = hook.lost(by)
    sent = [row for row in hook.of("action") if row.name in hook.not_delivered and row.count.packets]
    if "action" not in KINDS[by] or not (sent or any(known.values())):
        return []
    words = [
        f"{name} {exact(known[name]) if name in known else 'not observed'}" for name in hook.not_delivered
    ]
    return [f"not delivered ({hook.hook}): {', '.join(words)}"]


def _pairs(interface: InterfaceRows, kind: str) -> list[_Pair]:
    ingress, egress = (hook.of(kind) for hook in interface.hooks)
    return [(_label(left, right), left, right) for left, right in zip(ingress, egress, strict=True)]


def _label(ingress: Row, egress: Row) -> str:
    if ingress.kind != "default":
        return printable(ingress.name)
    actions = dict.fromkeys((ingress.action, egress.action))
    return f"default ({' / '.join(actions)})"


def _side_by_side(sections: list[list[_Pair]], rates: bool) -> str:
    lines: list[_Line] = []
    for section in sections:
        if lines:
            lines.append(SEPARATING_LINE)
        lines += [
            [label, *_numbers(ingress, rates), *_numbers(egress, rates)] for label, ingress, egress in section
        ]
    columns = _number_columns(rates)
    headings = ["", *_under("ingress", columns), *_under("egress", columns)]
    return _tabulate(lines, headings, text_columns=1)


def _under(title: str, columns: list[str]) -> list[str]:
    return [f"{title}\n{columns[0]}", *(f"\n{column}" for column in columns[1:])]


def _every_rule(interface: InterfaceRows, rates: bool) -> str:
    lines: list[_Line] = []
    for hook in interface.hooks:
        if lines:
            lines.append(SEPARATING_LINE)
        rows = hook.of("rule")
        [default] = hook.of("default")
        reasons = total("reasons", hook.of("reason"))
        lines += [[hook.hook, _rule_name(row), row.action, *_numbers(row, rates)] for row in rows]
        lines.append([hook.hook, "(default)", default.action, *_numbers(default, rates)])
        lines.append([hook.hook, "(reasons)", "", *_numbers(reasons, rates)])
        lines.append([hook.hook, "(seen)", "", *_numbers(hook.seen, rates)])
    return _tabulate(lines, ["hook", "rule", "action", *_number_columns(rates)], text_columns=3)


def _top_rules(interface: InterfaceRows, rates: bool) -> list[str]:
    hits = [(hook.hook, row) for hook in interface.hooks for row in hook.of("rule") if row.count.packets]
    if not hits:
        return []
    hits.sort(key=lambda hit: -hit[1].count.packets)
    lines: list[_Line] = [
        [hook, shorten(_rule_name(row), _NAME_WIDTH), row.action, *_numbers(row, rates)]
        for hook, row in hits[:TOP_RULES]
    ]
    text = _tabulate(lines, ["hook", "rule", "action", *_number_columns(rates)], text_columns=3)
    rest = len(hits) - TOP_RULES
    return [text + (f"\n{rest} more rules with hits: see --by rule" if rest > 0 else "")]


def _rule_name(row: Row) -> str:
    return printable(row.name) + (" (retired)" if row.retired else "")


def _number_columns(rates: bool) -> list[str]:
    return ["packets", "bytes", "pps", "bps"] if rates else ["packets", "bytes"]


def _numbers(row: Row, rates: bool) -> list[str]:
    if not rates:
        return [exact(row.count.packets), size(row.count.bytes)]
    totals = [short(row.count.packets), size(row.count.bytes)]
    if row.rate is None:
        return [*totals, "-", "-"]
    return [*totals, scaled(row.rate.packets), scaled(row.rate.bits)]


def _tabulate(lines: Iterable[_Line], headings: list[str], text_columns: int) -> str:
    # Names are text, even 1e5: tabulate must not read them as numbers.
    align = ["left"] * text_columns + ["right"] * (len(headings) - text_columns)
    text = tabulate(list(lines), headings, tablefmt="simple", disable_numparse=True, colalign=align)
    return "\n".join(line.rstrip() for line in text.splitlines())
