"""The match keys of a rule: each value on its own, from tree node to plain data.

Owns what one key may hold. Values seen before are not read again, since rules repeat them. Must never compare
two keys; that is match.py's work.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import chain

from .addresses import parse_block
from .intervals import union
from .joins import Joins
from .model import PROTOCOLS, TCP_FLAGS, VLAN_NONE, Addresses, Interval, Intervals
from .numbers import named, number_range
from .report import Mark, Report
from .sets import Sets
from .text import Refused, allowed, show, suggest
from .tree import Mapping, Node, Scalar, Sequence, check_keys

MATCH_KEYS = (
    "family", "proto", "src", "dst", "sport", "dport", "tcp_flags", "icmp_type", "icmp_code", "vlan",
)  # fmt: skip
"""The closed list of what a rule can match on; the same under ``not``."""

FAMILIES = {"ipv4": 1, "ipv6": 2}
"""Bits of a family mask."""

ARP = -1
"""Stands for ``arp`` among protocol numbers while a rule is read; it is no IP protocol."""

MAX_PROTOCOL_LISTS = 2048
"""Different lists of protocols in one rule file: resolved, one takes up to 32 KiB."""

_PROTOCOL_NAMES = PROTOCOLS | {"arp": ARP}


@dataclass(slots=True)
class Fields:
    """The match keys of a rule, or of its ``not``. A key in ``marks`` whose value is None was refused."""

    marks: dict[str, Mark] = field(default_factory=dict)
    family: int | None = None
    proto: frozenset[int] | None = None  # may hold ARP
    src: Addresses | None = None
    dst: Addresses | None = None
    sport: Intervals | None = None
    dport: Intervals | None = None
    tcp_flags: frozenset[int] | None = None
    vlan: Intervals | None = None
    icmp_type: Node | None = None  # not read yet: names depend on the protocol
    icmp_code: Node | None = None


class Reader:
    """Reads match keys of one rule file."""

    def __init__(self, report: Report, sets: Sets, joins: Joins) -> None:
        self._report = report
        self._sets = sets
        self._joins = joins
        self._addresses: dict[str, Addresses] = {}
        self._lists: dict[tuple[str, ...], Addresses] = {}
        self._intervals: dict[tuple[str, str], Intervals] = {}
        self._ports: dict[tuple[str, ...], Intervals] = {}
        self._protocols: dict[Intervals, frozenset[int]] = {}
        self._flags: dict[tuple[int, int], frozenset[int]] = {}
        self._readers: dict[str, Callable[[str, Node], object]] = {
            "family": self._family,
            "proto": self._proto,
            "src": self._address,
            "dst": self._address,
            "sport": self._port,
            "dport": self._port,
            "tcp_flags": self._tcp_flags,
            "icmp_type": lambda _key, node: node,
            "icmp_code": lambda _key, node: node,
            "vlan": self._vlan,
        }

    def read(self, mapping: Mapping) -> Fields:
        """The match keys of a mapping; its other keys are left alone."""
        fields = Fields(mapping.marks)
        for key, node in mapping.items.items():
            reader = self._readers.get(key)
            if reader is not None:
                setattr(fields, key, reader(key, node))
        return fields

    def intervals(self, key: str, node: Node, parse: Callable[[str], Interval]) -> Intervals | None:
        """One value or a list, each read by ``parse``. None when a value was refused."""
        scalars = self._scalars(key, node)
        if scalars is None:
            return None
        parts: list[Interval] = []
        for scalar in scalars:
            try:
                parts.append(parse(scalar.text))
            except Refused as error:
                self._report.error(scalar.mark, str(error))
        return union(parts) if len(parts) == len(scalars) else None

    def _scalars(self, key: str, node: Node) -> list[Scalar] | None:
        if isinstance(node, Mapping):
            self._report.error(node.mark, f"{key} takes one value or a list, not a mapping")
            return None
        items = node.items if isinstance(node, Sequence) else [node]
        scalars = [item for item in items if isinstance(item, Scalar)]
        for item in items:
            if not isinstance(item, Scalar):
                self._report.error(item.mark, f"a list of {key} holds single values only")
            elif not item.text:
                self._report.error(item.mark, f"{key} has no value; remove the key or give one")
        if not items:
            self._report.error(
                node.mark, f"an empty list for {key} matches nothing; remove the key or give values"
            )
        good = len(scalars) == len(items) and all(scalar.text for scalar in scalars)
        return scalars if scalars and good else None

    def _family(self, key: str, node: Node) -> int | None:
        bits = FAMILIES.get(node.text) if isinstance(node, Scalar) else None
        if bits is None:
            what = f"{show(node.text)} is unknown" if isinstance(node, Scalar) else "takes one value"
            self._report.error(node.mark, f"{key} {what}; {allowed(FAMILIES)} (without the key: both)")
        return bits

    def _proto(self, key: str, node: Node) -> frozenset[int] | None:
        parts = self._cached(key, node, lambda text: named(text, key, 255, _PROTOCOL_NAMES))
        if parts is None:
            return None
        found = self._protocols.get(parts)
        if found is None:
            if len(self._protocols) == MAX_PROTOCOL_LISTS:
                words = f"more than {MAX_PROTOCOL_LISTS} different lists of protocols in one rule file"
                self._report.error(node.mark, f"{words}; at most {MAX_PROTOCOL_LISTS} are allowed")
                return None
            found = frozenset(number for low, high in parts for number in range(low, high + 1))
            self._protocols[parts] = found
        return found

    def _vlan(self, key: str, node: Node) -> Intervals | None:
        return self._cached(key, node, _vlan_id)

    def _cached(self, key: str, node: Node, parse: Callable[[str], Interval]) -> Intervals | None:
        if not isinstance(node, Scalar):
            return self.intervals(key, node, parse)
        found = self._intervals.get((key, node.text))
        if found is None:
            found = self.intervals(key, node, parse)
            if found is not None:
                self._intervals[key, node.text] = found
        return found

    def _port(self, key: str, node: Node) -> Intervals | None:
        if isinstance(node, Scalar) and node.text[:1] != "@":
            return self._cached(key, node, lambda text: number_range(text, key, 65535))
        scalars = self._scalars(key, node)
        if scalars is None:
            return None
        texts = tuple(scalar.text for scalar in scalars)
        known = self._ports.get(texts)
        if known is not None:
            return known
        found = [self._ports_of(key, scalar) for scalar in scalars]
        good = [parts for parts in found if parts is not None]
        if len(good) < len(found):
            return None
        if not any(text[0] == "@" for text in texts):
            return union(chain(*good))
        joined = self._ports[texts] = self._joins.union(good, node.mark)
        return joined

    def _ports_of(self, key: str, scalar: Scalar) -> Intervals | None:
        if scalar.text[0] == "@":
            found = self._sets.use(scalar.text, "port", scalar.mark)
            return found.ports if found is not None else None
        return self._cached(key, scalar, lambda text: number_range(text, key, 65535))

    def _address(self, key: str, node: Node) -> Addresses | None:
        if isinstance(node, Scalar) and node.text:
            return self._one_address(node)
        scalars = self._scalars(key, node)
        if scalars is None:
            return None
        texts = tuple(scalar.text for scalar in scalars)
        known = self._lists.get(texts)
        if known is not None:
            return known
        found = [self._one_address(scalar) for scalar in scalars]
        good = [addresses for addresses in found if addresses is not None]
        if len(good) < len(found):
            return None
        joined = good[0] if len(good) == 1 else self._join(good, node.mark)
        if all(text in self._addresses or text[0] == "@" for text in texts):  # no entry has a note
            self._lists[texts] = joined
        return joined

    def _join(self, some: list[Addresses], mark: Mark) -> Addresses:
        v4, v6 = [each.v4 for each in some if each.v4], [each.v6 for each in some if each.v6]
        return Addresses(
            self._joins.union(v4, mark) if v4 else (),
            self._joins.union(v6, mark) if v6 else (),
        )

    def _one_address(self, scalar: Scalar) -> Addresses | None:
        text = scalar.text
        known = self._addresses.get(text)
        if known is not None:
            return known
        if text[0] == "@":
            found = self._sets.use(text, "address", scalar.mark)
            return found.addresses if found is not None else None
        try:
            block = parse_block(text)
        except Refused as error:
            self._report.error(scalar.mark, str(error))
            return None
        part = ((block.first, block.last),)
        addresses = Addresses(part, ()) if block.version == 4 else Addresses((), part)
        if block.note:
            self._report.note(scalar.mark, block.note)  # not remembered: each place gets its note
        else:
            self._addresses[text] = addresses
        return addresses

    def _tcp_flags(self, key: str, node: Node) -> frozenset[int] | None:
        if not isinstance(node, Mapping):
            self._report.error(
                node.mark, "tcp_flags takes {set: [...], clear: [...]}, as in {set: [syn], clear: [ack]}"
            )
            return None
        known = check_keys(node, ("set", "clear"), key, self._report)
        masks: dict[str, int | None] = {name: self._flag_mask(name, node) for name in ("set", "clear")}
        wanted, banned = masks["set"], masks["clear"]
        if wanted is None or banned is None or not known:
            return None
        if not wanted | banned:
            self._report.error(node.mark, "tcp_flags names no flag; give set or clear at least one")
            return None
        if wanted & banned:
            both = [name for name, bit in TCP_FLAGS.items() if wanted & banned & bit]
            self._report.error(node.mark, f"tcp_flags: {', '.join(both)} cannot be set and clear at once")
            return None
        found = self._flags.get((wanted, banned))
        if found is None:
            found = frozenset(byte for byte in range(256) if byte & wanted == wanted and not byte & banned)
            self._flags[wanted, banned] = found
        return found

    def _flag_mask(self, name: str, mapping: Mapping) -> int | None:
        node = mapping.items.get(name)
        if node is None:
            return 0 if name not in mapping.marks else None
        if isinstance(node, Sequence) and not node.items:
            return 0
        scalars = self._scalars(name, node)
        mask = 0
        for scalar in scalars or ():
            bit = TCP_FLAGS.get(scalar.text)
            if bit is None:
                words = f"unknown TCP flag {show(scalar.text)}; {suggest(scalar.text, TCP_FLAGS)}"
                self._report.error(scalar.mark, words)
                scalars = None
            else:
                mask |= bit
        return mask if scalars is not None else None


def _vlan_id(text: str) -> Interval:
    return named(text, "vlan", 4095, {"none": VLAN_NONE})
