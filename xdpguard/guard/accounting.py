"""When packets are accounted to owners: as ``load`` says, else as it is in force; from then on until unload.

It takes another variant of both programs, on the same maps and one more. Verdicts are the same in both.
"""

from __future__ import annotations

import os

from xdpguard.guard.attach import Steps
from xdpguard.kernel import accounts, owners
from xdpguard.kernel.discover import Found
from xdpguard.kernel.maps import ACCOUNTS, CHANGES, OWNERS, MapSet
from xdpguard.kernel.owners import Owners


def arrange(found: Found, target: MapSet, wanted: bool | None, steps: Steps) -> bool:
    """Give ``target`` the maps that its programs need, or take them away. ``wanted`` None: as in force.

    The accounts in force go on in whatever set of maps follows. True: programs that run must be replaced,
    since they read another map of owners than the host's.
    """
    former = _in_force(found, ACCOUNTS)
    if wanted is False or (wanted is None and former is None):
        _leave_out(target, steps)
        return False
    steps.keep.enter_context(owners.in_use())
    if found.moved:  # its accounts are those of another namespace's processes
        _leave_out(target, steps)
        former = None
    elsewhere = _share_owners(found, target)
    if ACCOUNTS not in target.fds:
        target.fds[ACCOUNTS] = accounts.create() if former is None else os.dup(former)
        if target is found.current:
            pin = found.place(target).folder / ACCOUNTS
            pin.unlink(missing_ok=True)  # of a load that was killed
            steps.undo.callback(_take_back, target)
            steps.undo.callback(pin.unlink, missing_ok=True)
    return elsewhere or found.moved


def _in_force(found: Found, name: str) -> int | None:
    """A map's fd. Another version's accounts cannot be carried on."""
    return found.current.fds.get(name) if found.current is not None and found.current.current_abi else None


def _take_back(target: MapSet) -> None:
    os.close(target.fds.pop(ACCOUNTS))


def _share_owners(found: Found, target: MapSet) -> bool:
    """True: the programs that run read another map."""
    fds = [_in_force(found, name) for name in (OWNERS, CHANGES)]
    former = Owners(fds[0], fds[1]) if fds[0] is not None and fds[1] is not None else None
    shared = owners.shared(former)
    elsewhere = former is not None and not shared.same(former)
    for name, fd in ((OWNERS, shared.fd), (CHANGES, shared.changes)):
        replaced = target.fds.get(name)
        target.fds[name] = fd
        if replaced is not None:
            os.close(replaced)
    return elsewhere


def _leave_out(target: MapSet, steps: Steps) -> None:
    """Programs loaded from now on have no accounts. The former ones keep theirs until they are gone."""
    former = {name: target.fds.pop(name) for name in (ACCOUNTS, OWNERS, CHANGES) if name in target.fds}

    def close() -> None:
        for fd in former.values():
            os.close(fd)

    def put_back() -> None:
        target.fds.update(former)
        former.clear()

    steps.keep.callback(close)
    steps.undo.callback(put_back)


def tidy(found: Found, target: MapSet) -> None:
    """After a load. Without accounts nothing pins them any more; a moved interface is at home here now."""
    target.put("netns_cookie", found.identity.cookie)
    if ACCOUNTS not in target.fds:
        (found.place(target).folder / ACCOUNTS).unlink(missing_ok=True)
