"""``trace --format nprobe``: nProbe's JSON keys, one object a line, as ntopng reads them. Pure.

What is not known is left out, as there. A container is given in both shapes that readers look for: its ID at
the top of LOCAL_CONTAINER and in DOCKER; a pod as K8S and as KUBE. ATTRIBUTION and ERROR are ours.
"""

from __future__ import annotations

import json
from typing import Any

from xdpguard.trace.ledger import total
from xdpguard.trace.model import ContainerName, Event, Person, Record
from xdpguard.ui.trace_ledger import Ledger
from xdpguard.ui.trace_words import PROTOCOLS, measured, short_id

HEADER = ""

EVENT_TYPES = {
    "connect": "CONNECT",
    "connect-failed": "CONNECT_FAILED",
    "accept": "ACCEPT",
    "close": "CLOSE",
    "retransmit": "RETRANSMIT",
    "listen": "LISTEN",
    "udp-send": "SEND",
    "udp-recv": "RECV",
}
_STATES = {
    "connect": "ESTABLISHED",
    "accept": "ESTABLISHED",
    "connect-failed": "CLOSE",
    "close": "CLOSE",
    "listen": "LISTEN",
}


def line(record: Record, verbose: bool = False, exporter: str | None = None) -> str:
    """``exporter``: this host's own IPv4 address. ``verbose`` changes nothing."""
    event, where = record.event, record.event.tuple
    family = f"IPV{where.family}"
    document: dict[str, Any] = {
        "timestamp": f"{record.wall:.6f}",
        "INTERFACE_NAME": record.interface,
        "LOCAL_PROCESS": _process(record.process),
        "LOCAL_FATHER_PROCESS": _process(record.ancestors[0]) if record.ancestors else None,
        "EVENT_TYPE": EVENT_TYPES[event.kind],
        "IP_PROTOCOL_VERSION": where.family,
        "PROTOCOL": PROTOCOLS[where.protocol],
        "L4_LOCAL_PORT": where.local_port,
        "L4_REMOTE_PORT": where.remote_port,
        f"{family}_LOCAL_ADDR": None if where.local is None else str(where.local),
        f"{family}_REMOTE_ADDR": None if where.remote is None else str(where.remote),
        "NW_LATENCY_MS": None if event.handshake_ns is None else event.handshake_ns / 1e6,
        **_volume(event),
        "TCP": _tcp(event) if where.protocol == "tcp" else None,
        "ERROR": event.error,
        "LOCAL_CONTAINER": _container(record.container),
        "ATTRIBUTION": record.attribution,
        "EXPORTER_IPV4_ADDRESS": exporter,
    }
    return _text(document)


def ledger(ledger: Ledger, wall: float) -> str:
    """The last line: an EVENT_TYPE of its own. LOST is by cause."""
    sums = total(ledger.values())
    return _text(
        {
            "timestamp": f"{wall:.6f}",
            "EVENT_TYPE": "LEDGER",
            "SEEN": sums.seen,
            "EMITTED": sums.emitted,
            "FILTERED": sums.filtered,
            "LOST": sums.lost,
            "UNKNOWN": sums.unknown,
        }
    )


def _text(document: dict[str, Any]) -> str:
    return json.dumps(_known(document), separators=(",", ":")) + "\n"


def _known(document: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in document.items() if value is not None}


def _process(who: Person | None) -> dict[str, Any] | None:
    if who is None:
        return None
    return _known(
        {
            "PID": who.pid,
            "TID": who.tid,
            "UID": who.uid,
            "UID_NAME": who.user,
            "GID": who.gid,
            "GID_NAME": who.group,
            "PROCESS_PATH": who.path,
        }
    )


def _volume(event: Event) -> dict[str, int | None]:
    """In and out as our process sees it."""
    volume = measured(event)
    if volume is None:
        return {}
    return {
        "IN_BYTES": volume.bytes_received,
        "IN_PKTS": volume.packets_received,
        "OUT_BYTES": volume.bytes_sent,
        "OUT_PKTS": volume.packets_sent,
    }


def _tcp(event: Event) -> dict[str, Any] | None:
    state = {"CONN_STATE": _STATES.get(event.kind)}
    counts, volume = event.counts, measured(event)
    if counts is None or volume is None:
        return _known(state) or None
    return _known(
        {
            **state,
            "SEGS_IN": volume.packets_received,
            "SEGS_OUT": volume.packets_sent,
            "RETRAN_PKTS": counts.retransmits,
            "RTT": None if counts.rtt_us is None else counts.rtt_us / 1e3,
            "BYTES_RCVD": volume.bytes_received,
        }
    )


def _container(found: ContainerName | None) -> dict[str, Any] | None:
    if found is None:
        return None
    identity = short_id(found.id)
    if found.pod is None:
        shapes = {"DOCKER": {"ID": identity, "NAME": found.name}}
    else:
        names = {"NAME": found.container or found.name, "POD": found.pod, "NS": found.namespace}
        shapes = {"K8S": {"ID": identity, **names}, "KUBE": names}
    return _known(
        {
            "ID": identity,
            "RUNTIME": found.runtime,
            **{key: _known(shape) for key, shape in shapes.items()},
        }
    )
