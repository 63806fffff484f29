"""Prints what `xdpguard trace` would compile on this kernel: a JSON list of kernel/compile.py's Source."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from xdpguard.kernel import btf, offsets
from xdpguard.kernel.attached import Attached
from xdpguard.kernel.sources import WAYS

if __name__ == "__main__":
    with btf.kernel() as kernel:
        session = Attached({}, {}, offsets.definitions(kernel))
    wanted = {source: None for way in WAYS for source in session.wanted(way, kprobes=True)}
    print(json.dumps([asdict(source) for source in wanted]))
