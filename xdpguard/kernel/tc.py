"""The TC egress filter of an interface: a direct-action cls_bpf under clsact, at a fixed place.

Owns clsact and our one filter in it. Must never change or remove another filter, or a clsact that still
holds one. TC has no "expected program" as XDP has: ``replace`` and ``remove`` compare the program id first,
and the caller holds the interface's lock meanwhile, which keeps two of us apart (not someone who runs
``tc`` by hand).

All functions work in the current thread's network namespace.
"""

from __future__ import annotations

import errno
import socket
import struct
from dataclasses import dataclass

from xdpguard.errors import ForeignError, KernelError, NotLoadedError
from xdpguard.kernel import link, netlink

HANDLE = 0x1
PRIORITY = 16
"""Early: a filter in front of ours that accepts a packet would hide it from ours. The kernel gives 49152 and
less, but never below 32768, to a filter without one (tcf_auto_prio()). 1 to 15 are left to an administrator
who wants to be first."""

# uapi/linux/pkt_sched.h
_CLSACT = 0xFFFF0000
_INGRESS, _EGRESS = 0xFFFFFFF2, 0xFFFFFFF3
_ETH_P_ALL = 3

# uapi/linux/rtnetlink.h, pkt_cls.h
_RTM_GETQDISC, _RTM_GETTFILTER = 38, 46
_TCMSG = struct.Struct("=BBHiIII")
_KIND, _OPTIONS, _CHAIN = 1, 2, 11
_BPF_NAME, _BPF_FLAGS, _BPF_ID = 7, 8, 11
_ACT_DIRECT = 1

_STEP = {
    "add-filter": "add the TC egress filter to",
    "change-filter": "replace the TC egress filter of",
    "del-filter": "remove the TC egress filter from",
}


@dataclass(frozen=True, slots=True)
class Filter:
    """One attached filter. The last three fields are those of a cls_bpf."""

    kind: str  # bpf, flower, u32, ...
    handle: int
    priority: int
    protocol: int  # EtherType; 3 = all
    chain: int
    program: int | None = None  # its id; None: not a cls_bpf
    name: str = ""
    direct_action: bool = False

    def is_our_place(self) -> bool:
        """At our fixed handle and priority. Whether the program is ours, its id must tell."""
        return (self.priority, self.handle, self.chain) == (PRIORITY, HANDLE, 0)


def attached(ifindex: int) -> list[Filter]:
    """All egress filters, in the order in which the kernel runs them; none without clsact."""
    return [entry for entry in _filters(ifindex, _EGRESS) if entry.handle]


def add_clsact(ifindex: int) -> bool:
    """See that there is a clsact. True: we added it. ForeignError: an ``ingress`` qdisc is in its place."""
    step = f"add clsact to {link.label(ifindex)}"
    try:
        with netlink.session() as session:
            session.tc("add", "clsact", index=ifindex)
        return True
    except OSError as error:
        kind = clsact_kind(ifindex) if error.errno == errno.EEXIST else None
        if kind is None:
            raise link.refusal(error, step, ifindex) from error
        if kind != "clsact":
            message = f"cannot {step}: a qdisc of kind {kind} is in its place; nothing changed"
            raise ForeignError(message) from error
        return False


def add(ifindex: int, fd: int, name: str) -> None:
    """Put the program into our place. ForeignError: a filter is there. ``name``: what ``tc`` shows."""
    try:
        _change("add-filter", ifindex, fd=fd, name=name)
    except KernelError as error:
        # EEXIST: the same handle. EINVAL: our priority is taken by another kind or protocol.
        taken = [entry for entry in attached(ifindex) if entry.priority == PRIORITY]
        if not taken:
            raise
        raise ForeignError(
            f"{_describe(taken[0])} has our place (egress, priority {PRIORITY}) "
            f"on {link.label(ifindex)}; nothing changed"
        ) from error


def replace(ifindex: int, fd: int, name: str, expected_program: int) -> None:
    """Put ``fd`` in the place of the program with the id ``expected_program``; no packet goes unfiltered."""
    _expect(ifindex, expected_program)
    _change("change-filter", ifindex, fd=fd, name=name)


def remove(ifindex: int, expected_program: int) -> None:
    """Remove our filter if its program still has the id ``expected_program``; else ForeignError."""
    _expect(ifindex, expected_program)
    _change("del-filter", ifindex)


def remove_clsact_if_empty(ifindex: int) -> bool:
    """Remove clsact if no filter is left in either direction. True: it was removed.

    Only for a clsact that we added: an empty one may be someone's preparation.
    """
    if clsact_kind(ifindex) != "clsact" or _filters(ifindex, _INGRESS) or _filters(ifindex, _EGRESS):
        return False
    try:
        with netlink.session() as session:
            session.tc("del", "clsact", index=ifindex)
    except OSError as error:
        raise link.refusal(error, f"remove clsact from {link.label(ifindex)}", ifindex) from error
    return True


def _expect(ifindex: int, program: int) -> None:
    ours = [entry for entry in attached(ifindex) if entry.is_our_place()]
    name = link.label(ifindex)
    if not ours:
        raise ForeignError(f"our TC filter is no longer attached to {name}; nothing changed")
    if ours[0].program != program:
        raise ForeignError(f"{_describe(ours[0])} is in our place on {name}; nothing changed")


def _describe(entry: Filter) -> str:
    if entry.program is None:
        return f"another TC filter (kind {entry.kind}, handle {entry.handle:#x})"
    return f"another TC filter (program id {entry.program}, name {entry.name})"


def _change(command: str, ifindex: int, **settings: int | str) -> None:
    place = {"index": ifindex, "parent": _EGRESS, "handle": HANDLE, "prio": PRIORITY, "protocol": _ETH_P_ALL}
    direct = {} if command == "del-filter" else {"direct_action": True}
    try:
        with netlink.session() as session:
            session.tc(command, "bpf", **place, **direct, **settings)
    except OSError as error:
        raise link.refusal(error, f"{_STEP[command]} {link.label(ifindex)}", ifindex) from error


def clsact_kind(ifindex: int) -> str | None:
    """What sits at ffff: (``clsact`` and ``ingress`` share the place), or None."""
    for answer in _dump(_RTM_GETQDISC, ifindex, 0):
        _, _, _, index, handle, _, _ = _TCMSG.unpack_from(answer)
        if index == ifindex and handle == _CLSACT:
            return netlink.text(netlink.attributes(answer, _TCMSG.size)[_KIND]).decode()
    return None


def _filters(ifindex: int, parent: int) -> list[Filter]:
    """Every entry of the kernel's list. Each priority opens with an entry of handle 0 that is no filter."""
    return [_parse(answer) for answer in _dump(_RTM_GETTFILTER, ifindex, parent)]


def _parse(answer: bytes) -> Filter:
    _, _, _, _, handle, _, info = _TCMSG.unpack_from(answer)
    found = netlink.attributes(answer, _TCMSG.size)
    kind = netlink.text(found[_KIND]).decode()
    options = netlink.attributes(found.get(_OPTIONS, b"")) if kind == "bpf" else {}
    return Filter(
        kind=kind,
        handle=handle,
        priority=info >> 16,
        protocol=socket.ntohs(info & 0xFFFF),
        chain=netlink.number(found[_CHAIN]) if _CHAIN in found else 0,
        program=netlink.number(options[_BPF_ID]) if _BPF_ID in options else None,
        name=netlink.text(options.get(_BPF_NAME, b"")).decode(errors="replace"),
        direct_action=bool(_BPF_FLAGS in options and netlink.number(options[_BPF_FLAGS]) & _ACT_DIRECT),
    )


def _dump(kind: int, ifindex: int, parent: int) -> list[bytes]:
    body = _TCMSG.pack(0, 0, 0, ifindex, 0, parent, 0)
    try:
        return netlink.request(socket.NETLINK_ROUTE, kind, body, dump=True)
    except OSError as error:
        if error.errno == errno.ENODEV:
            raise NotLoadedError(f"no such interface: index {ifindex}") from error
        raise link.unreadable(f"the TC filters of {link.label(ifindex)}", error) from error
