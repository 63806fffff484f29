"""Sends frames from one machine and tells where each of them was seen.

There are two kinds of places, both (machine, interface). A link with a dump of QEMU's own: both directions,
also what native XDP drops, sends back or redirects. The far end of such a link, by a socket in the guest:
what arrived there.

Nothing is waited for by time. After the frames of interest come the last frames, one for each way to go; a
capture ends when those that it is to get have come. What goes the same way keeps its order, so that what was
not seen by then was lost.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from vmlab import pcap
from vmlab.errors import LabError
from vmlab.lab import Lab

Place = tuple[str, str]  # machine, interface
Seen = dict[Place, list[bytes]]

_TOOL = str(Path(__file__).parent / "guest" / "frames.py")
_PYTHON = (sys.executable, "-I", "-S", _TOOL)  # no site packages: imports are slow there
_START_SECONDS, _END_SECONDS = 60, 90


@dataclass(frozen=True, slots=True)
class Burst:
    """What to send. ``marker`` is in every frame of interest, ``last_marker`` too in each of the last ones.

    ``last``: far end -> how many of the last frames arrive there; a place that is missing gets none.
    """

    marker: bytes
    last_marker: bytes
    frames: Sequence[bytes]
    last: Mapping[Place, int]
    per_second: float = 1000


def far_ends(lab: Lab) -> list[Place]:
    """The other end of each link that has a dump."""
    ends = {end: link for link, pair in lab.shape.links().items() for end in pair}
    return [other for near in lab.dumps for other in lab.shape.links()[ends[near]] if other != near]


def watch(lab: Lab, source: Place, burst: Burst) -> Seen:
    """Capture everywhere, send from ``source``. LabError: last frames did not come, or a capture lost any."""
    places = far_ends(lab)
    positions = {place: pcap.end(dump) for place, dump in lab.dumps.items()}
    with ThreadPoolExecutor(len(places)) as pool:
        handles = list(pool.map(lambda place: _start(lab, place, burst), places))
        try:
            _send(lab, source, burst)
        finally:
            ended = list(pool.map(lambda place, handle: _finish(lab, place, handle), places, handles))
    seen = dict(zip(places, ended, strict=True))
    for place, dump in lab.dumps.items():
        seen[place] = [frame for frame in pcap.frames(dump, positions[place]) if burst.marker in frame]
    return seen


def _start(lab: Lab, place: Place, burst: Burst) -> int:
    machine, interface = place
    what = (burst.marker.hex(), burst.last_marker.hex(), str(burst.last.get(place, 0)))
    return lab[machine].start(*_PYTHON, "capture", interface, *what, ready="ready", timeout=_START_SECONDS)


def _send(lab: Lab, source: Place, burst: Burst) -> None:
    machine, interface = source
    text = "\n".join(frame.hex() for frame in burst.frames).encode()
    limit = _START_SECONDS + len(burst.frames) / burst.per_second * 10
    lab[machine].check(*_PYTHON, "send", interface, str(burst.per_second), stdin=text, timeout=limit)


def _finish(lab: Lab, place: Place, handle: int) -> list[bytes]:
    result = lab[place[0]].finish(handle, timeout=_END_SECONDS)
    first, _, text = result.out.partition("\n")
    if result.code not in (0, 1) or first != "ready" or not text:
        raise LabError(f"{place[0]}: capture on {place[1]}: exit code {result.code}: {result.err.strip()}")
    report = json.loads(text)
    if result.code:
        why = result.err.strip() or "all last frames came"
        raise LabError(f"{place[0]}: capture on {place[1]}: {report['lost']} frames lost; {why}")
    return [bytes.fromhex(frame) for frame in report["frames"]]
