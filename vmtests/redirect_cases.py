"""What the redirect lab sends, and where each frame must be seen: a table of cases, and their rules.

Pure data. The four kinds of frame (IPv4 and IPv6, plain and with a VLAN tag) go the same ways, and each has a
rule of its own for each way, so that every case has a counter of its own. A frame that is to be forwarded is
for a host that the server does not know, so that nothing answers; only a ping is for the server itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, count, zip_longest

from packets import eth, icmp, icmpv6, ipv4, ipv6, udp, vlan

VLAN = 5
CLIENT, CLIENT0 = "02:00:00:00:01:02", "02:00:00:00:01:01"
SERVER0, SERVER = "02:00:00:00:02:01", "02:00:00:00:02:02"
IDS0, IDS = "02:00:00:00:03:01", "02:00:00:00:03:02"

Place = tuple[str, str]  # machine, interface
AT_CLIENT0, AT_SERVER0, AT_IDS0 = ("filter", "client0"), ("filter", "server0"), ("filter", "ids0")
AT_CLIENT, AT_SERVER, AT_IDS = ("client", "net0"), ("server", "net0"), ("ids", "net0")
PLACES = (AT_CLIENT0, AT_SERVER0, AT_IDS0, AT_CLIENT, AT_SERVER, AT_IDS)


# ---- what is sent ---------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of frame, and its addresses. ``stranger``: behind the server's link, and nobody."""

    name: str
    client: str
    server: str
    stranger: str
    tagged: bool

    @property
    def v6(self) -> bool:
        return ":" in self.client

    def match(self, key: str) -> str:
        """Its part of a rule; ``key`` is where the client's address stands, src or dst."""
        return f'{key}: "{self.client}", vlan: {VLAN if self.tagged else "none"}'


KINDS = (
    Kind("ipv4", "192.0.2.2", "198.51.100.2", "198.51.100.99", False),
    Kind("ipv6", "2001:db8:1::2", "2001:db8:2::2", "2001:db8:2::99", False),
    Kind("vlan-ipv4", "203.0.113.2", "203.0.113.130", "203.0.113.199", True),
    Kind("vlan-ipv6", "2001:db8:3::2", "2001:db8:4::2", "2001:db8:4::99", True),
)
LAST = Kind("last", "192.0.2.3", "198.51.100.2", "198.51.100.99", False)
"""Of the frames that end a run: one for each way."""


@dataclass(frozen=True, slots=True)
class Step:
    """A place where a frame is seen. ``macs``: destination, source; they and the TTL as they are there."""

    place: Place
    macs: tuple[str, str]
    ttl: int = 64
    answer: bool = False  # not the frame, but the answer to it


@dataclass(frozen=True, slots=True)
class Way:
    """``dport``: of the datagrams that go this way; 0: they are pings. ``ports``: what its rule matches."""

    name: str
    dport: int
    action: str
    steps: tuple[Step, ...] = ()
    ports: str = ""
    egress: str = ""  # the action of a second rule, where the forwarded frame leaves


def _at(near: Place, far: Place, *macs: str, ttl: int = 64) -> tuple[Step, Step]:
    """What crosses a link is seen at both of its ends."""
    return Step(near, (macs[0], macs[1]), ttl), Step(far, (macs[0], macs[1]), ttl)


_ON_TO_SERVER = _at(AT_SERVER0, AT_SERVER, SERVER, SERVER0, ttl=63)
_BACK = _at(AT_CLIENT0, AT_CLIENT, CLIENT, CLIENT0)
_IDS = _at(AT_IDS0, AT_IDS, IDS, IDS0)
_ANSWER = (
    Step(AT_SERVER0, (SERVER0, SERVER), 64, True),
    Step(AT_CLIENT0, (CLIENT, CLIENT0), 63, True),
    Step(AT_CLIENT, (CLIENT, CLIENT0), 63, True),
)
_TO_SERVER = f'{{redirect: {{interface: server0, dst_mac: "{SERVER}"}}}}'
_TO_IDS = f'{{redirect: {{interface: ids0, dst_mac: "{IDS}"}}}}'

WAYS = {
    way.name: way
    for way in (
        Way("drop", 1001, "drop"),
        Way("pass", 1002, "pass", _ON_TO_SERVER),
        Way("tx", 1003, "tx", _BACK),
        Way("to-server", 1004, _TO_SERVER, _at(AT_SERVER0, AT_SERVER, SERVER, SERVER0)),
        Way("to-ids", 1005, _TO_IDS, _IDS),
        Way("ping", 0, "pass", (*_ON_TO_SERVER, *_ANSWER)),
        # Three rules that match the first of these, two the second.
        Way("order-tx", 2001, "tx", _BACK),
        Way("order-drop", 2002, "drop", ports="2001-2002"),
        Way("order-to-ids", 2003, _TO_IDS, _IDS, ports="2001-2003"),
        Way("out-drop", 3001, "pass", egress="drop"),
        Way("out-to-ids", 3002, "pass", _at(AT_IDS0, AT_IDS, IDS, IDS0, ttl=63), egress=_TO_IDS),
    )
}


@dataclass(frozen=True, slots=True)
class Case:
    """``frames`` frames of one kind that go one way."""

    way: Way
    kind: Kind
    frames: int

    @property
    def name(self) -> str:
        """Of its rule too."""
        return f"{self.way.name}-{self.kind.name}"

    @property
    def token(self) -> bytes:
        """In every frame of this case and in no other frame of the run."""
        return f"/{self.name}/".encode()

    def sent(self, marker: bytes) -> list[bytes]:
        return self._frames(Step(AT_CLIENT0, (CLIENT0, CLIENT)), marker)

    def expected(self, marker: bytes) -> dict[Place, list[bytes]]:
        """What is seen at each place. On the client's link, that is first what was sent."""
        found: dict[Place, list[bytes]] = {place: [] for place in PLACES}
        found[AT_CLIENT0] = self.sent(marker)
        for step in self.way.steps:
            found[step.place] += self._frames(step, marker)
        return found

    def _frames(self, step: Step, marker: bytes) -> list[bytes]:
        return [
            frame(self, step, marker + self.token + f"{number:03}".encode()) for number in range(self.frames)
        ]


def frame(case: Case, step: Step, payload: bytes) -> bytes:
    kind, dport = case.kind, case.way.dport
    source, destination = kind.client, kind.stranger if dport else kind.server
    if step.answer:
        source, destination = destination, source
    echo = icmpv6(129 if step.answer else 128) if kind.v6 else icmp(0 if step.answer else 8)
    packet = (udp(40000, dport) if dport else echo) / payload
    start = eth(*step.macs) / vlan(VLAN) if kind.tagged else eth(*step.macs)
    if kind.v6:
        return bytes(start / ipv6(source, destination, hop_limit=step.ttl) / packet)
    return bytes(start / ipv4(source, destination, ttl=step.ttl) / packet)


def without_identification(frame: bytes) -> bytes:
    """A frame without the fields that a kernel which answers sets as it likes (RFC 6864, RFC 6437)."""
    at = 18 if frame[12:14] == b"\x81\0" else 14
    if frame[at] >> 4 == 4:  # identification, don't fragment, and so the checksum
        return frame[: at + 4] + bytes(4) + frame[at + 8 : at + 10] + bytes(2) + frame[at + 12 :]
    return frame[:at] + b"\x60\0\0\0" + frame[at + 4 :]  # traffic class, flow label


# ---- the cases ------------------------------------------------------------------------------------------
# Primes, another one for each case: no count is another one's, or the sum of some by a simple mistake.
_primes = (number for number in count(53) if all(number % divisor for divisor in range(2, 20)))

CASES = {
    case.name: case for case in (Case(way, kind, next(_primes)) for way in WAYS.values() for kind in KINDS)
}
ENDS = tuple(Case(WAYS[name], LAST, 1) for name in ("tx", "to-server", "to-ids", "out-to-ids", "ping"))


def interleaved(cases: Sequence[Case], marker: bytes) -> list[bytes]:
    """The frames of all cases in turns, so that neighbours have different verdicts."""
    turns = zip_longest(*(case.sent(marker) for case in cases))
    return [one for one in chain.from_iterable(turns) if one is not None]


# ---- their rules ----------------------------------------------------------------------------------------
def client_rules() -> str:
    """For client0: every way in, and out of it the answers to pings."""
    lines = ["version: 1", "ingress:"]
    lines += [_rule(case, case.way.action) for case in (*CASES.values(), *ENDS)]
    lines += ["egress:"]
    lines += [
        f"  - {{name: answer-{kind.name}, proto: {_echo(kind)}, icmp_type: echo-reply, "
        f"{kind.match('dst')}, action: pass}}"
        for kind in KINDS
    ]
    return "\n".join(lines) + "\n"


def server_rules() -> str:
    """For server0: what leaves by it."""
    cases = (case for case in (*CASES.values(), *ENDS) if case.way.egress)
    return "\n".join(["version: 1", "egress:", *(_rule(case, case.way.egress) for case in cases)]) + "\n"


def _rule(case: Case, action: str) -> str:
    ports = case.way.ports or case.way.dport
    what = f"proto: udp, dport: {ports}" if ports else f"proto: {_echo(case.kind)}, icmp_type: echo-request"
    return f"  - {{name: {case.name}, {what}, {case.kind.match('src')}, action: {action}}}"


def _echo(kind: Kind) -> str:
    return "icmpv6" if kind.v6 else "icmp"
