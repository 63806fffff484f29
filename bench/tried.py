"""What stands between a figure and its bar, and what was tried: printed for the rows that are not reached.

Every number here was measured once, in turn with the build before, and is of that day's machine.
"""

from __future__ import annotations

from collections.abc import Collection
from textwrap import fill
from typing import NamedTuple

_WIDTH = 110


class Note(NamedTuple):
    """``keys``: of ``figures.BARS``."""

    keys: tuple[str, ...]
    why: str
    tried: tuple[str, ...]


NOTES = (
    Note(
        ("10k 65536", "10k 65536 worst", "100k 65536", "100k 65536 worst", "prototype 65536"),
        """New flows. One of ClassBench acl1 with 10,000 rules takes some 740 instructions of the program,
        one that is remembered 245; and it touches a dozen cache lines of tables, of which the longest
        chain is index, tree, leaf, pair, list, condition, each behind the one before. Three branches a packet
        cannot be predicted, most of them how deep the trees are at this address. With 100,000 rules the
        tables are larger than the second-level cache, and each step of that chain is a miss.""",
        (
            "4 + 4 keys a tree node instead of 15: -7 ns with few flows",
            "an index before the trees: -2 ns",
            "a pair's place found without a branch: -1 ns",
            "a short way for plain packets: -9 ns",
            "remembering one missed flow in four: nothing",
            "the packet's header in registers: -1 ns, and the verifier follows every way; not kept",
            "the action beside the rule in the flow memory: +4 ns; not kept",
            "fewer instructions (of the bytecode, interpreted): acl1 821 -> 735, own fw1 1,379 -> 1,170",
            "the first condition of each group asked without a branch, and kept in its list: 0 to +20 %, "
            "since a processor reads on behind a branch but waits for a value; not kept",
            "a second stage of index: 2.1 -> 0.9 levels in own acl1, 0.6 -> 0.6 in fw1, by calculation, for "
            "one more step everywhere; not built",
        ),
    ),
    Note(
        ("ipv6 256", "ipv6 65536"),
        """IPv6. Four words of each address are read and compared where IPv4 has one. With new flows an
        address is found in its leaf or in half a line more, trees have eight keys a line instead of
        sixteen, and the flow memory is looked at in two lines instead of one.""",
        (
            "a short way for plain packets, an address read as two words: -6 ns with few flows, -7 with many",
            "two lines that a flow may lie in, by the throw of a coin: 50 -> 37 ns with 256 flows",
            "leaves that name what is known of an upper half, prefixes in half a line: tables 2.6 -> 1.6 MB",
        ),
    ),
    Note(
        ("counting",),
        """Counting adds two packets and two byte counts, some 20 of 245 instructions, about 2 ns; it was
        1.06x when the rest took 28 ns, and the rest takes under 20 now.""",
        (
            "one cell for protocol and action together instead of one each: two additions less",
            "numbers of 64 bits, so that none is cut: 27 -> 20 instructions",
        ),
    ),
    Note(
        ("xdp-filter 10",),
        """xdp-filter, asked for ports alone, reads the headers up to the port and looks it up in one array.
        xdpguard does for these rules what it does for any: it decides by the flow's whole key,
        counts by rule and by protocol and action, and reads which generation is in force.""",
        (
            "a short way for plain packets: -6 ns of 29",
            "the action beside the rule in the flow memory: nothing with few flows",
        ),
    ),
    Note(
        ("load 10", "load 10k", "load 100k", "load 100k nft"),
        """A first load reads, checks and compiles. With 10 rules an unchanged one, which needs neither the
        parser nor NumPy, takes 0.40 s of CPU where the first takes 0.59. Of 2.0 s of CPU for
        100,000 rules 0.4 are the lines of the rules file, 0.4 the tables, 0.3 names and keys, in a child
        beside the tables.""",
        (
            "templates for lines that differ in addresses and ports only: 1.6 -> 1.2 s of parsing",
            "lines read by their columns, each distinct text once: 1.2 -> 0.4 s",
            "sorts replaced by look-ups, overflowing lists made before the pairs: tables 0.9 -> 0.4 s",
            "names and keys packed in a child process: 0.3 s that nobody waits for",
            "routes and neighbours read without a netlink library: -0.13 s of CPU on every load",
        ),
    ),
)


def section(missed: Collection[str]) -> str:
    """Markdown about these rows; empty if nothing is known of them."""
    parts = ["## What was tried where a bar is not reached"]
    for note in NOTES:
        if set(note.keys) & set(missed):
            words = fill(f"{' '.join(note.why.split())} Tried:", _WIDTH)
            parts.append("\n".join((words, "", *(f"- {one}" for one in note.tried))))
    return "\n\n".join(parts) + "\n" if len(parts) > 1 else ""
