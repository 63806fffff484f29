"""Rule files that are damaged at random, and those of a megabyte that ask the most of ``check``.

Seeds are the examples, the files that must be refused, and drawn ones. Owns bytes only; what must become of
them is said in test_rules_fuzz.py.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random

from strategies import random_rule_file
from test_rules_refused import REFUSED, RULES, TOP
from test_rules_support import file_of

from xdpguard.rules.model import TCP_FLAGS

EXAMPLES = Path(__file__).resolve().parents[1] / "rules"
HEAD = "version: 1\ndefault: {ingress: pass, egress: pass}\n"
MIB = 1 << 20
WORDS = (
    b"{", b"}", b"[", b"]", b":", b"- ", b", ", b"\n", b"#", b"'", b'"', b"&a ", b"*a", b"!!str ", b"---\n",
    b"? ", b"|\n", b"@office", b"0", b"-", b"65536", b"/33", b"::", b"1.2.3.4", b"\0", b"\xff",
    b"\xef\xbb\xbf", b"\xe2\x80\xae", b"\r", b"\t", b"not", b"none", b"arp", b"icmp", b"dport: ",
    b"rules_file: ", b"file: ", b"<<: ", b"~", b"9" * 400, b"a" * 70, b"%", b"..", b"/", b"/dev/stdin",
    b"redirect: ",
)  # fmt: skip


def good() -> list[bytes]:
    """Files that are accepted."""
    found = [path.read_bytes() for path in sorted(EXAMPLES.glob("*.yaml"))]
    return found + [random_rule_file(Random(at), at).encode() for at in range(1, 9)]


def seeds() -> list[bytes]:
    found = [file_of(f"{{name: r, {text}, action: drop}}").encode() for text, _ in REFUSED]
    found += [file_of(text).encode() for text, _ in RULES] + [text.encode() for text, _ in TOP]
    return good() + found


def damaged(data: bytes, other: bytes, rng: Random) -> bytes:
    """The file with a few pieces taken out, doubled, put in, flipped, or taken from another file."""
    for _ in range(rng.choice((1, 1, 2, 4, 9))):
        at, end = sorted(rng.randint(0, len(data)) for _ in "ab")
        end = min(end, at + rng.choice((1, 4, 30, 400)))
        way = rng.randrange(6)
        if way == 0:
            data = data[:at] + data[end:]
        elif way == 1:
            data = data[:at] + data[at:end] * rng.choice((2, 2, 3, 20)) + data[end:]
        elif way == 2:
            data = data[:at] + rng.choice(WORDS) + data[at:]
        elif way == 3 and at < len(data):
            data = data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :]
        elif way == 4:
            start = rng.randint(0, len(other))
            data = data[:at] + other[start : start + rng.choice((5, 40, 300))] + data[at:]
        else:
            data = data[:at] + rng.choice(WORDS) + data[end:]
    return data


# ---- files of a megabyte --------------------------------------------------------------------------------
def full(head: str, unit: Callable[[int], str], tail: str = "", size: int = MIB) -> str:
    """``head``, as many units as fit, ``tail``."""
    parts, length, at = [head], len(head) + len(tail), 0
    while length + len(piece := unit(at)) <= size:
        parts.append(piece)
        length, at = length + len(piece), at + 1
    return "".join(parts) + tail


def rules(conditions: Callable[[int], str], head: str = HEAD) -> str:
    return full(f"{head}ingress:\n", lambda at: f"- {{name: r{at}, {conditions(at)}action: drop}}\n")


def one(key: str, value: str, head: str = HEAD) -> str:
    return f"{head}ingress: [{{name: a, {key}: {value}, action: drop}}]\n"


def largest_files() -> dict[str, bytes]:
    rng = Random(1)

    def ip() -> str:
        return ".".join(str(rng.randrange(256)) for _ in range(4))

    def some(values: int, count: int) -> str:
        return ", ".join(map(str, rng.sample(range(values), count)))

    many_sets = full(f"{HEAD}sets:\n", lambda at: f"  set{at}: [10.0.0.1]\n", size=MIB // 2)
    a_set = full(f"{HEAD}sets:\n  a: [", lambda at: f"{ip()}, ", "1.1.1.1]\n")
    made = {
        "brackets": "[" * MIB,
        "braces": "{" * MIB,
        "dashes": "- " * (MIB // 2),
        "question marks": "? " * (MIB // 2),
        "maps in maps": "".join(" " * at + "a:\n" for at in range(1400)),
        "one scalar": "a" * MIB,
        "escapes": '"' + "\\u0041" * (MIB // 6 - 1) + '"',
        "a block scalar": "a: |\n" + "  xxxxxxxxxxxx\n" * (MIB // 15 - 1),
        "a long name": one("comment", "a" * (MIB - 200)),
        "a long key": one("d" * (MIB - 200), "1"),
        "a long word": one("proto", "d" * (MIB - 200)),
        "a long address": one("src", "1." * (MIB // 2 - 200)),
        "a long IPv6 address": one("src", f'"{"1:" * (MIB // 2 - 200)}"'),
        "a long number": one("dport", "1" * (MIB - 200)),
        "a long reference": one("src", f'"@{"1" * (MIB - 200)}"', f"{HEAD}sets: {{a: [1.2.3.4]}}\n"),
        "one key": full("", lambda at: "a: 1\n"),
        "one key of a rule": full(f"{HEAD}ingress:\n- name: a\n", lambda at: "  dport: 1\n"),
        "many keys": full("", lambda at: f"k{at}: 1\n"),
        "many keys like one": full(HEAD, lambda at: f"ingres{at}: 1\n"),
        "aliases": "a: &a [1]\n" + "b: *a\n" * (MIB // 7),
        "tags": "!!str " * (MIB // 6),
        "documents": "---\n" * (MIB // 4),
        "directives": "%YAML 1.1\n" * (MIB // 10),
        "comments": "# c\n" * (MIB // 4),
        "many sets": full(f"{HEAD}sets:\n", lambda at: f"  s{at}: [{ip()}]\n"),
        "many sets and none of them": full(
            f"{many_sets}ingress:\n", lambda at: f'- {{name: r{at}, src: "@sat{at}", action: drop}}\n'
        ),
        "a set of addresses": a_set,
        "a list of ports": full(
            f"{HEAD}ingress: [{{name: a, dport: [", lambda at: f"{at * 2 % 65536}, ", "1], action: drop}]\n"
        ),
        "any rules": rules(lambda at: f"proto: tcp, src: {ip()}, dst: {ip()}, dport: {at % 65536}, "),
        "too many broad rules": rules(lambda at: f"dport: {at % 65536}, "),
        "prefixes in prefixes": rules(lambda at: f"src: {ip()}/{8 + at % 25}, dst: {ip()}/{8 + at % 19}, "),
        "ranges over ranges": rules(lambda at: f"src: {ip()}-255.255.255.255, "),
        "one rule": rules(lambda at: ""),
        "one name": full(f"{HEAD}ingress:\n", lambda at: "- {name: r, action: drop}\n"),
        "VLANs": rules(lambda at: f"vlan: [{some(4096, 30)}], "),
        "redirects": full(
            f"{HEAD}ingress:\n",
            lambda at: f"- {{name: r{at}, src: {ip()}, action: {{redirect: {{interface: i{at}}}}}}}\n",
        ),
        "nothing right": full(f"{HEAD}ingress:\n", lambda at: f"- {{nam: r{at}, dport: 700000, srcc: 1}}\n"),
        "missing files": full(f"{HEAD}sets:\n", lambda at: f"  s{at}: {{file: no{at}}}\n"),
        "missing rules files": full(f"{HEAD}ingress:\n", lambda at: f"- {{rules_file: no{at}.tsv}}\n"),
    }
    found = {name: text.encode() for name, text in made.items()}
    found |= {
        "any bytes": rng.randbytes(MIB),
        "NUL": bytes(MIB),
        "UTF-16": ("version: 1\n" * (MIB // 24)).encode("utf-16"),
        "byte order marks": b"\xef\xbb\xbf" * (MIB // 3),
        "line ends": b"\r\n" * (MIB // 2),
        "a bad last byte": found["any rules"][: MIB - 1] + b"\xff",
    }
    return found


def much_from_little() -> dict[str, bytes]:
    """A few words in each rule stand for thousands of values."""
    rng = Random(1)

    def own(at: int) -> str:
        return f"10.{at >> 16}.{at >> 8 & 255}.{at & 255}"

    def some(numbers: range, count: int) -> str:
        return ", ".join(map(str, sorted(rng.sample(numbers, count))))

    def flags(at: int) -> str:
        chosen = [(at % 6560 + 1) // 3**bit % 3 for bit in range(8)]
        of = [
            ", ".join(name for name, way in zip(TCP_FLAGS, chosen, strict=True) if way == it) for it in (1, 2)
        ]
        return f"{{set: [{of[0]}], clear: [{of[1]}]}}"

    def few(at: int) -> str:
        again = Random(at % 2000)
        return ", ".join(map(str, sorted(again.sample(range(2, 58), 3) + again.sample(range(59, 256), 2))))

    ports = f"{HEAD}sets:\n  p: [{', '.join(map(str, range(0, 65536, 2)))}]\n"
    half = full(f"{HEAD}sets:\n  a: [", lambda at: f"{own(at * 2)}, ", "9.9.9.9]\n", size=MIB // 2)
    made = {
        "rules of one set of ports": rules(lambda at: f'dport: "@p", src: {own(at)}, ', ports),
        "rules of all but one set of ports": rules(
            lambda at: f'not: {{dport: "@p"}}, src: {own(at)}, ', ports
        ),
        "a set of ports and one more each": rules(
            lambda at: f'dport: ["@p", {2 * at + 1}], src: {own(at)}, ', ports
        ),
        "a range without a set of ports": rules(
            lambda at: f'dport: 1-{65535 - at}, not: {{dport: "@p"}}, src: {own(at)}, ', ports
        ),
        "a set of addresses and one more each": rules(
            lambda at: f'src: ["@a", {own(2 * at + 1)}], dport: {at}, ', half
        ),
        "a block without a set of addresses": rules(
            lambda at: f'src: 0.0.0.0-12.255.{at >> 8}.{at & 255}, not: {{src: "@a"}}, ', half
        ),
        "short lists of protocols": rules(lambda at: f"proto: [{some(range(256), 8)}], "),
        "long lists of protocols": rules(lambda at: f"proto: [{some(range(256), 30)}], "),
        "a set that many rules cut": rules(
            lambda at: f"src: {own(at)}, " if at < 120 else f'src: "@a", dport: {at}, ',
            f"{HEAD}sets: {{a: [{own(0)}-{own(119)}]}}\n",
        ),
        "broad blocks on both sides": rules(
            lambda at: (
                f"src: 0.0.0.0-{at % 200 + 10}.{at // 200}.0.0, "
                f"dst: {at % 190 + 1}.0.0.0-255.0.{at // 200}.0, "
            )
        ),
        "all but some protocols": rules(lambda at: f"not: {{proto: [{some(range(256), 8)}]}}, "),
        "2,000 lists of all but some protocols": rules(lambda at: f"not: {{proto: [1, 58, {few(at)}]}}, "),
        "all but some flags": rules(lambda at: f"not: {{tcp_flags: {flags(at)}}}, "),
        "short lists of VLANs": rules(lambda at: f"vlan: [{some(range(4096), 8)}], "),
    }
    return {name: text.encode() for name, text in made.items()}
