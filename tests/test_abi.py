"""``xdpguard/abi.py`` reads the headers that define things; a C compiler says whether it reads them right.

The compiler is the clang inside BCC, the very one that compiles the programs, run in a child process (it
needs no privilege: nothing is loaded). Every number, size and offset becomes a _Static_assert.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from xdpguard import abi as module
from xdpguard.abi import Abi, abi, folder

HEADERS = ("abi.h", "tables.h", "events.h", "memory.h")
SIZES = {"__u8": 1, "__u16": 2, "__u32": 4, "__u64": 8}
COMPILE = """
import sys
from bcc import BPF
BPF(text=sys.stdin.read(), cflags=["-I" + sys.argv[1], "-DPAGE_SIZE=4096"])
"""
needs_clang = pytest.mark.skipif(
    importlib.util.find_spec("bcc") is None, reason="no C compiler for BPF: python3-bpfcc is not installed"
)


def field_size(known: Abi, struct: str, name: str) -> int:
    field = known.structs[struct].fields[name]
    one = SIZES[field.type] if field.type in SIZES else known.structs[field.type].size
    return one * max(field.count, 1)


def claims(known: Abi) -> Iterator[str]:
    """Everything that Python believes, as C conditions."""
    for name, value in known.numbers.items():
        yield f"{name} == {value}"
    for struct in known.structs.values():
        yield f"sizeof(struct {struct.name}) == {struct.size}"
        yield f"_Alignof(struct {struct.name}) == {struct.align}"
        for field in struct.fields.values():
            place = f"struct {struct.name}, {field.name}"
            yield f"__builtin_offsetof({place}) == {field.offset}"
            size = field_size(known, struct.name, field.name)
            yield f"sizeof(((struct {struct.name} *)0)->{field.name}) == {size}"


def complaints(known: Abi, include: Path) -> str:
    """What the compiler says to these claims about the headers in a folder; "" if it agrees."""
    asserts = "".join(f'_Static_assert({claim}, "no");\n' for claim in claims(known))
    source = (
        f'#include "events.h"\n#include "memory.h"\n{asserts}int nothing(void *context) {{ return 0; }}\n'
    )
    environment = os.environ | {"BCC_KERNEL_SOURCE": str(folder() / "include" / "kbuild")}
    done = subprocess.run(
        [sys.executable, "-c", COMPILE, str(include)],
        input=source,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    # Clang 14 says static_assert, clang 19 static assertion; else the headers do not compile at all.
    assert "static_assert" in done.stderr or "static assertion" in done.stderr, done.stderr
    return done.stderr


@needs_clang
def test_every_number_size_and_offset_is_the_compilers() -> None:
    assert complaints(abi(), folder() / "include") == ""


MOVES = {
    "two fields exchanged": (
        "__u32 bytes;            // used\n\t__u32 manifest; ",
        "__u32 manifest;\n\t__u32 bytes; ",
    ),
    "a field inserted": ("__u64 serial; ", "__u32 more, still_more; __u64 serial; "),
    "a field made wider": ("__u32 kinds; ", "__u64 kinds; "),
    "an array made longer": ("src_mac[6]", "src_mac[8]"),
    "an enum entry inserted": ("XG_PROTO_UDP,", "XG_PROTO_NEW, XG_PROTO_UDP,"),
    "a number changed": ("#define XG_L4_TCP6 1024", "#define XG_L4_TCP6 1023"),
    "a field of an event inserted": (
        "__u64 handshake_ns; // connect()",
        "__u64 more, handshake_ns; // connect()",
    ),
    "a kind of event inserted": ("XG_EV_RETRANSMIT,", "XG_EV_NEW, XG_EV_RETRANSMIT,"),
    "a path made longer": ("#define XG_PATH 256", "#define XG_PATH 264"),
    "a placeholder changed": ("XG_MAP_TARGETS 0x7e000004", "XG_MAP_TARGETS 0x7e000005"),
}


@needs_clang
@pytest.mark.parametrize("move", MOVES)
def test_the_compiler_notices(move: str, tmp_path: Path) -> None:
    old, new = MOVES[move]
    include = tmp_path / "include"
    shutil.copytree(folder() / "include", include)
    changed = 0
    for name in HEADERS:
        text = (include / name).read_text()
        (include / name).write_text(text.replace(old, new))
        changed += text.count(old)
    assert changed == 1
    assert complaints(abi(), include)


def test_no_struct_has_a_hole() -> None:
    known = abi()
    for struct in known.structs.values():
        end = 0
        for field in struct.fields.values():
            assert field.offset == end, f"{struct.name}: a hole before {field.name}"
            end += field_size(known, struct.name, field.name)
        assert struct.size == end, f"{struct.name}: a hole at the end"


def test_every_struct_and_number_of_the_headers_is_read() -> None:
    text = "".join((folder() / "include" / name).read_text() for name in HEADERS)
    structs = {line.split()[1] for line in text.splitlines() if line.startswith("struct xg_")}
    defined = {line.split()[1] for line in text.splitlines() if line.startswith("#define XG_")}
    assert set(abi().structs) == structs
    assert defined <= set(abi().numbers)


# ---- what the numbers must be to each other -----------------------------------------------------------
def test_offsets_that_programs_read_as_words_are_aligned() -> None:
    known = abi()
    for struct in known.structs.values():
        for field in struct.fields.values():
            if field.type in SIZES:
                assert field.offset % SIZES[field.type] == 0


def test_the_control_page_holds_its_struct_and_the_word_comes_first() -> None:
    known = abi()
    assert known.structs["xg_control"].size <= known.numbers["XG_CONTROL_BYTES"]
    assert known.offset("xg_control.word") == 0


def test_the_limits_agree_with_each_other() -> None:
    numbers = abi().numbers
    assert numbers["XG_MAX_WIDE"] == numbers["XG_MAX_BLOCKS"] * numbers["XG_BLOCK_RULES"]
    assert 2 * (numbers["XG_MAX_RULES"] + numbers["XG_COUNT_RULES"]) <= 1 << 18
    assert numbers["XG_MAX_RULES"] <= 1 << 17 < numbers["XG_NO_RULE"]  # decide.h masks a rule's number
    assert numbers["XG_NO_RULE"] == numbers["XG_RULE_MASK"]
    assert numbers["XG_SLOTS"] & numbers["XG_SLOTS"] - 1 == 0
    assert numbers["XG_SLOTS"] <= numbers["XG_WORD_SLOT_MASK"]
    assert numbers["XG_PORT_PAGES"] * 256 == 1 << 16
    assert numbers["XG_L4_HEADER"] + numbers["XG_L4_IPV6"] + 256 == numbers["XG_L4_PAGES"] * 256
    assert numbers["XG_VLAN_NONE"] < numbers["XG_VLAN_PAGES"] * 256


def test_the_parts_of_a_word_lie_beside_each_other() -> None:
    numbers = abi().numbers
    assert numbers["XG_RULE_MASK"] + 1 == 1 << numbers["XG_AT_SHIFT"]
    assert numbers["XG_AT_MASK"] + 1 == 1 << numbers["XG_LIST_SHIFT"] - numbers["XG_AT_SHIFT"]
    assert numbers["XG_LIST_SHIFT"] < numbers["XG_BROAD_SHIFT"]
    assert numbers["XG_AT_MASK"] * 16 < 1 << 31  # so that a mask of it is one instruction
    assert numbers["XG_MAX_BROAD"] == 1 << 64 - numbers["XG_BROAD_SHIFT"]
    assert numbers["XG_NODE_MASK"] + 1 == 1 << numbers["XG_NODE_SHIFT"]
    assert numbers["XG_TREE_LEVELS"] < 1 << 32 - numbers["XG_NODE_SHIFT"]


def test_what_the_programs_read_by_the_line_fills_lines() -> None:
    known = abi()
    line = known.numbers["XG_LINE"]
    for name in ("xg_row", "xg_leaf6", "xg_block6", "xg_pair", "xg_condition"):
        assert line % known.structs[name].size == 0, name
    assert known.numbers["XG_FLOWS_BYTES"] == 2 * known.numbers["XG_FLOW_LINES"] * line
    assert known.numbers["XG_FLOW_LINES"] & known.numbers["XG_FLOW_LINES"] - 1 == 0
    assert known.numbers["XG_PACKETS_BYTES"] == 2 * known.numbers["XG_PACKET_BYTES"]
    assert known.offset("xg_cpu.flows") % line == 0


def test_reasons_are_named_in_the_order_of_their_numbers() -> None:
    numbers = abi().numbers
    names = module.reasons()
    assert len(names) == numbers["XG_REASONS"]
    assert names[0] == "none"
    for at, name in enumerate(names[1:], 1):
        assert numbers[f"XG_{name.upper()}"] == at


def test_a_field_is_written_and_read_at_its_place_alone() -> None:
    known = abi()
    memory = bytearray(b"\xff" * 64)
    known.put(memory, "xg_target.rewrite", 0x01020304, base=8)
    start = 8 + known.offset("xg_target.rewrite")
    assert memory == b"\xff" * start + b"\4\3\2\1" + b"\xff" * (60 - start)
    assert known.get(memory, "xg_target.rewrite", base=8) == 0x01020304


@pytest.mark.parametrize("expression", ["1 << 2", "__import__", "XG_NOT_THERE", "2 ** 9 / 3"])
def test_an_expression_that_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises((ValueError, KeyError)):
        module._numbers(f"#define XG_NEW {expression}\n")


def test_a_struct_with_holes_is_laid_out_as_c_does() -> None:
    text = (
        "struct xg_inner {\n__u8 a;\n__u32 b;\n__u8 c[3];\n};\n"
        "struct xg_outer {\n__u16 first, second;\n__u8 third;\nstruct xg_inner in[XG_TWO];\n__u64 last;\n};\n"
    )
    found = module._structs(text, {"XG_TWO": 2})
    inner, outer = found["xg_inner"], found["xg_outer"]
    assert [(field.name, field.offset) for field in inner.fields.values()] == [("a", 0), ("b", 4), ("c", 8)]
    assert (inner.size, inner.align) == (12, 4)
    assert [field.offset for field in outer.fields.values()] == [0, 2, 4, 8, 32]
    assert (outer.size, outer.align) == (40, 8)
