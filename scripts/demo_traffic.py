"""The traffic of ./demo: a small server, and probes that say what became of them.

Owns: sockets inside the network namespace that it is started in. The server answers every probe, so
that what stays without an answer was stopped by the filter. Must never change a rule, an address or an
interface. Standard library only; every wait is bounded.
"""

from __future__ import annotations

import os
import selectors
import socket
import struct
import sys
import time
from collections.abc import Callable

HOST: dict[int, str] = {socket.AF_INET: "192.0.2.2", socket.AF_INET6: "2001:db8::2"}
TCP_PORTS = (23, 8080)
UDP_PORTS = (53, 2000)
ECHO_PORT = 7  # RFC 862; a tx rule makes the interface itself the echo
INTERFACE = "demo0"
ETHERTYPE: dict[int, int] = {socket.AF_INET: 0x0800, socket.AF_INET6: 0x86DD}
COUNT = 3
WAIT = 0.4  # seconds that a probe waits for an answer; the path is a veth pair, 0.1 ms long


def bound_socket(kind: int, port: int) -> socket.socket:
    """A socket for both families (RFC 3493, section 3.7) on every local address."""
    sock = socket.socket(socket.AF_INET6, kind)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind(("::", port))
    return sock


def answer_tcp(sock: socket.socket) -> None:
    connection, _ = sock.accept()
    with connection:
        connection.sendall(b"hello\n")


def answer_udp(sock: socket.socket) -> None:
    payload, sender = sock.recvfrom(2048)
    sock.sendto(payload, sender)


def serve() -> None:
    """Answers until standard input closes, so it never outlives the script that started it."""
    with selectors.DefaultSelector() as selector:
        for port in TCP_PORTS:
            sock = bound_socket(socket.SOCK_STREAM, port)
            sock.listen()
            selector.register(sock, selectors.EVENT_READ, answer_tcp)
        for port in (*UDP_PORTS, ECHO_PORT):
            selector.register(bound_socket(socket.SOCK_DGRAM, port), selectors.EVENT_READ, answer_udp)
        selector.register(sys.stdin, selectors.EVENT_READ, None)
        print("ready", flush=True)
        while True:
            for key, _ in selector.select():
                if key.data is None:
                    return
                key.data(key.fileobj)


def family_name(family: int) -> str:
    return "IPv4" if family == socket.AF_INET else "IPv6"


def probe_tcp(family: int, target: str, port: int) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(WAIT)
        try:
            sock.connect((target, port))
            return f"connected, received {sock.recv(64).decode().strip()!r}"
        except TimeoutError:
            return "no answer"
        except OSError as error:
            return str(error)


def probe_udp(family: int, target: str, port: int) -> str:
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.connect((target, port))
        return send_and_count(sock, lambda number: f"datagram {number}".encode(), lambda reply: True)


def probe_echo(family: int, target: str, port: int) -> str:
    """Like probe_udp, but tells the host's answers from our own frames sent back (tx).

    The kernel drops a packet that comes in with its own source address, so a packet socket looks at the
    frames themselves. One bound to an EtherType sees incoming frames only (packet(7)).
    """
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM)
    with packets, socket.socket(family, socket.SOCK_DGRAM) as sock:
        packets.bind((INTERFACE, ETHERTYPE[family]))
        sock.connect((target, port))
        ours = struct.pack("!HH", sock.getsockname()[1], port)
        theirs = struct.pack("!HH", port, sock.getsockname()[1])
        for number in range(COUNT):
            sock.send(f"datagram {number}".encode())
        answered = reflected = 0
        deadline = time.monotonic() + WAIT
        while answered + reflected < COUNT and (left := deadline - time.monotonic()) > 0:
            packets.settimeout(left)
            try:
                packet = packets.recv(2048)
            except TimeoutError:
                break
            ports = packet[20:24] if family == socket.AF_INET else packet[40:44]
            answered += ports == theirs
            reflected += ports == ours
    if reflected:
        return f"{COUNT} sent, {reflected} came back unanswered, as they were sent"
    return f"{COUNT} sent, {answered or 'none'} answered"


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071) of an even number of bytes."""
    total = sum(int.from_bytes(data[at : at + 2], "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def echo_request(family: int, identifier: int, number: int) -> bytes:
    """An ICMP (RFC 792) or ICMPv6 (RFC 4443) echo request; the kernel fills in ICMPv6 checksums."""
    kind = 8 if family == socket.AF_INET else 128
    packet = struct.pack("!BBHHH", kind, 0, 0, identifier, number) + b"xdpguard"
    if family == socket.AF_INET:
        packet = packet[:2] + struct.pack("!H", checksum(packet)) + packet[4:]
    return packet


def probe_ping(family: int, target: str) -> str:
    protocol = socket.IPPROTO_ICMP if family == socket.AF_INET else socket.IPPROTO_ICMPV6
    identifier = os.getpid() & 0xFFFF
    reply_type = 0 if family == socket.AF_INET else 129

    def is_reply(data: bytes) -> bool:
        if family == socket.AF_INET:
            data = data[(data[0] & 0x0F) * 4 :]
        return data[0] == reply_type and data[4:6] == struct.pack("!H", identifier)

    with socket.socket(family, socket.SOCK_RAW, protocol) as sock:
        sock.connect((target, 0))
        return send_and_count(sock, lambda number: echo_request(family, identifier, number), is_reply)


def send_and_count(
    sock: socket.socket, payload: Callable[[int], bytes], is_reply: Callable[[bytes], bool]
) -> str:
    """Sends COUNT packets and waits at most WAIT seconds for their answers."""
    for number in range(COUNT):
        sock.send(payload(number))
    answers = 0
    deadline = time.monotonic() + WAIT
    while answers < COUNT and (left := deadline - time.monotonic()) > 0:
        sock.settimeout(left)
        try:
            answers += is_reply(sock.recv(2048))
        except TimeoutError:
            break
        except OSError as error:
            return f"{COUNT} sent, {error}"
    return f"{COUNT} sent, {answers or 'none'} answered"


def await_path() -> None:
    """Returns once the host answers over both families: a new link takes up to a second to carry IPv6.

    Raises TimeoutError after 10 s.
    """
    deadline = time.monotonic() + 10
    for family, target in HOST.items():
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.connect((target, UDP_PORTS[0]))
            sock.settimeout(0.05)
            while True:
                try:
                    sock.send(b"?")
                    sock.recv(16)
                    break
                except OSError as error:
                    if time.monotonic() > deadline:
                        raise TimeoutError(f"{target} does not answer: {error}") from error


def report(what: str, family: int, target: str, result: str) -> None:
    print(f"  {family_name(family)}  {what:<8} to {target:<12} {result}", flush=True)


def send() -> None:
    """Every probe, from the client to the host, over both families."""
    for family in (socket.AF_INET, socket.AF_INET6):
        target = HOST[family]
        for port in TCP_PORTS:
            report(f"TCP {port}", family, target, probe_tcp(family, target, port))
        for port in UDP_PORTS:
            report(f"UDP {port}", family, target, probe_udp(family, target, port))
        report(f"UDP {ECHO_PORT}", family, target, probe_echo(family, target, ECHO_PORT))
        report("ping", family, target, probe_ping(family, target))


def main() -> int:
    actions = {"serve": serve, "await": await_path, "send": send}
    if len(sys.argv) != 2 or sys.argv[1] not in actions:
        print(f"usage: demo_traffic.py {'|'.join(actions)}", file=sys.stderr)
        return 2
    try:
        actions[sys.argv[1]]()
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(f"demo_traffic.py: error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
