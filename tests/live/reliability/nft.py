"""A rule set as nftables says it, on the netdev hook of an interface, and which rule decided each frame.

Owns the translation of ``Match`` and the reading of nft's counters. A frame's number is in its source MAC,
which no rule looks at; the rule that decides adds an element {number, rule} with a counter to a set. It must
never ask xdpguard what a rule means.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address, IPv6Address

import lab
from packets import eth

from xdpguard.rules.model import VLAN_NONE, Addresses, Hook, Intervals, Match

TAGS = "{ 0x8100, 0x88a8, 0x9100 }"
TYPE, VID = "@ll,96,16", "@ll,116,12"
DEFAULT = 0
"""In the place of a rule's number (from 1) where no rule decided."""
_NUMBER = 0x020000000000  # a MAC of our own, plus the number of the frame
_LAST = 0xFFFF

_SETTINGS = """
table netdev judged {{
    set seen {{ typeof ether saddr . meta mark; size 65535; flags dynamic; counter; }}
    chain note {{ add @seen {{ ether saddr . meta mark counter }}; drop; }}
    chain into {{
        type filter hook ingress device "{device}" priority 0; policy accept;
{rules}
        goto note
    }}
}}
"""


def translate(hook: Hook, device: str) -> str:
    """The rules in their order, as one nft file."""
    lines = []
    for number, rule in enumerate(hook.rules, 1):
        lines += [f"{text} counter meta mark set {number} goto note" for text in conditions(rule.match)]
    return _SETTINGS.format(device=device, rules="\n".join(f"        {line}" for line in lines))


def conditions(match: Match) -> list[str]:
    """What a match says, as lines of which at most one takes a packet: a family and a kind of tag each."""
    families = [arp for arp in ("meta protocol arp",) if match.arp]
    families += [text for version in (4, 6) if (text := family(match, version))]
    return [f"{tag} {text}".strip() for text in families for tag in tags(match.vlan)]


def tags(vlan: Intervals | None) -> list[str]:
    if vlan is None:
        return [""]
    ids = [(first, min(last, 4095)) for first, last in vlan if first <= 4095]
    none = any(last == VLAN_NONE for _, last in vlan)
    tagged = [f"{TYPE} {TAGS} {VID} {spans(ids, str)}"] if ids else []
    return tagged + ([f"{TYPE} != {TAGS}"] if none else [])


def family(match: Match, version: int) -> str:
    """The conditions on IPv4 or IPv6 packets; "" if the match takes none of them."""
    if not (match.ipv4 if version == 4 else match.ipv6):
        return ""
    word, icmp = ("ip", "icmp") if version == 4 else ("ip6", "icmpv6")
    parts = [f"meta protocol {word}"]
    if match.protocols is not None:
        numbers = sorted(match.protocols.v4 if version == 4 else match.protocols.v6)
        if not numbers:
            return ""
        parts.append(f"meta l4proto {{ {', '.join(map(str, numbers))} }}")
    for side, addresses in (("saddr", match.src), ("daddr", match.dst)):
        if addresses is not None:
            text = network(addresses, version)
            if not text:
                return ""
            parts += [f"{word} {side} {text}"] if text != "all" else []
    for field, allowed in (
        ("th sport", match.sport),
        ("th dport", match.dport),
        (f"{icmp} type", match.icmp_type),
        (f"{icmp} code", match.icmp_code),
    ):
        if allowed is not None:
            if field.startswith("th"):
                parts.append("meta l4proto { 6, 17, 132 }")
            parts.append(f"{field} {spans(allowed, str)}")
    if match.tcp_flags is not None:
        flags = sorted(match.tcp_flags)
        if not flags:
            return ""
        parts.append(f"meta l4proto 6 @th,104,8 {{ {', '.join(map(str, flags))} }}")
    return " ".join(parts)


def network(addresses: Addresses, version: int) -> str:
    allowed = addresses.v4 if version == 4 else addresses.v6
    if allowed == ((0, (1 << (32 if version == 4 else 128)) - 1),):
        return "all"
    made: Callable[[int], object] = IPv4Address if version == 4 else IPv6Address
    return spans(allowed, made) if allowed else ""


def spans(allowed: Sequence[tuple[int, int]], shown: Callable[[int], object]) -> str:
    parts = [
        f"{shown(first)}" if first == last else f"{shown(first)}-{shown(last)}" for first, last in allowed
    ]
    return f"{{ {', '.join(parts)} }}"


def numbered(frame: bytes, number: int) -> bytes:
    return frame[:6] + (_NUMBER + number).to_bytes(6, "big") + frame[12:]


def deciders(sender: lab.End, receiver: lab.End, hook: Hook, frames: Sequence[bytes]) -> list[int | None]:
    """For each frame the number of the rule, or DEFAULT; None: nft never saw it. Call it on one CPU."""
    lab.run(receiver.name, "nft", "-f", "-", stdin=translate(hook, receiver.dev))
    try:
        last = numbered(bytes(eth(ethertype=0x88B5) / bytes(46)), _LAST)
        sent = [numbered(frame, number) for number, frame in enumerate(frames)]
        lab.send(sender.name, sender.dev, [*sent, last])
        seen = _read(receiver)
    finally:
        lab.run(receiver.name, "nft", "delete", "table", "netdev", "judged")
    return [seen.get(number) for number in range(len(frames))]


def _read(receiver: lab.End) -> dict[int, int]:
    deadline = time.monotonic() + lab.PATIENCE
    while _LAST not in (seen := _seen(receiver)):
        assert time.monotonic() < deadline, "nft never saw the last frame"
    return seen


def _seen(receiver: lab.End) -> dict[int, int]:
    """Frame -> rule, from the counters; each frame is counted once."""
    listed = lab.run(receiver.name, "nft", "-j", "list", "set", "netdev", "judged", "seen").stdout
    seen: dict[int, int] = {}
    for part in json.loads(listed)["nftables"]:
        for element in part.get("set", {}).get("elem", []):
            address, rule = element["elem"]["val"]["concat"]
            number = int(address.replace(":", ""), 16) - _NUMBER
            assert number not in seen, f"frame {number} was decided by {rule} and {seen[number]}"
            assert element["elem"]["counter"]["packets"] == 1
            seen[number] = rule
    return seen
