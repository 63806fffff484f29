"""The rules that come back after a reboot: what was loaded and is confirmed, kept on the disk.

A record is a load with the bytes of every file that it read. The one of the generation in force is marked;
``confirm`` and ``rollback`` only move the mark. What must never break: rules that wait for a confirmation are
never marked, so that no reboot brings back what nobody has confirmed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdpguard.errors import KernelError
from xdpguard.generation import slots
from xdpguard.kernel import kept, netns
from xdpguard.kernel.discover import Found
from xdpguard.kernel.maps import SLOTS, MapSet

FOLDER = Path("/var/lib/xdpguard")
_HOST = "-"  # the network namespace of the first process
_MARK = "confirmed"
_MOST = 1 << 30
_LENGTH_BYTES = 4
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Record:
    """``files``: path -> bytes, the rule file first. ``mode``: native or generic, as it came to be."""

    mode: str
    account_owners: bool
    files: dict[str, bytes]


def note(found: Found, current: MapSet, say: Say, record: Record | None = None) -> None:
    """After a command: mark what is confirmed now. ``record``: of the generation that was just loaded.

    Nothing is kept of a namespace without a name: there is none to come back to after a reboot.
    """
    home = _home(found.identity.inode)
    if home is None:
        return
    folder = FOLDER / home / found.link.name
    try:
        _note(folder, current, record)
    except OSError as error:
        say(
            f"warning: {found.link.name}: {folder}: {error.strerror}: `xdpguard restore` does not bring "
            "these rules back after a reboot"
        )


def _note(folder: Path, current: MapSet, record: Record | None) -> None:
    word = current.word
    held = {slot: slots.loaded_at(current, slot) for slot in range(1, SLOTS)}
    if record is not None and record.files:
        _store(folder / _name(held[word.active]), record)
    pending = bool(word.deadline_ms) and not slots.expired(word)
    confirmed = word.previous if pending else slots.in_force(word)
    _mark(folder, held.get(confirmed))
    for path in folder.iterdir() if folder.is_dir() else ():
        if path.name not in {_MARK, *map(_name, held.values())}:
            path.unlink(missing_ok=True)


def forget(found: Found) -> None:
    """Nothing of this interface comes back."""
    home = _home(found.identity.inode)
    if home is None:
        return
    folder = FOLDER / home / found.link.name
    for path in [folder / _MARK, *(folder.iterdir() if folder.is_dir() else ())]:
        path.unlink(missing_ok=True)
    for empty in (folder, folder.parent):
        try:
            empty.rmdir()
        except OSError:
            return  # not there, or another interface's records are


def marked() -> Iterator[tuple[str | None, str]]:
    """(network namespace, None: the host's; interface) of all that come back."""
    for mark in sorted(FOLDER.glob(f"*/*/{_MARK}")):
        home = mark.parent.parent.name
        yield None if home == _HOST else home, mark.parent.name


def read(home: str | None, interface: str) -> Record:
    """What comes back. KernelError: nothing does, or it cannot be trusted, and why."""
    folder = FOLDER / (_HOST if home is None else home) / interface
    try:
        data = kept.read(folder / (folder / _MARK).readlink(), _MOST)
        return _decoded(data)
    except OSError:
        raise KernelError(f"{interface}: no confirmed rules are kept in {folder}; nothing changed") from None
    except kept.Distrusted as why:
        raise KernelError(f"{interface}: {why}; nothing changed") from None
    except (ValueError, KeyError, TypeError) as error:
        raise KernelError(
            f"{folder}: not as it was written ({type(error).__name__}); nothing changed"
        ) from error


def is_host() -> bool:
    """Is the caller's network namespace that of the first process?"""
    return _home(netns.identity().inode) == _HOST


def _home(inode: int) -> str | None:
    """The name of a network namespace by which it is found after a reboot; None: it has none."""
    try:
        if Path("/proc/1/ns/net").stat().st_ino == inode:
            return _HOST
    except OSError:
        pass  # closed to us: then it is known by a name, or not at all
    return netns.names().get(inode)


def _name(loaded_at: float | None) -> str:
    return f"{loaded_at!r}.rules"


def _mark(folder: Path, loaded_at: float | None) -> None:
    mark, wanted = folder / _MARK, folder / _name(loaded_at)
    if loaded_at is None or not wanted.exists():  # no rules, or loaded before records were kept
        mark.unlink(missing_ok=True)
        return
    new = folder / f"{_MARK}.new"
    new.unlink(missing_ok=True)
    new.symlink_to(wanted.name)
    new.rename(mark)


def _store(place: Path, record: Record) -> None:
    head: dict[str, Any] = {
        "mode": record.mode,
        "account_owners": record.account_owners,
        "files": [(path, len(data)) for path, data in record.files.items()],
    }
    data = json.dumps(head).encode()
    kept.write_lasting(place, len(data).to_bytes(_LENGTH_BYTES, "little"), data, *record.files.values())


def _decoded(data: memoryview) -> Record:
    start = _LENGTH_BYTES + int.from_bytes(data[:_LENGTH_BYTES], "little")
    head = json.loads(bytes(data[_LENGTH_BYTES:start]))
    files = {}
    for path, size in head["files"]:
        files[path] = bytes(data[start : start + size])
        start += size
    return Record(head["mode"], head["account_owners"], files)
