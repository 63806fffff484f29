"""What a rule set is compiled to, and how it becomes the bytes of one generation. Pure, and without NumPy,
which a load of rules that were compiled before need not import.

Owns what only a load knows: the serial, the names, and where the targets of redirects are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from xdpguard.abi import abi
from xdpguard.errors import Problem, RulesError

_ABI = abi()
_TARGET = _ABI.structs["xg_target"]
MAX_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Target:
    """A redirect target as the kernel knows it. ``mac`` is the target's own address."""

    ifindex: int
    mac: bytes


@dataclass(frozen=True, slots=True)
class Tables:
    """``blob``: the bytes of one generation. ``counters``: how many counters per CPU it needs. ``summary``:
    what the rules of each hook became, in words.
    """

    blob: memoryview
    counters: int
    summary: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Gap:
    """A ``struct xg_target`` at ``offset`` of the tables, to be filled for this interface."""

    offset: int
    interface: str


@dataclass(frozen=True, slots=True)
class Draft:
    """Tables that hold nothing of the host: the same rules give the same bytes.

    ``data``: whole words, a blob without serial, names and targets.
    """

    data: bytes | memoryview
    counters: int
    gaps: tuple[Gap, ...]
    summary: tuple[str, ...]

    def finish(self, file: str, serial: int, targets: Mapping[str, Target] | None, manifest: bytes) -> Tables:
        """``targets`` maps interface names of redirects; None (``check``) writes ifindex 0.

        ``manifest`` is kept in the blob for ``stats`` and ``status``; the BPF programs never read it.
        Raises RulesError if there is no room for it. ``file`` names the rule file in that.
        """
        start = len(self.data)
        size = -(-(start + len(manifest)) // 8) * 8
        if size > MAX_BYTES:
            raise too_large(file)
        blob = bytearray(size)
        blob[:start] = self.data
        blob[start : start + len(manifest)] = manifest
        for name, value in {
            "serial": serial,
            "bytes": size,
            "manifest": start,
            "manifest_bytes": len(manifest),
        }.items():
            _ABI.put(blob, f"xg_blob.{name}", value)
        if targets is not None:
            for gap in self.gaps:
                _fill(blob, gap.offset, targets[gap.interface])
        words = f"tables: {size} bytes, {len(manifest)} of them names"
        return Tables(memoryview(blob), self.counters, (*self.summary, words))


def first_counter(hook: int, rules: tuple[int, int]) -> int:
    """The number of a hook's first counter: those of egress follow those of ingress. ``rules``: of both."""
    return hook * (_ABI.numbers["XG_COUNT_RULES"] + rules[0])


def counters_needed(rules: tuple[int, int]) -> int:
    """How many counters a CPU needs for that many rules."""
    return first_counter(1, rules) + _ABI.numbers["XG_COUNT_RULES"] + rules[1]


def too_large(file: str) -> RulesError:
    words = f"the tables need more than {MAX_BYTES >> 20} MiB; use fewer or broader rules"
    return RulesError([Problem(file, 0, 0, "error", words)])


def packed_target(dst_mac: bytes | None) -> bytes:
    """A ``struct xg_target`` that no load has filled yet."""
    packed = bytearray(_TARGET.size)
    if dst_mac is not None:
        _ABI.put(packed, "xg_target.rewrite", 1)
        offset = _TARGET.fields["dst_mac"].offset
        packed[offset : offset + 6] = dst_mac
    return bytes(packed)


def _fill(blob: bytearray, at: int, target: Target) -> None:
    _ABI.put(blob, "xg_target.ifindex", target.ifindex, at)
    if _ABI.get(blob, "xg_target.rewrite", at):
        offset = at + _TARGET.fields["src_mac"].offset
        blob[offset : offset + 6] = target.mac
