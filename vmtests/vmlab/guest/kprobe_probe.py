"""In the guest: do a kprobe and a tracepoint see a TCP connection? No kernel headers are used.

    kprobe_probe.py PROJECT kprobe|tracepoint...

One JSON line for each: {"what", "works", "reason", "connects", "seen"}. ``connects`` is [pid, port] of a
child that connected to 127.0.0.1; ``seen`` are such pairs as the program read them.
"""

from __future__ import annotations

import json
import os
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

_KPROBE = rb"""
// Of the kernel, x86-64 (arch/x86/include/asm/ptrace.h): there are no headers that would tell.
struct pt_regs {
	unsigned long r15, r14, r13, r12, bp, bx, r11, r10, r9, r8, ax, cx, dx, si, di;
	unsigned long orig_ax, ip, cs, flags, sp, ss;
};
struct connect { u32 pid; u32 port; };
BPF_HASH(seen, struct connect, u64);

// int tcp_v4_connect(struct sock *, struct sockaddr *, int): the port is at offset 2 of a sockaddr_in.
int on_connect(struct pt_regs *ctx)
{
	struct connect one = {};
	u16 port = 0;
	bpf_probe_read_kernel(&port, sizeof(port), (void *)(ctx->si + 2));
	one.pid = bpf_get_current_pid_tgid() >> 32;
	one.port = (u16)(port << 8 | port >> 8);
	seen.increment(one);
	return 0;
}
"""

_TRACEPOINT = rb"""
struct connect { u32 pid; u32 port; };
BPF_HASH(seen, struct connect, u64);

TRACEPOINT_PROBE(sock, inet_sock_set_state)
{
	struct connect one = {};
	if (args->newstate != 2 || args->family != 2) // TCP_SYN_SENT, AF_INET: in the process that connects
		return 0;
	one.pid = bpf_get_current_pid_tgid() >> 32;
	one.port = args->dport;
	seen.increment(one);
	return 0;
}
"""


def _loaded(project: Path, what: str) -> Any:
    os.environ["BCC_KERNEL_SOURCE"] = str(project / "bpf" / "include" / "kbuild")
    from bcc import BPF  # type: ignore[import-untyped,unused-ignore]

    flags = ["-DPAGE_SIZE=4096"]
    if what == "tracepoint":
        return BPF(text=_TRACEPOINT, cflags=flags)
    module = BPF(text=_KPROBE, cflags=flags)
    module.attach_kprobe(event=b"tcp_v4_connect", fn_name=b"on_connect")
    return module


def _connect(server: socket.socket) -> tuple[int, int]:
    """By a child of its own, so that its pid is no other's. Returns the pid and the port."""
    port: int = server.getsockname()[1]
    child = os.fork()
    if not child:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10):
            os._exit(0)
        os._exit(1)
    _, status = os.waitpid(child, 0)
    if status:
        raise OSError(f"the child could not connect to 127.0.0.1 port {port}")
    return child, port


def _attempt(project: Path, what: str) -> dict[str, Any]:
    module = _loaded(project, what)
    with socket.create_server(("127.0.0.1", 0)) as server:
        connects = _connect(server)
    seen = [(key.pid, key.port) for key in module["seen"]]
    reason = "" if connects in seen else "it was loaded and did not see the connection"
    return {"works": not reason, "reason": reason, "connects": connects, "seen": seen}


def _told(attempt: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    try:
        return attempt()
    except Exception as error:  # whatever BCC raises is the finding
        return {"works": False, "reason": f"{type(error).__name__}: {error}", "connects": None, "seen": []}


def main() -> None:
    project = Path(sys.argv[1])
    for what in sys.argv[2:]:
        print(json.dumps({"what": what, **_told(lambda what=what: _attempt(project, what))}), flush=True)  # type: ignore[misc]


if __name__ == "__main__":
    main()
