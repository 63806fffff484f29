"""Which probe gives which event: the one table of them, with kprobes and without.

Pure: nothing is opened here. A way lists choices, best first; the first whose probes can all be attached is
taken, and its ``missing`` says what it does not give. In a softirq no probe asks for the current process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

How = Literal["kprobe", "kretprobe", "raw tracepoint", "tracepoint"]


@dataclass(frozen=True, slots=True)
class Probe:
    """``target``: function, tracepoint, or for "tracepoint" GROUP:NAME; ``file``, ``function``: of bpf/."""

    how: How
    target: str
    file: str
    function: str

    def __str__(self) -> str:
        return f"{self.how} {self.target}"


@dataclass(frozen=True, slots=True)
class Choice:
    probes: tuple[Probe, ...] = ()
    missing: str = ""


@dataclass(frozen=True, slots=True)
class Way:
    """``events``: what the user knows it by; ``kinds``: enum xg_event_kind without XG_EV_ that need it.

    ``essential``: without any of its choices there is no tracing of these kinds.
    """

    events: tuple[str, ...]
    kinds: frozenset[str]
    kprobes: tuple[Choice, ...]
    tracepoints: tuple[Choice, ...]
    essential: bool = False

    def choices(self, kprobes: bool) -> tuple[Choice, ...]:
        """Best first; kprobes that cannot be had are done without."""
        return (*self.kprobes, *self.tracepoints) if kprobes else self.tracepoints


_CONNECTIONS, _SOCKETS = "trace/connections.c", "trace/sockets.c"
_DATAGRAMS, _LENGTHS, _PROCESSES = "trace/datagrams.c", "trace/lengths.c", "trace/processes.c"


def _both(target: str, file: str, function: str) -> tuple[Probe, Probe]:
    """At the entry and at the return of a function."""
    returned = function.replace("udp6", "udp")
    return Probe("kprobe", target, file, function), Probe("kretprobe", target, file, f"{returned}_return")


def _syscalls(function: str, *names: str) -> tuple[Probe, ...]:
    file = _SOCKETS if "accept" in function else _LENGTHS
    return tuple(Probe("tracepoint", f"syscalls:sys_{name}", file, function) for name in names)


_STATE = Probe("raw tracepoint", "inet_sock_set_state", _CONNECTIONS, "xdpguard_tcp_state")
_RETRANSMIT = Probe("raw tracepoint", "tcp_retransmit_skb", _CONNECTIONS, "xdpguard_tcp_retransmit")
_RETRANSMITTED = Probe("kprobe", "tcp_retransmit_skb", _SOCKETS, "xdpguard_tcp_retransmitted")
_CONNECT4 = _both("tcp_v4_connect", _SOCKETS, "xdpguard_tcp_connect")
_CONNECT6 = _both("tcp_v6_connect", _SOCKETS, "xdpguard_tcp_connect")
_ACCEPTED = Probe("kretprobe", "inet_csk_accept", _SOCKETS, "xdpguard_accept_return")
_ACCEPT_EXITS = _syscalls("xdpguard_accept_exit", "exit_accept", "exit_accept4")
_USED = tuple(
    Probe("kprobe", name, _SOCKETS, "xdpguard_tcp_used")
    for name in ("tcp_sendmsg", "tcp_recvmsg", "tcp_close")
)
_LENGTH = tuple(
    Probe("raw tracepoint", name, _SOCKETS, "xdpguard_tcp_length")
    for name in ("sock_send_length", "sock_recv_length")
)
_SEND4 = _both("udp_sendmsg", _DATAGRAMS, "xdpguard_udp_send")
_SEND6 = _both("udpv6_sendmsg", _DATAGRAMS, "xdpguard_udp6_send")
_RECEIVED = Probe("kprobe", "skb_consume_udp", _DATAGRAMS, "xdpguard_udp_received")
_SENT = Probe("raw tracepoint", "sock_send_length", _LENGTHS, "xdpguard_udp_sent")
_GOT = Probe("raw tracepoint", "sock_recv_length", _LENGTHS, "xdpguard_udp_got")
_SEND_CALLS = (
    *_syscalls("xdpguard_named_call", "enter_sendto"),
    *_syscalls("xdpguard_message_call", "enter_sendmsg"),
    *_syscalls("xdpguard_messages_call", "enter_sendmmsg"),
)
_RECEIVE_CALLS = (
    *_syscalls("xdpguard_named_call", "enter_recvfrom"),
    *_syscalls("xdpguard_message_call", "enter_recvmsg"),
    *_syscalls("xdpguard_messages_call", "enter_recvmmsg"),
    *_syscalls("xdpguard_receive_exit", "exit_recvfrom", "exit_recvmsg", "exit_recvmmsg"),
)

_EARLY = (
    "connect-failed: without kprobes a connect() that fails before a packet is sent is not seen where there "
    "is no route, and has no reason where there is no free port"
)
_NO_ACCEPT = "accept: its process is known from the first send or receive on (attribution late)"
_ONLY_LATE = "accept: of io_uring, the process is known from the first send or receive on (attribution late)"
_NO_LATE = "sockets older than the trace: their processes are known from /proc only"
_NO_RETRANSMIT = "retransmit: this kernel does not tell"
_SEND_PEERS = "udp-send: no peer of what io_uring sends by sockets that are not connected"
_NO_SEND_PEERS = "udp-send: no peer where the socket is not connected"
_RECEIVE_PEERS = (
    "udp-recv: no peer where the socket is not connected and the process does not ask for it; "
    "no empty datagrams"
)
_NO_RECEIVE_PEERS = "udp-recv: no peer where the socket is not connected; no empty datagrams"
_NO_UDP = "this kernel has neither kprobes nor the tracepoint {} (Linux 6.3)"

_TCP = frozenset({"CONNECT", "CONNECT_FAILED", "ACCEPT", "CLOSE", "RETRANSMIT", "LISTEN"})


def _process(event: str) -> Way:
    probe = Probe("raw tracepoint", f"sched_process_{event}", _PROCESSES, f"xdpguard_{event}")
    return Way((event,), frozenset({event.upper()}), (), (Choice((probe,)),), essential=True)


WAYS: tuple[Way, ...] = (
    Way(
        ("connect", "connect-failed"), _TCP,
        (Choice((*_CONNECT4, *_CONNECT6)), Choice(_CONNECT4)),
        (Choice((), _EARLY),),
    ),
    Way(
        ("accept",), _TCP,
        (Choice((_ACCEPTED, *_ACCEPT_EXITS)), Choice((_ACCEPTED,))),
        (Choice(_ACCEPT_EXITS, _ONLY_LATE), Choice((), _NO_ACCEPT)),
    ),
    Way(
        ("late",), _TCP,
        (Choice(_USED),),
        (Choice(_LENGTH), Choice((), _NO_LATE)),
    ),
    Way(
        ("connect", "connect-failed", "close", "listen"), _TCP,
        (), (Choice((_STATE,)),), essential=True,
    ),
    Way(
        ("retransmit",), frozenset({"RETRANSMIT"}),
        (Choice((_RETRANSMIT,)), Choice((_RETRANSMITTED,))),
        (Choice((_RETRANSMIT,)), Choice((), _NO_RETRANSMIT)),
    ),
    Way(
        ("udp-send",), frozenset({"UDP_SEND"}),
        (Choice((*_SEND4, *_SEND6)), Choice(_SEND4)),
        (
            Choice((_SENT, *_SEND_CALLS), _SEND_PEERS),
            Choice((_SENT,), _NO_SEND_PEERS),
            Choice((), f"udp-send: {_NO_UDP.format('sock_send_length')}"),
        ),
    ),
    Way(
        ("udp-recv",), frozenset({"UDP_RECV"}),
        (Choice((_RECEIVED,)),),
        (
            Choice((_GOT, *_RECEIVE_CALLS), _RECEIVE_PEERS),
            Choice((_GOT,), _NO_RECEIVE_PEERS),
            Choice((), f"udp-recv: {_NO_UDP.format('sock_recv_length')}"),
        ),
    ),
    _process("fork"),
    _process("exec"),
    _process("exit"),
)  # fmt: skip
"""In the order of attaching: who owns a socket first, so that what is told of it finds its owner."""


def wanted_ways(kinds: frozenset[str]) -> tuple[Way, ...]:
    """The ways that these kinds need."""
    return tuple(way for way in WAYS if way.kinds & kinds)
