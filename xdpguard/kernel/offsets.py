"""What the tracing programs must know of the running kernel: offsets of fields, places of arguments.

Offsets are numbers that are patched into the bytecode, so that the same bytecode is good for all kernels. The
places of tracepoints' arguments and of registers are definitions for the compiler: they hardly ever change.
"""

from __future__ import annotations

import platform
from pathlib import Path

from xdpguard.errors import KernelError
from xdpguard.kernel.btf import Btf

_NONE = 0  # of a field that this kernel does without; the programs then never come to use it

_FIELDS = {
    "DEVICE_IFINDEX": ("net_device", "ifindex"),
    "NET_INODE": ("net", "ns.inum"),
    "SOCK_FAMILY": ("sock", "__sk_common.skc_family"),
    "SOCK_STATE": ("sock", "__sk_common.skc_state"),
    "SOCK_NUM": ("sock", "__sk_common.skc_num"),
    "INET_SPORT": ("inet_sock", "inet_sport"),
    "SOCK_DPORT": ("sock", "__sk_common.skc_dport"),
    "SOCK_DADDR": ("sock", "__sk_common.skc_daddr"),
    "SOCK_RCV_SADDR": ("sock", "__sk_common.skc_rcv_saddr"),
    "SOCK_NET": ("sock", "__sk_common.skc_net.net"),
    "SOCK_BOUND": ("sock", "__sk_common.skc_bound_dev_if"),
    "SOCK_PROTOCOL": ("sock", "sk_protocol"),
    "SOCK_ERR": ("sock", "sk_err"),
    "SOCK_FLAGS": ("sock", "__sk_common.skc_flags"),
    "SOCK_DST": ("sock", "sk_dst_cache"),
    "SOCK_SOCKET": ("sock", "sk_socket"),
    "DST_DEV": ("dst_entry", "dev"),
    "TCP_BYTES_SENT": ("tcp_sock", "bytes_sent"),
    "TCP_BYTES_RETRANS": ("tcp_sock", "bytes_retrans"),
    "TCP_BYTES_RECEIVED": ("tcp_sock", "bytes_received"),
    "TCP_SEGS_OUT": ("tcp_sock", "segs_out"),
    "TCP_SEGS_IN": ("tcp_sock", "segs_in"),
    "TCP_RETRANS": ("tcp_sock", "total_retrans"),
    "TCP_SRTT": ("tcp_sock", "srtt_us"),
    "TASK_FLAGS": ("task_struct", "flags"),
    "TASK_PID": ("task_struct", "pid"),
    "TASK_TGID": ("task_struct", "tgid"),
    "TASK_LEADER": ("task_struct", "group_leader"),
    "TASK_START": ("task_struct", "start_boottime"),
    "TASK_PARENT": ("task_struct", "real_parent"),
    "TASK_SIGNAL": ("task_struct", "signal"),
    "TASK_CGROUPS": ("task_struct", "cgroups"),
    "TASK_FILES": ("task_struct", "files"),
    "SIGNAL_LIVE": ("signal_struct", "live.counter"),
    "CSS_CGROUP": ("cgroup_subsys_state", "cgroup"),
    "CGROUP_NODE": ("cgroup", "kn"),
    "NODE_ID": ("kernfs_node", "id"),
    "FILES_TABLE": ("files_struct", "fdt"),
    "TABLE_FD": ("fdtable", "fd"),
    "FILE_PRIVATE": ("file", "private_data"),
    "SOCKET_SOCK": ("socket", "sk"),
    "MSG_NAME": ("msghdr", "msg_name"),
    "SKB_HEAD": ("sk_buff", "head"),
    "SKB_NETWORK": ("sk_buff", "network_header"),
    "SKB_TRANSPORT": ("sk_buff", "transport_header"),
    "SKB_IIF": ("sk_buff", "skb_iif"),
    "BINPRM_FILENAME": ("linux_binprm", "filename"),
}
"""XG_NUMBER_ name -> struct and field."""

_OPTIONAL = {
    "SOCK_V6_DADDR": ("sock", "__sk_common.skc_v6_daddr"),  # CONFIG_IPV6
    "SOCK_V6_RCV_SADDR": ("sock", "__sk_common.skc_v6_rcv_saddr"),
}

_EVENTS = {
    "inet_sock_set_state": ("sk", "oldstate", "newstate"),
    "tcp_retransmit_skb": ("sk", "skb"),
    "sock_send_length": ("sk", "ret", "flags"),
    "sock_recv_length": ("sk", "ret", "flags"),
    "sched_process_fork": ("parent", "child"),
    "sched_process_exec": ("p", "old_pid", "bprm"),
    "sched_process_exit": ("p",),
}
"""Tracepoint -> its arguments in order, where BTF does not say it (Linux 5.10 and before)."""

_REGISTERS = {
    # struct pt_regs: where the first three arguments and the result are, in 8 bytes
    "x86_64": {"FIRST": 14, "SECOND": 13, "THIRD": 12, "RESULT": 10},
    "aarch64": {"FIRST": 0, "SECOND": 1, "THIRD": 2, "RESULT": 0},
}

_CONTROLLERS = ("memory", "pids")  # those that container runtimes always use come first


def numbers(kernel: Btf, controller: str, *, cookies: bool = True) -> dict[str, int]:
    """XG_NUMBER_ names -> offsets. KernelError: no such field.

    ``controller``: of ``cgroup_controller``. ``cookies``: owners of sockets are remembered by the cookie of
    their network namespace, as ``netns.Identity.key`` says, else by its inode number.
    """
    found = {name: kernel.offset(*field) for name, field in _FIELDS.items()}
    for name, field in _OPTIONAL.items():
        try:
            found[name] = kernel.offset(*field)
        except KernelError:
            found[name] = _NONE
    found["SOCK_REFCNT"], found["SOCK_REFCNT_MASK"] = kernel.bit("sock", "__sk_common.skc_net_refcnt")
    found["SOCK_V6ONLY"], found["SOCK_V6ONLY_MASK"] = kernel.bit("sock", "__sk_common.skc_ipv6only")
    # Linux 5.8 has a cookie too, but one that is made when somebody first asks, and none that we can ask for.
    found["NET_KEY"] = kernel.offset("net", "net_cookie") if cookies else found["NET_INODE"]
    found["NET_KEY_BYTES"] = 8 if cookies else 4
    found["CGROUP_V1"] = int(bool(controller))
    found["CSS_SET_SLOT"] = kernel.offset("css_set", "dfl_cgrp")
    if controller:
        place = kernel.enumerator("cgroup_subsys_id", f"{_kernel_name(controller)}_cgrp_id")
        if place is None:
            raise KernelError(f"this kernel's BTF has no cgroup controller {controller}; nothing changed")
        found["CSS_SET_SLOT"] = kernel.offset("css_set", "subsys") + 8 * place
    return {f"XG_NUMBER_{name}": value for name, value in found.items()}


def _kernel_name(controller: str) -> str:
    return {"blkio": "io"}.get(controller, controller)


def definitions(kernel: Btf) -> tuple[str, ...]:
    """XG_ARG_EVENT_NAME=N of every tracepoint's arguments, XG_REGISTER_NAME=N where we know the machine's."""
    found = []
    for event, usual in _EVENTS.items():
        for place, name in enumerate(_arguments(kernel, event) or usual):
            found.append(f"XG_ARG_{event}_{name}".upper() + f"={place}")
    for name, place in _REGISTERS.get(platform.machine(), {}).items():
        found.append(f"XG_REGISTER_{name}={place}")
    return tuple(found)


def _arguments(kernel: Btf, event: str) -> tuple[str, ...]:
    """Without the first, which is not the event's; () where BTF does not know."""
    try:
        return kernel.arguments(f"__traceiter_{event}")[1:]
    except KernelError:
        return ()


def has_registers() -> bool:
    """Do we know where this machine's functions have their arguments?"""
    return platform.machine() in _REGISTERS


def cgroup_controller(table: Path = Path("/proc/cgroups")) -> str:
    """Whose v1 hierarchy names containers on this host; "": none is in use, and v2 does.

    The second column of cgroups(7)'s /proc/cgroups is 0 where a controller is not in a v1 hierarchy.
    """
    try:
        rows = [line.split() for line in table.read_text().splitlines() if not line.startswith("#")]
    except OSError:
        return ""
    used = [row[0] for row in rows if len(row) >= 2 and row[1] != "0"]
    return next((name for name in (*_CONTROLLERS, *used) if name in used), "")


def cgroup_root(controller: str, mounts: Path = Path("/proc/self/mounts")) -> Path | None:
    """Where the hierarchy of a v1 controller, or for "" the v2 one, is mounted; None: nowhere that we see."""
    for line in mounts.read_text().splitlines():
        _, place, kind, options, *_ = line.split()
        v1 = kind == "cgroup" and controller in options.split(",")
        if v1 if controller else kind == "cgroup2":
            return Path(place)
    return None
