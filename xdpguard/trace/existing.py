"""What was there before: sock_diag's sockets joined with /proc's open files.

Look after the tracing has begun: then each socket is in the list or had an event, or both, and an event knows
better. The list is read first and the files second: a file of a socket that is newer than the list is no use.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from xdpguard.identity import sockets as files
from xdpguard.identity.process import Key, Process
from xdpguard.identity.sockets import Held, Holder
from xdpguard.kernel import processes, sock_diag
from xdpguard.kernel.sock_diag import Survey
from xdpguard.trace.model import Owner, ProcessKey, Tuple
from xdpguard.trace.seeds import SeededSocket


@dataclass(frozen=True, slots=True)
class Existing:
    """``processes``: everyone met, for seeding the ancestry. ``notes``: what is not known and why.

    ``namespaces``: inode number -> ``kernel.netns.Identity.key``, at the time of the sockets.
    """

    sockets: tuple[SeededSocket, ...]
    processes: tuple[Process, ...]
    notes: tuple[str, ...]
    namespaces: Mapping[int, int] = field(default_factory=dict)


def look(root: Path = Path("/"), only: Collection[int] = (), proc: Path | None = None) -> Existing:
    """The sockets of all network namespaces, or of those with the inodes given. OSError: no /proc.

    ``root`` and ``proc`` are where the files are (``identity.sockets.scan``); the sockets are this kernel's.
    """
    survey = sock_diag.everywhere(only)
    held = files.scan(root, {one.inode for found in survey.sockets.values() for one in found} - {0}, proc)
    notes = (*survey.notes, *held.notes(processes.denied("CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH")))
    return Existing(tuple(joined(survey, held)), tuple(held.processes.values()), notes, survey.namespaces)


def joined(survey: Survey, held: Held) -> Iterator[SeededSocket]:
    """Every socket of the survey with its owner, if one was found."""
    chosen: dict[tuple[Key, ...], tuple[Owner, bool]] = {}  # the same workers hold many a socket
    for netns, sockets in survey.sockets.items():
        for one in sockets:
            holders = held.holders.get(one.inode, [])
            keys = tuple(holder.process.key for holder in holders)
            if holders and keys not in chosen:
                first, uncertain = files.responsible(holders, held.processes)
                chosen[keys] = _owner(first), uncertain
            owner, shared = chosen[keys] if holders else (None, False)
            ends = Tuple(
                netns, one.family, one.protocol, one.local, one.local_port, one.remote, one.remote_port
            )
            yield SeededSocket(
                netns, one.cookie, one.protocol, ends, one.inode, owner, one.state, shared,
                tuple(_key(holder.process) for holder in holders), one.dual,
            )  # fmt: skip


def _key(process: Process) -> ProcessKey:
    return ProcessKey(process.pid, process.started)


def _owner(holder: Holder) -> Owner:
    one = holder.process
    return Owner(_key(one), one.pid, one.uid, one.gid, holder.cgroup, one.comm, "procfs")
