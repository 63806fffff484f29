"""In the guest: tries what some kernels lack, one small attempt each, with the package's own functions.

Prints one JSON object: {"features": {name: reason, "" if it works}, "programs": {name: number or reason}}.
Names are those of vmlab/trial.py. Attaches only to a veth pair of its own.
"""

from __future__ import annotations

import errno
import json
import mmap
import os
import resource
import struct
import subprocess
from collections.abc import Callable

from xdpguard.abi import abi
from xdpguard.errors import XdpguardError
from xdpguard.kernel import accounts, bpf, btf, compile, features, link, maps, netns, owners, program, xdp
from xdpguard.kernel.sizes import Size, size_class

_PROG_QUERY, _TCX_EGRESS = 16, 47
_PAIR = ("feature0", "feature1")
_LIMIT = 1 << 16  # bytes that may be locked
_LARGE = 8 << 20  # bytes of one map value
_GOTO, _ADD, _MOVE, _JUMP_GREATER, _EXIT = 0x05, 0x07, 0xB7, 0x25, 0x95


class Lacking(Exception):
    """The kernel does not do it; the text says how that shows."""


def multi_buffer() -> None:
    os.close(program.load(compile.PASS, bpf.PROG_XDP, {}, {}, flags=bpf.F_XDP_HAS_FRAGS).fd)


def native_jumbo() -> None:
    """Native XDP on a veth whose MTU is beyond one page."""
    loaded = _pass_only()
    ifindex = link.find(_PAIR[0]).ifindex
    try:
        xdp.attach(ifindex, loaded, "native")
        xdp.detach(ifindex, loaded, "native")
    finally:
        os.close(loaded)


def _pass_only() -> int:
    try:
        return program.load(compile.PASS, bpf.PROG_XDP, {}, {}, flags=bpf.F_XDP_HAS_FRAGS).fd
    except XdpguardError:
        return program.load(compile.PASS, bpf.PROG_XDP, {}, {}).fd


def xdp_features() -> None:
    if features.xdp_features(link.find(_PAIR[0]).ifindex) is None:
        raise Lacking("the kernel has no netlink family netdev")


def tcx_query() -> None:
    attributes = bytearray(64)
    struct.pack_into("=II", attributes, 0, link.find(_PAIR[0]).ifindex, _TCX_EGRESS)
    bpf.call(_PROG_QUERY, attributes)


def netns_cookie() -> None:
    if not netns.identity().cookie:
        raise Lacking("SO_NETNS_COOKIE is not known")


def large_tables() -> None:
    fd = bpf.map_create(bpf.MAP_ARRAY, 4, _LARGE, 1, flags=bpf.F_MMAPABLE)
    os.close(fd)


def no_locked_limit() -> None:
    """A map beyond RLIMIT_MEMLOCK, made without bpf.py's raising of that limit."""
    attributes = bytearray(72)
    struct.pack_into("=IIIII", attributes, 0, bpf.MAP_ARRAY, 4, 16 * mmap.PAGESIZE, 64, 0)
    before = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (_LIMIT, before[1]))
    try:
        os.close(bpf.call(0, attributes))
    finally:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, before)


def falling_loops() -> None:
    """A loop whose body falls into its head, as clang may lay it out (kernel/loops.py)."""
    code = b"".join(
        struct.pack("=BBhi", *one)
        for one in (
            (_MOVE, 0, 0, 0),
            (_GOTO, 0, 1, 0),
            (_ADD, 0, 0, 1),  # falls into the next one, the head
            (_JUMP_GREATER, 0, 1, 5),
            (_GOTO, 0, -3, 0),
            (_EXIT, 0, 0, 0),
        )
    )
    try:
        os.close(bpf.prog_load(bpf.PROG_SCHED_CLS, code, "falling").fd)
    except bpf.VerifierError as error:
        lines = [line for line in error.log.splitlines() if line and not line.startswith("processed")]
        raise Lacking(f"the verifier: {lines[-1]}" if lines else str(error)) from None


def kernel_types() -> None:
    btf.kernel().__exit__()


_ATTEMPTS: dict[str, Callable[[], None]] = {
    "multi-buffer": multi_buffer,
    "native-jumbo": native_jumbo,
    "xdp-features": xdp_features,
    "tcx": tcx_query,
    "netns-cookie": netns_cookie,
    "large-tables": large_tables,
    "no-locked-limit": no_locked_limit,
    "falling-loops": falling_loops,
    "btf": kernel_types,
}


def _reason(attempt: Callable[[], None]) -> str:
    try:
        attempt()
    except OSError as error:
        return f"{error.strerror} ({errno.errorcode.get(error.errno or 0, error.errno)})"
    except (Lacking, XdpguardError) as error:
        return str(error).removesuffix("; nothing changed")
    return ""


def _measured(source: compile.Source, flags: int, found: maps.MapSet | None) -> int | str:
    """The verifier's "processed N insns", or why there is no number. ``found``: maps to bind."""
    bound = {f"XG_MAP_{name.upper()}": fd for name, fd in found.fds.items()} if found else {}
    names = [name for name in abi().numbers if name.startswith("XG_NUMBER_")]
    numbers = {name: 0 for name in names if found}
    if found:
        numbers["XG_NUMBER_BLOB_MASK"] = found.size.table_bytes - 8
        numbers["XG_NUMBER_COUNTER_MASK"] = found.size.counters - 1
    known = {name: fd for name, fd in bound.items() if name in abi().numbers}
    try:
        loaded = program.load(source, bpf.PROG_XDP, known, numbers, flags=flags, statistics=True)
    except XdpguardError as error:
        return str(error).removesuffix("; nothing changed")
    os.close(loaded.fd)
    return loaded.instructions if loaded.instructions is not None else "the verifier gave no number"


def main() -> None:
    subprocess.run(["ip", "link", "add", _PAIR[0], "type", "veth", "peer", "name", _PAIR[1]], check=True)
    try:
        for name in _PAIR:
            subprocess.run(["ip", "link", "set", name, "mtu", "9000", "up"], check=True)
        reasons = {name: _reason(attempt) for name, attempt in _ATTEMPTS.items()}
    finally:
        subprocess.run(["ip", "link", "del", _PAIR[0]], check=True)
    flags = 0 if reasons["multi-buffer"] else bpf.F_XDP_HAS_FRAGS
    found = maps.create(size_class(Size(0, 0, 0, 0)), {})
    host = owners.create()
    found.fds |= {maps.OWNERS: host.fd, maps.CHANGES: host.changes, maps.ACCOUNTS: accounts.create()}
    programs = {
        "xdp-single": _measured(compile.INGRESS, 0, found),
        "xdp-single-owners": _measured(compile.INGRESS_OWNERS, 0, found),
        "pass": _measured(compile.PASS, flags, None),
    }
    found.close()
    print(json.dumps({"features": reasons, "programs": programs}))


if __name__ == "__main__":
    main()
