"""uid and gid -> names, from the passwd and group files of the root. Unknown is None, never a number as text.

Only the host's own files count: a container's /etc/passwd may claim anything about a host uid. Users that
the host knows from elsewhere (LDAP, sssd) have no name here: asking for them may wait for a network.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from xdpguard.identity.files import Cached, Notes

_NUMBER = re.compile("[0-9]{1,10}")


@dataclass(frozen=True, slots=True)
class Account:
    name: str
    home: str  # absolute; "" for a group


class Accounts:
    def __init__(self, root: Path, notes: Notes) -> None:
        self._users = Cached(root / "etc/passwd", _passwd, "users", notes)
        self._groups = Cached(root / "etc/group", _group, "groups", notes)

    def user(self, uid: int) -> str | None:
        account = self._users.value().get(uid)
        return account.name if account else None

    def group(self, gid: int) -> str | None:
        account = self._groups.value().get(gid)
        return account.name if account else None

    def home(self, uid: int) -> str | None:
        """Absolute path; None for an unknown user and for one whose home is not an absolute path."""
        account = self._users.value().get(uid)
        return account.home if account and account.home.startswith("/") else None


def _passwd(data: bytes) -> dict[int, Account]:
    return _accounts(data, fields=7, home=5)  # passwd(5)


def _group(data: bytes) -> dict[int, Account]:
    return _accounts(data, fields=4, home=None)  # group(5)


def _accounts(data: bytes, fields: int, home: int | None) -> dict[int, Account]:
    """Number -> account; a number's first line wins, as in getpwuid(3). Lines of another form are skipped."""
    found: dict[int, Account] = {}
    for line in data.decode("utf-8", "surrogateescape").split("\n"):
        parts = line.split(":")
        if len(parts) == fields and parts[0] and _NUMBER.fullmatch(parts[2]):
            found.setdefault(int(parts[2]), Account(parts[0], "" if home is None else parts[home]))
    return found
