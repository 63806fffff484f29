"""The UDP part of the scripted connections: sockets with a peer, and one with a hundred."""

from __future__ import annotations

import socket

from scripted_truth import FORMS, PATIENCE, PING, PONG, Event, Truth, end, me

PEERS = 100


class Datagrams(Truth):
    def connected_datagrams(self, form: str, number: int, *, asks_peer: bool = True) -> None:
        """``asks_peer`` False: who receives does not ask from whom, so that a tracepoint cannot tell."""
        family, address = FORMS[form]
        for index in range(number):
            name = f"UDP connected {form}{'' if asks_peer else ' not asked'} {index}"
            with bound(family, address) as takes, socket.socket(family, socket.SOCK_DGRAM) as asks:
                asks.connect(takes.getsockname())
                asks.settimeout(PATIENCE)
                here, there = end(asks.getsockname()), end(takes.getsockname())
                for _ in range(3):
                    asks.send(PING)
                    takes.recvfrom(100) if asks_peer else takes.recv(100)
                self.tell(name, "udp-send", me(), here, there, **sent(PING, 3))
                peers = {} if asks_peer else {"_needs_for_peer": "kprobe"}
                self.tell(name, "udp-recv", me(), there, here, **got(PING, 3), **peers)
                takes.sendto(PONG, asks.getsockname())
                asks.recv(100)
                self.tell(name, "udp-send", me(), there, here, **sent(PONG, 1))
                self.tell(name, "udp-recv", me(), here, there, **got(PONG, 1))

    def unconnected_datagrams(self) -> None:
        """One socket, a hundred peers, both directions."""
        name = f"UDP with {PEERS} peers"
        with bound(socket.AF_INET, "127.0.0.1") as hub:
            here = end(hub.getsockname())
            for index in range(1, PEERS + 1):
                with bound(socket.AF_INET, f"127.0.1.{index}") as peer:
                    there = end(peer.getsockname())
                    hub.sendto(PING, there)
                    peer.sendto(PONG, peer.recvfrom(100)[1])
                    hub.recvfrom(100)
                self.tell(name, "udp-send", me(), here, there, **sent(PING, 1))
                self.tell(name, "udp-recv", me(), there, here, **got(PING, 1))
                self.tell(name, "udp-send", me(), there, here, **sent(PONG, 1))
                self.tell(name, "udp-recv", me(), here, there, **got(PONG, 1))


def sent(data: bytes, datagrams: int) -> Event:
    """What a flow of one direction must count; of the other it says nothing."""
    return {"bytes_sent": len(data) * datagrams, "packets_sent": datagrams} | dict.fromkeys(
        ("bytes_received", "packets_received")
    )


def got(data: bytes, datagrams: int) -> Event:
    return {"bytes_received": len(data) * datagrams, "packets_received": datagrams} | dict.fromkeys(
        ("bytes_sent", "packets_sent")
    )


def bound(family: int, address: str) -> socket.socket:
    one = socket.socket(family, socket.SOCK_DGRAM)
    one.bind((address, 0))
    one.settimeout(PATIENCE)
    return one
