"""Rule sets on the disk, for ``restore``: a file each, of the ones that an interface holds, and a mark.

    /var/lib/xdpguard/host/INTERFACE/LOADED_AT.rules       of the namespace of the first process
    /var/lib/xdpguard/netns/NAME/INTERFACE/LOADED_AT.rules
    .../INTERFACE/confirmed -> LOADED_AT.rules             what comes back

Owns these files. Every change is on the disk when its function returns, and the mark moves in one step. Which
rule set is to be marked is not known here (guard/confirmed.py). The caller holds the interface's lock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xdpguard.errors import NotLoadedError, Problem, RulesError
from xdpguard.kernel import kept

FOLDER = Path(os.environ.get("XDPGUARD_STATE") or "/var/lib/xdpguard")
_HOST, _NETNS = "host", "netns"
_MARK, _NEW_MARK, _SUFFIX = "confirmed", "confirmed.new", ".rules"
_FORMAT = 1
_MOST = 1 << 30
_NOT_OURS = 0.0  # of a mark: it is older than any, and replaced by the next
_LONGEST_NAME = 255  # of a file, uapi/linux/limits.h


@dataclass(frozen=True, slots=True)
class Record:
    """One load. ``files``: path -> bytes of all that was read for it, the rule file first."""

    mode: str  # native | generic, as it came to be
    account_owners: bool
    force: bool
    files: dict[str, bytes]

    @property
    def file(self) -> str:
        return next(iter(self.files))


@dataclass(frozen=True, slots=True)
class Records:
    """Of one interface, which is known by its names. ``netns``: as in /run/netns; None: the host's.

    Raises NotLoadedError for what cannot be such a name: it would be a path to somewhere else.
    """

    netns: str | None
    interface: str

    def __post_init__(self) -> None:
        for kind, name in (("interface", self.interface), ("network namespace", self.netns)):
            if name is not None and not _is_name(name):
                raise NotLoadedError(f"no such {kind}: {name!r}; nothing changed")

    @property
    def folder(self) -> Path:
        above = FOLDER / _HOST if self.netns is None else FOLDER / _NETNS / self.netns
        return above / self.interface

    def store(self, loaded_at: float, record: Record) -> Path:
        """Keep what was loaded then (seconds since the epoch). OSError, Distrusted: it cannot be kept."""
        kept.make_folder(self.folder, FOLDER)
        head: dict[str, Any] = {
            "format": _FORMAT,
            "mode": record.mode,
            "account_owners": record.account_owners,
            "force": record.force,
            "files": [(path, len(data)) for path, data in record.files.items()],
        }
        parts = kept.headed(head, *record.files.values())
        if sum(map(len, parts)) > _MOST:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        path = self.folder / _name(loaded_at)
        kept.write_lasting(path, *parts)
        return path

    def marked(self) -> float | None:
        """When that was loaded which comes back; None: nothing does. OSError."""
        try:
            return float((self.folder / _MARK).readlink().name.removesuffix(_SUFFIX))
        except (FileNotFoundError, NotADirectoryError):
            return None
        except ValueError:
            return _NOT_OURS
        except OSError as error:
            if error.errno != errno.EINVAL:  # it is no link
                raise
            return _NOT_OURS

    def mark(self, loaded_at: float) -> bool:
        """What was loaded then comes back from now on. False: it is not kept. OSError."""
        if not (self.folder / _name(loaded_at)).exists():
            return False
        if self.marked() != loaded_at:
            new = self.folder / _NEW_MARK
            new.unlink(missing_ok=True)
            new.symlink_to(_name(loaded_at))
            new.rename(self.folder / _MARK)
            kept.sync(self.folder)
        return True

    def unmark(self) -> bool:
        """Nothing comes back. False: nothing did. OSError."""
        try:
            (self.folder / _MARK).unlink()
        except (FileNotFoundError, NotADirectoryError):
            return False
        kept.sync(self.folder)
        return True

    def prune(self, held: Iterable[float]) -> None:
        """Remove all of ours but what was loaded at these times, and what is marked. OSError."""
        if not self.folder.is_dir():
            return
        marked = self.marked()
        keep = {_name(one) for one in (*held, marked) if one is not None}
        for path in self.folder.iterdir():
            ours = path.suffix == _SUFFIX or path.name == _NEW_MARK or kept.is_unfinished(path)
            if ours and path.name not in keep:
                path.unlink()

    def remove(self) -> None:
        """All but what is marked, and folders that are empty then. OSError."""
        self.prune(())
        for folder in (self.folder, self.folder.parent):
            try:
                folder.rmdir()
            except OSError:
                break  # not there, or another interface's records are

    def read(self) -> Record:
        """What comes back. NotLoadedError: nothing does. RulesError: it cannot be used, and why."""
        mark = self.folder / _MARK
        try:
            path = self.folder / mark.readlink()
        except (FileNotFoundError, NotADirectoryError):
            raise NotLoadedError(
                f"{self.interface}: no confirmed rules are kept for it in {FOLDER}; nothing changed"
            ) from None
        except PermissionError:
            raise
        except OSError as error:
            raise refused(mark, f"cannot be read: {error.strerror}: not used") from None
        if path.parent != self.folder or path.suffix != _SUFFIX:
            raise refused(mark, f"leads to {path}, which xdpguard did not write: not used")
        try:
            for folder in (self.folder, *self.folder.parents):
                kept.check_folder(folder)
                if folder == FOLDER:
                    break
            return _decoded(kept.read(path, _MOST))
        except kept.Distrusted as why:
            raise refused(why.path, f"{why.why}: not used") from None
        except (ValueError, KeyError, TypeError, IndexError) as error:
            raise refused(path, f"is not as it was written ({error}): not used") from None


def refused(path: Path | str, why: str) -> RulesError:
    """A kept rule set that cannot be used."""
    return RulesError([Problem(str(path), 0, 0, "error", f"{why}; nothing changed")])


def every() -> Iterator[Records]:
    """Of every interface of which something comes back. OSError: the caller may not see them."""
    homes = [(None, FOLDER / _HOST), *((path.name, path) for path in _listed(FOLDER / _NETNS))]
    for netns, home in homes:
        for folder in _listed(home):
            if os.path.lexists(folder / _MARK):
                yield Records(netns, folder.name)


def _is_name(text: str) -> bool:
    """Of one file."""
    odd = text in ("", ".", "..") or "/" in text or "\0" in text
    return not odd and len(os.fsencode(text)) <= _LONGEST_NAME


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _name(loaded_at: float) -> str:
    return f"{loaded_at!r}{_SUFFIX}"


def _decoded(data: memoryview) -> Record:
    """ValueError, KeyError, TypeError, IndexError: not what ``store`` writes."""
    head, rest = kept.parted(data)
    if head["format"] != _FORMAT:
        raise ValueError(f"format {head['format']}, this version of xdpguard reads {_FORMAT}")
    files, at = {}, 0
    for path, size in head["files"]:
        files[path] = bytes(rest[at : at + size])
        at += size
    if not files or at != len(rest):
        raise ValueError("the files in it are not whole")
    return Record(head["mode"], head["account_owners"], head["force"], files)
