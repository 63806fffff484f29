"""What the user asked for: command line -> Filter -> the kernel's filter; and the check after it.

The kernel lets pass what it cannot tell yet, an owner or a cgroup; ``Wanted.matches`` has the last word.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import NamedTuple

from xdpguard.errors import UsageError
from xdpguard.trace.cgroups import Place
from xdpguard.trace.decode import KINDS, TASKS
from xdpguard.trace.letters import kinds
from xdpguard.trace.model import Address, ContainerName, Filter, Record

_PREFIX = 12  # shortest part of an id that is taken for one
_HEX = re.compile(rf"[0-9a-f]{{{_PREFIX},64}}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,252}")
_MOST_PID, _MOST_UID, _MOST_PORT = 1 << 22, (1 << 32) - 2, 65535  # PID_MAX_LIMIT; -1 is no uid

Networks = tuple[IPv4Network | IPv6Network, ...]


class KernelFields(NamedTuple):
    """The arguments of ``KernelFilter`` by name. Empty: all."""

    kinds: frozenset[int]
    pids: frozenset[int]
    uids: frozenset[int]
    ports: frozenset[int]
    networks: Networks
    netns: frozenset[int]
    by_cgroup: bool


def parse(
    letters: str = "",
    pids: Iterable[str] = (),
    users: Iterable[str] = (),
    containers: Iterable[str] = (),
    ports: Iterable[str] = (),
    cidrs: Iterable[str] = (),
    netns: frozenset[int] = frozenset(),
    *,
    uid_of: Callable[[str], int | None],
) -> Filter:
    """``uid_of``: a user's name -> number, None: no such user. UsageError: a value that can match nothing."""
    return Filter(
        kinds(letters),
        frozenset(_number("--pid", text, 1, _MOST_PID) for text in pids),
        frozenset(_user(text, uid_of) for text in users),
        frozenset(_container(text) for text in containers),
        frozenset(_number("--port", text, 1, _MOST_PORT) for text in ports),
        tuple(_network(text) for text in cidrs),
        netns,
    )


def kernel_fields(wanted: Filter) -> KernelFields:
    numbers = frozenset(number for number, kind in KINDS.items() if kind in wanted.kinds)
    if numbers:
        numbers |= TASKS.keys()  # every event's ancestry needs them
    return KernelFields(
        numbers,
        wanted.pids,
        wanted.uids,
        wanted.ports,
        wanted.networks,
        wanted.netns,
        bool(wanted.containers),
    )


class Wanted:
    """One filter, ready to be asked often."""

    def __init__(self, wanted: Filter) -> None:
        self.filter = wanted
        self._everything = wanted == Filter()

    def matches(self, record: Record) -> bool:
        """An unknown value matches no filter for it."""
        if self._everything:
            return True
        wanted, ends = self.filter, record.event.tuple
        return (
            (not wanted.kinds or record.event.kind in wanted.kinds)
            and (not wanted.netns or ends.netns in wanted.netns)
            and (not wanted.ports or ends.local_port in wanted.ports or ends.remote_port in wanted.ports)
            and (not wanted.networks or self._inside(ends.local) or self._inside(ends.remote))
            and self._by_whom(record)
        )

    def decides(self, place: Place) -> bool | None:
        """Are all events of that cgroup wanted, or none, by ``--container``? None: it cannot be said yet.

        The root tells nothing: on a host with v1 hierarchies the containers' processes may be in it.
        """
        if place.path is None or place.path == "/":
            return None
        if place.container is None:
            return False
        return self._is_wanted(place.container) or (None if place.container.name is None else False)

    def _by_whom(self, record: Record) -> bool:
        wanted, process = self.filter, record.process
        if wanted.pids and (process is None or process.pid not in wanted.pids):
            return False
        if wanted.uids and (process is None or process.uid not in wanted.uids):
            return False
        return not wanted.containers or (record.container is not None and self._is_wanted(record.container))

    def _inside(self, address: Address | None) -> bool:
        return address is not None and any(address in network for network in self.filter.networks)

    def _is_wanted(self, container: ContainerName) -> bool:
        asked = self.filter.containers
        if container.id in asked or container.name in asked or container.container in asked:
            return True
        return any(_HEX.fullmatch(text) and container.id.startswith(text) for text in asked)


def _number(option: str, text: str, least: int, most: int) -> int:
    if text.isascii() and text.isdigit() and len(text) <= len(str(most)) and least <= int(text) <= most:
        return int(text)
    raise UsageError(f"{option} {text}: a number from {least} to {most} expected; nothing traced")


def _user(text: str, uid_of: Callable[[str], int | None]) -> int:
    if text.isascii() and text.isdigit():
        return _number("--user", text, 0, _MOST_UID)
    found = uid_of(text)
    if found is None:
        raise UsageError(f"--user {text}: no such user here, a name or a number expected; nothing traced")
    return found


def _container(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"--container {text}: an id, at least {_PREFIX} digits of one, or a name expected; nothing traced"
        )
    return text


def _network(text: str) -> IPv4Network | IPv6Network:
    try:
        return ip_network(text)
    except ValueError:
        pass  # said below: the library's own words differ from version to version
    address, _, length = text.partition("/")
    try:
        ip_address(address)
        fitting = str(ip_network(text, strict=False))
    except ValueError:
        expected = "192.0.2.0/24, 2001:db8::/32 or one address expected"
        raise UsageError(f"--cidr {text}: {expected}; nothing traced") from None
    raise UsageError(
        f"--cidr {text}: {address} is no network of /{length}, {fitting} would be; nothing traced"
    )
