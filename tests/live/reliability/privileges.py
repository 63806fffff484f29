"""The published capabilities: the table of docs/guarantees.md, and commands run with so much and no more."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

from test_trace_refused import CONTAINER, mounted

from xdpguard.kernel import netns

PUBLISHED = Path(__file__).resolve().parents[3] / "docs/guarantees.md"
_ROW = re.compile(r"^\| (`[^|]*) \| ([^|]*) \| ([^|]*)\|$", re.M)
_NAME = re.compile(r"CAP_[A-Z_]+")
_DOCKERS_FILES = """
mount -t tmpfs none /var/lib
mkdir -p /var/lib/docker/containers/{id}
printf '%s' '{document}' > /var/lib/docker/containers/{id}/config.v2.json
"""


@dataclass(frozen=True, slots=True)
class Row:
    """``needs``: without one of them the command is refused. ``wants``: without them it sees less."""

    needs: tuple[str, ...]
    wants: tuple[str, ...]


def published() -> dict[str, Row]:
    """Command, as it is written there without backticks -> what it needs and wants."""
    section = PUBLISHED.read_text().partition("\n## Capabilities\n")[2]
    rows: dict[str, Row] = {}
    for command, needs, wants in _ROW.findall(section.partition("\n## ")[0]):
        name = command.replace("`", "")
        assert name not in rows, f"{name} is there twice"
        assert needs == "nothing" or _NAME.search(needs), f"{name} needs {needs!r}"
        rows[name] = Row(tuple(_NAME.findall(needs)), tuple(_NAME.findall(wants)))
    return rows


def only(*capabilities: str) -> list[str]:
    """The beginning of a command line: what follows is root with these capabilities and no other."""
    names = (f"+{name.removeprefix('CAP_').lower()}" for name in capabilities)
    return ["setpriv", f"--bounding-set={','.join(['-all', *names])}"]


def entered(ns: str) -> list[str]:
    """The same: what follows is in the network namespace."""
    return ["nsenter", f"--net={netns.FOLDER / ns}"]


def knowing_container(name: str) -> list[str]:
    """The same: for what follows Docker has files of the container CONTAINER. ``name``: without a quote."""
    document = json.dumps({"ID": CONTAINER, "Name": f"/{name}", "Config": {"Image": "busybox"}})
    return mounted(_DOCKERS_FILES.format(id=CONTAINER, document=document))
