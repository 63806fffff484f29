"""``xdpguard trace``: its command line, what goes where, and how it ends. The kernel's side is replaced."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from cli_fakes import Install, Output, raising
from trace_fakes import FakeLive, fake_live
from trace_samples import SAMPLES

from xdpguard.cli import options
from xdpguard.cli.main import main
from xdpguard.errors import KernelError, NotLoadedError, PrivilegeError, XdpguardError
from xdpguard.trace.model import Filter
from xdpguard.ui import trace_json, trace_nprobe, trace_table, trace_text

OWN = frozenset({Path("/proc/thread-self/ns/net").stat().st_ino})


@pytest.fixture
def live(install: Install) -> type[FakeLive]:
    found = fake_live()
    install("trace.live", Live=found)
    return found


def wanted(live: type[FakeLive], line: str) -> Filter:
    assert main(["trace", *line.split()]) == 0
    return live.made[-1].wanted


# ---- the command line -----------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("letters", "kinds"),
    [
        ("", set()),
        ("-tio", {"accept", "connect", "connect-failed"}),
        ("-t -i -o", {"accept", "connect", "connect-failed"}),
        ("-uo", {"udp-send"}),
        ("-rc", {"retransmit", "close"}),
        ("--tcp --on", {"connect", "connect-failed"}),
    ],
)
def test_letters_combine_as_ebpflowexports_do(letters: str, kinds: set[str], live: type[FakeLive]) -> None:
    assert wanted(live, letters).kinds == kinds


def test_filters_take_comma_lists_and_several_options(live: type[FakeLive]) -> None:
    line = "--pid 1,2 --pid 3 --user root,7 --container web,db --port 80 --port 443 --cidr 10.0.0.0/8,::1"
    found = wanted(live, line)
    assert found.pids == {1, 2, 3}
    assert found.uids == {0, 7}
    assert found.containers == {"web", "db"}
    assert found.ports == {80, 443}
    assert [str(network) for network in found.networks] == ["10.0.0.0/8", "::1/128"]


def test_the_callers_own_namespace_is_the_default_and_all_is_all(live: type[FakeLive]) -> None:
    assert wanted(live, "").netns == OWN
    assert wanted(live, "--netns all").netns == frozenset()


def test_no_containers_asks_for_no_names(live: type[FakeLive]) -> None:
    main(["trace", "-td"])
    assert live.made[-1].names is False
    assert live.made[-1].wanted.kinds


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--pid x", "--pid x: a number from 1 to 4194304 expected"),
        ("--user no-such-user", "--user no-such-user: no such user here, a name or a number expected"),
        ("--port 70000", "--port 70000: a number from 1 to 65535 expected"),
        ("--cidr 10.0.0.1/8", "10.0.0.1 is no network of /8, 10.0.0.0/8 would be"),
        ("--container ../x", "--container ../x: an id"),
        ("-d --container web", "exclude each other"),
        ("--pid 1,,2", "'1,,2' is not a value, or several with commas between them"),
        ("--format xml", "invalid choice: 'xml'"),
        ("--duration 0", "'0' is not a number of seconds from 0.1 to 31622400"),
        ("--duration nan", "from 0.1"),
        ("--count 0", "'0' is not a whole number from 1 to 1000000000000"),
        ("--count 1e3", "from 1 to"),
        ("--count 1 --count 2", "may be given once only"),
        ("-x", "unrecognized arguments: -x"),
        ("-tz", "'z'"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_allowed(
    line: str, message: str, live: type[FakeLive], capsys: Output
) -> None:
    assert main(["trace", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert message in err
    assert live.made == []


def test_an_unknown_namespace_is_named_with_4(live: type[FakeLive], capsys: Output) -> None:
    assert main(["trace", "--netns", "no-such"]) == NotLoadedError.exit_code
    assert "no such network namespace: no-such" in capsys.readouterr().err


def test_the_help_shows_every_option_and_an_example(capsys: Output) -> None:
    assert main(["trace", "--help"]) == 0
    out = capsys.readouterr().out
    words = (
        "-t -u -i -o -r -c -d -v --pid --user --container --port --cidr --netns --format --duration --count"
    )
    assert [word for word in words.split() if f" {word}" not in out] == []
    assert out.endswith(f"example:\n  {options.EXAMPLES['trace']}\n")


# ---- what goes where ------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("name", "format"),
    [("text", trace_text), ("table", trace_table), ("json", trace_json), ("nprobe", trace_nprobe)],
)
def test_standard_output_has_the_records_and_then_the_ledger(
    name: str, format: object, live: type[FakeLive], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdpguard.cli.trace._own_address", lambda: None)
    monkeypatch.setattr("time.time", lambda: 1554803923.5)
    assert main(["trace", "--format", name]) == 0
    out, err = capsys.readouterr()
    lines = "".join(format.line(record) for record in SAMPLES[:4])  # type: ignore[attr-defined]
    assert out == format.HEADER + lines + format.ledger(live.made[0].books, 1554803923.5)  # type: ignore[attr-defined]
    assert err == ""


def test_text_is_the_default(live: type[FakeLive], capsys: Output) -> None:
    main(["trace"])
    assert capsys.readouterr().out.startswith("1554803923.684786 [lo][Sent]")


def test_nprobe_names_this_host_as_the_exporter(
    live: type[FakeLive], capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("xdpguard.cli.trace._own_address", lambda: "192.0.2.7")
    main(["trace", "--format", "nprobe"])
    first = json.loads(capsys.readouterr().out.splitlines()[0])
    assert first["EXPORTER_IPV4_ADDRESS"] == "192.0.2.7"


def test_what_the_sources_lack_is_one_warning(install: Install, capsys: Output) -> None:
    install("trace.live", Live=fake_live(missing=("a", "b")))
    main(["trace"])
    assert capsys.readouterr().err == "xdpguard: warning: less is known here: a; b\n"


@pytest.mark.parametrize(
    ("source", "words"),
    [("kprobe udp_sendmsg", "kprobes and tracepoints"), ("raw tracepoint sock_send_length", "tracepoints")],
)
def test_on_a_terminal_the_kind_of_sources_is_said(
    source: str, words: str, install: Install, capsys: Output, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources = {"udp-send": source, "close": "raw tracepoint inet_sock_set_state, tracepoint a:b"}
    install("trace.live", Live=fake_live(sources=sources))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    main(["trace"])
    assert capsys.readouterr().err == f"xdpguard: events come from {words}; Ctrl-C ends\n"


def test_a_note_is_said_once(install: Install, capsys: Output) -> None:
    install("trace.live", Live=fake_live(notes=("docker: /run/docker.sock: Connection refused",)))
    main(["trace"])
    assert capsys.readouterr().err == "xdpguard: note: docker: /run/docker.sock: Connection refused\n"


def test_a_note_is_said_of_a_trace_that_ends_before_it_reads(install: Install, capsys: Output) -> None:
    install("trace.live", Live=fake_live(notes=("2 process(es) not seen",), given=1))
    main(["trace", "--count", "1"])
    assert capsys.readouterr().err == "xdpguard: note: 2 process(es) not seen\n"


def test_verbose_tells_sources_and_cost(live: type[FakeLive], capsys: Output) -> None:
    main(["trace", "-v"])
    err = capsys.readouterr().err.splitlines()
    assert err[:2] == [
        "xdpguard: connect: kprobe tcp_v4_connect, kretprobe tcp_v4_connect",
        "xdpguard: close: raw tracepoint inet_sock_set_state",
    ]
    assert err[2].startswith("events: 4 written, ")
    assert err[3].startswith("cost: ")
    assert "memory at most " in err[3]
    assert err[4] == "programs in the kernel: 1, 1,000,000 runs, 0.500 s (500 ns each)"


# ---- how it ends ----------------------------------------------------------------------------------------
def test_ctrl_c_is_a_normal_end_with_the_ledger(live: type[FakeLive], capsys: Output) -> None:
    assert main(["trace"]) == 0
    out, err = capsys.readouterr()
    assert out.splitlines()[-1].startswith("ledger: ")
    assert err == ""
    assert live.made[0].closed
    assert live.made[0].finished


def test_count_ends_after_so_many_lines(live: type[FakeLive], capsys: Output) -> None:
    assert main(["trace", "--count", "3"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert len(out) == 4
    assert live.made[0].limit == 3
    assert len(live.made[0].waited) == 3


def test_duration_ends_it(install: Install, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter([10.0, 10.0, 10.15, 10.29, 10.31])
    found = fake_live(batches=[[], [], [], []])
    install("trace.live", Live=found)
    monkeypatch.setattr("xdpguard.cli.trace.time.monotonic", lambda: next(clock, 11.0))
    monkeypatch.setattr("xdpguard.cli.trace.Meter", lambda: None)
    assert main(["trace", "--duration", "0.3"]) == 0
    assert found.made[0].waited == pytest.approx([0.2, 0.15, 0.01])


def test_what_was_under_way_is_written_before_the_ledger(install: Install, capsys: Output) -> None:
    install("trace.live", Live=fake_live(batches=[], remaining=[SAMPLES[0]]))
    main(["trace", "--format", "json"])
    events = [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()]
    assert events == ["connect", "ledger"]


@pytest.mark.parametrize(
    "error", [PrivilegeError("tracing: needs CAP_BPF"), KernelError("tracing: this kernel has no BTF")]
)
def test_a_kernel_that_refuses_is_one_line_and_its_code(
    error: XdpguardError, install: Install, capsys: Output
) -> None:
    install("trace.live", Live=raising(error))
    assert main(["trace"]) == error.exit_code
    assert capsys.readouterr() == ("", f"xdpguard: error: {error}\n")
