"""Sockets that were there before the tracing began, and who holds them: plain data.

``trace/existing.py`` makes them out of sock_diag and /proc.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xdpguard.trace.model import Owner, ProcessKey, Tuple


@dataclass(frozen=True, slots=True)
class SeededSocket:
    """One socket. ``netns`` and ``inode`` are inode numbers; (netns, cookie) names a socket for ever.

    ``tuple.local`` of a socket that is bound to every address is 0.0.0.0 or ``::``; ``tuple.remote`` and
    ``remote_port`` are None for one that is not connected. ``state``: Linux's name (``State`` of
    kernel/sock_diag.py); a UDP socket is ESTABLISHED when connected, else CLOSE. ``inode`` 0: no process can
    have it, since nobody has accepted it yet or everybody has closed it.

    ``owner``: attribution "procfs"; None when no process was found. Its ``start_time`` is exact to one clock
    tick only (compare by ``identity.process.ticks``), its ``tid`` is its pid. ``holders``: everyone who has
    it open. ``shared``: several have, and they do not descend from the owner: who uses it is not certain.
    ``dual``: bound to ``::`` and open to IPv4 too.
    """

    netns: int
    cookie: int
    protocol: Literal["tcp", "udp"]
    tuple: Tuple
    inode: int
    owner: Owner | None
    state: str
    shared: bool = False
    holders: Sequence[ProcessKey] = ()
    dual: bool = False
