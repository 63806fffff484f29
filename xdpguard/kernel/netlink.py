"""The netlink transport: requests out, payloads and errors back. Knows no interface, route or filter.

Owns every netlink socket of this room. Reads are plain sockets and structs: importing any part of pyroute2
costs about 90 ms, which ``status`` and ``stats`` would pay on every call. Requests that change something use
``session()``. Every socket is opened by the calling thread, so it belongs to that thread's namespace.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyroute2 import IPRoute

# uapi/linux/netlink.h
_NLMSG_ERROR, _NLMSG_DONE = 2, 3
_REQUEST, _ACK, _DUMP = 0x1, 0x4, 0x300
_DUMP_INTERRUPTED, _CAPPED, _ACK_TLVS = 0x10, 0x100, 0x200
_SOL_NETLINK, _NETLINK_EXT_ACK = 270, 11
_NLMSGERR_ATTR_MSG = 1
_TYPE_MASK = 0x3FFF  # NLA_TYPE_MASK: without the nested and byte-order flags
_HEADER = struct.Struct("=IHHII")
_DUMP_ATTEMPTS = 8


def attribute(kind: int, payload: bytes) -> bytes:
    """One netlink attribute (struct nlattr), padded to four bytes."""
    head = struct.pack("=HH", 4 + len(payload), kind) + payload
    return head + bytes(-len(head) % 4)


def attributes(data: bytes, offset: int = 0) -> dict[int, bytes]:
    """Type -> payload of the attributes from ``offset`` on; of equal types the last one."""
    found: dict[int, bytes] = {}
    while offset + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, offset)
        if length < 4:
            break
        found[kind & _TYPE_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def text(payload: bytes) -> bytes:
    """A NUL-terminated string."""
    return payload.split(b"\0")[0]


def number(payload: bytes) -> int:
    """An unsigned number in the machine's byte order."""
    return int(struct.unpack({1: "=B", 2: "=H", 4: "=I", 8: "=Q"}[len(payload)], payload)[0])


def request(protocol: int, kind: int, body: bytes, *, dump: bool = False) -> list[bytes]:
    """Send one read request; return the payloads of the answers. OSError: the kernel's errno and words."""
    message = _HEADER.pack(_HEADER.size + len(body), kind, _REQUEST | (_DUMP if dump else _ACK), 1, 0) + body
    for _ in range(_DUMP_ATTEMPTS):
        answers: list[bytes] = []
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol) as opened:
            opened.setsockopt(_SOL_NETLINK, _NETLINK_EXT_ACK, 1)
            opened.bind((0, 0))
            opened.send(message)
            whole = True
            for answer_kind, flags, payload in _receive(opened):
                # The list changed while the kernel wrote it: entries may be missing, so ask again.
                whole = whole and not flags & _DUMP_INTERRUPTED
                if answer_kind not in (_NLMSG_ERROR, _NLMSG_DONE):
                    answers.append(payload)
        if whole:
            return answers
    raise OSError(errno.EINTR, f"the list kept changing in {_DUMP_ATTEMPTS} attempts to read it")


def _receive(opened: socket.socket) -> Iterator[tuple[int, int, bytes]]:
    while True:
        data = opened.recv(1 << 18)
        offset = 0
        while offset < len(data):
            length, kind, flags, _, _ = _HEADER.unpack_from(data, offset)
            payload = data[offset + _HEADER.size : offset + length]
            offset += (length + 3) & ~3
            if kind in (_NLMSG_ERROR, _NLMSG_DONE):
                _check(kind, flags, payload)
                yield kind, flags, payload
                return
            yield kind, flags, payload


def _check(kind: int, flags: int, payload: bytes) -> None:
    code = -struct.unpack_from("=i", payload)[0] if len(payload) >= 4 else 0
    if code <= 0:
        return
    words = b""
    if flags & _ACK_TLVS:
        start = 4
        if kind == _NLMSG_ERROR:
            quoted = struct.unpack_from("=I", payload, 4)[0]
            start += _HEADER.size if flags & _CAPPED else (quoted + 3) & ~3
        words = text(attributes(payload, start).get(_NLMSGERR_ATTR_MSG, b""))
    raise OSError(code, words.decode(errors="replace") or os.strerror(code))


@contextmanager
def session() -> Iterator[IPRoute]:
    """A pyroute2 socket in the calling thread's namespace. OSError: the kernel's errno and words."""
    from pyroute2 import IPRoute, NetlinkError  # about 90 ms, so only those who need it pay

    try:
        # No multicast groups: answers to our own requests only.
        with IPRoute(ext_ack=True, groups=0) as opened:
            yield opened
    except NetlinkError as error:
        raise OSError(error.code, str(error.args[1])) from error
