"""The JSON documents: ``xdpguard.stats/1``, ``xdpguard.status/1`` and ``xdpguard.restore/1``.

Keys may be added later, never renamed, removed or retyped. Output is ASCII: any name survives any terminal.
"""

from __future__ import annotations

import json
from typing import Any

from xdpguard.guard.model import Generation, InterfaceStatus, Restored
from xdpguard.stats.model import Count, HookOwners, OwnedCount, Owners, Snapshot
from xdpguard.ui.rows import HookRows, InterfaceRows, Row
from xdpguard.ui.text import utc

STATS_SCHEMA = "xdpguard.stats/1"
STATUS_SCHEMA = "xdpguard.status/1"
RESTORE_SCHEMA = "xdpguard.restore/1"


def stats_document(snapshot: Snapshot, interfaces: list[InterfaceRows], rates: bool, one_line: bool) -> str:
    """The whole snapshot. With ``rates`` every leaf also has packets_per_second and bits_per_second."""
    document = {
        "schema": STATS_SCHEMA,
        "time": utc(snapshot.time, "milliseconds"),
        "interfaces": [_interface(interface, rates) for interface in interfaces],
    }
    return _text(document, one_line)


def status_document(found: list[InterfaceStatus]) -> str:
    return _text({"schema": STATUS_SCHEMA, "interfaces": [_status(one) for one in found]}, one_line=False)


def restore_document(found: list[Restored]) -> str:
    return _text({"schema": RESTORE_SCHEMA, "interfaces": [_restored(one) for one in found]}, one_line=False)


def _text(document: dict[str, Any], one_line: bool) -> str:
    text = json.dumps(document, separators=(",", ":")) if one_line else json.dumps(document, indent=2)
    # DEL is the one control character that JSON may leave as it is.
    return text.replace("\x7f", "\\u007f") + "\n"


def _interface(interface: InterfaceRows, rates: bool) -> dict[str, Any]:
    counts = interface.counts
    ingress, egress = interface.hooks
    return {
        "interface": counts.interface,
        "ifindex": counts.ifindex,
        "netns": counts.netns,
        "generation": counts.generation,
        "mode": counts.mode,
        "ingress": _hook(ingress, rates),
        "egress": _hook(egress, rates),
        "owners": None if counts.owners is None else _owners(interface, counts.owners, rates),
    }


def _owners(interface: InterfaceRows, owners: Owners, rates: bool) -> dict[str, Any]:
    sides = (owners.ingress, owners.egress)
    ingress, egress = (_owned(*pair, rates) for pair in zip(interface.hooks, sides, strict=True))
    return {"kept": owners.kept, "ingress": ingress, "egress": egress}


def _owned(hook: HookRows, owners: HookOwners, rates: bool) -> dict[str, Any]:
    """``unknown``: why, of the packets whose process is not known."""
    return {
        "processes": [_owner(row, rates, "pid", "uid") for row in hook.of("process")],
        "users": [_owner(row, rates, "uid") for row in hook.of("user")],
        "containers": [_owner(row, rates, "container") for row in hook.of("container")],
        "unknown": {name: _dropping(one) for name, one in owners.reasons.items()},
    }


def _owner(row: Row, rates: bool, *keys: str) -> dict[str, Any]:
    if row.owner is None:
        raise AssertionError("a row of an owner view")
    own = {"id" if key == "container" else key: getattr(row.owner, key) for key in keys}
    return {"name": row.name, **own, **_leaf(row, rates), "dropped": _count(row.owner.dropped)}


def _dropping(one: OwnedCount) -> dict[str, Any]:
    return {**_count(one.count), "dropped": _count(one.dropped)}


def _count(count: Count) -> dict[str, int]:
    return {"packets": count.packets, "bytes": count.bytes}


def _hook(hook: HookRows, rates: bool) -> dict[str, Any]:
    [default] = hook.of("default")
    return {
        "seen": _leaf(hook.seen, rates),
        "actions": {row.name: _leaf(row, rates) for row in hook.of("action")},
        "not_delivered": hook.not_delivered,
        "protocols": {row.name: _leaf(row, rates) for row in hook.of("protocol")},
        "reasons": {row.name: _leaf(row, rates) for row in hook.of("reason")},
        "rules": [
            {"name": row.name, "action": row.action, **_leaf(row, rates), "retired": row.retired}
            for row in hook.of("rule")
        ],
        "default": {"action": default.action, **_leaf(default, rates)},
    }


def _leaf(row: Row, rates: bool) -> dict[str, Any]:
    leaf: dict[str, Any] = {"packets": row.count.packets, "bytes": row.count.bytes}
    if rates:
        leaf["packets_per_second"] = None if row.rate is None else round(row.rate.packets, 3)
        leaf["bits_per_second"] = None if row.rate is None else round(row.rate.bits, 3)
    return leaf


def _status(one: InterfaceStatus) -> dict[str, Any]:
    return {
        "interface": one.interface,
        "ifindex": one.ifindex,
        "netns": one.netns,
        "mode": one.mode,
        "protected": one.protected(),
        "generation": _generation(one.active),
        "previous": _generation(one.previous),
        "confirm_seconds": one.confirm_seconds,
        "fell_back": one.fell_back,
        "xdp_program": one.xdp_program,
        "tc_program": one.tc_program,
        "helpers": list(one.helpers),
        "table_bytes": one.table_bytes,
        "problems": list(one.problems),
    }


def _restored(one: Restored) -> dict[str, Any]:
    return {
        "interface": one.interface,
        "netns": one.netns,
        "result": one.result,
        "file": one.file,
        "exit_code": 0 if one.error is None else one.error.exit_code,
        "error": None if one.error is None else str(one.error),
        "unfiltered": list(one.unfiltered),
    }


def _generation(generation: Generation | None) -> dict[str, Any] | None:
    if generation is None:
        return None
    return {
        "serial": generation.serial,
        "file": generation.file,
        "content_hash": generation.content_hash,
        "loaded_at": utc(generation.loaded_at, "milliseconds"),
        "ingress_rules": generation.ingress_rules,
        "egress_rules": generation.egress_rules,
    }
