"""The command line: what is accepted, what is refused, and the help."""

from __future__ import annotations

import pytest

from xdpguard import __version__
from xdpguard.cli import options
from xdpguard.cli.commands import COMMANDS
from xdpguard.cli.main import main


def parsed(line: str) -> dict[str, object]:
    return vars(options.parser().parse_args(line.split()))


def test_every_command_has_an_example_and_a_function() -> None:
    assert list(options.EXAMPLES) == list(COMMANDS)


@pytest.mark.parametrize("command", options.EXAMPLES)
def test_the_help_of_a_command_ends_with_an_example_that_parses(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([command, "--help"]) == 0
    out = capsys.readouterr().out
    example = options.EXAMPLES[command]
    assert out.endswith(f"example:\n  {example}\n")
    assert parsed(example.removeprefix("xdpguard "))["command"] == command


def test_the_help_of_the_program_lists_commands_and_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    out = capsys.readouterr().out
    assert all(f"\n    {command} " in out for command in options.EXAMPLES)
    assert "130 interrupted" in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"xdpguard {__version__}\n"


def test_load_takes_all_its_options() -> None:
    line = "load -i a --interface b r.yaml --mode native --netns n --confirm 60 --force --verbose"
    line += " --no-account-owners"
    assert parsed(line) == {
        "command": "load",
        "interfaces": ["a", "b"],
        "rules": "r.yaml",
        "mode": "native",
        "netns": "n",
        "confirm": 60,
        "force": True,
        "verbose": True,
        "account_owners": False,
        "debug": False,
    }


def test_stats_takes_all_its_options() -> None:
    assert parsed("stats -i a --netns n --by rule --format csv --watch 0.5") == {
        "command": "stats",
        "interface": "a",
        "netns": "n",
        "by": "rule",
        "format": "csv",
        "watch": 0.5,
        "debug": False,
    }


def test_restore_takes_all_its_options() -> None:
    assert parsed("restore -i a --netns n --force --format json") == {
        "command": "restore",
        "interface": "a",
        "netns": "n",
        "force": True,
        "format": "json",
        "debug": False,
    }


@pytest.mark.parametrize("line", ["--debug status", "status --debug"])
def test_debug_may_stand_before_or_after_the_command(line: str) -> None:
    assert parsed(line)["debug"] is True


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "COMMAND"),
        ("lode -i a r", "invalid choice: 'lode'"),
        ("check", "RULES"),
        ("load r.yaml", "-i/--interface"),
        ("load -i a", "RULES"),
        ("load -i a -i b -i a r", "'a' is given twice"),
        ("load -i a r --mode fast", "invalid choice: 'fast'"),
        ("load -i a r --confirm 0", "'0' is not a whole number of seconds from 1 to 86400"),
        ("load -i a r --confirm 86401", "from 1 to 86400"),
        ("load -i a r --confirm 1.5", "from 1 to 86400"),
        ("load -i a r --confirm ²", "from 1 to 86400"),
        ("load -i a r --confirm " + "9" * 5000, "from 1 to 86400"),
        ("load -i a r --confirm 5 --confirm 6", "may be given once only"),
        ("load -i a r --netns n --netns m", "may be given once only"),
        ("load -i a r --conf 5", "unrecognized arguments: --conf"),
        ("load -i a r s", "unrecognized arguments: s"),
        ("confirm", "-i/--interface"),
        ("rollback", "-i/--interface"),
        ("unload", "-i/--interface"),
        ("restore -i a -i b", "may be given once only"),
        ("restore --format table", "invalid choice: 'table'"),
        ("restore a", "unrecognized arguments: a"),
        ("stats -i a -i b", "may be given once only"),
        ("status -i a -i b", "may be given once only"),
        ("status --format csv", "invalid choice: 'csv'"),
        ("stats --by port", "invalid choice: 'port'"),
        ("stats --watch 0.05", "'0.05' is not a number of seconds from 0.1 to 86400"),
        ("stats --watch nan", "from 0.1 to 86400"),
        ("stats --watch inf", "from 0.1 to 86400"),
        ("stats --watch soon", "from 0.1 to 86400"),
    ],
)
def test_a_wrong_command_line_ends_with_2_and_says_what_is_allowed(
    line: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line.split()) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("usage: xdpguard")
    assert message in err
    assert ": error: " in err.splitlines()[-1]


@pytest.mark.parametrize(("text", "seconds"), [("1", 1), ("86400", 86400)])
def test_confirm_takes_both_ends_of_its_range(text: str, seconds: int) -> None:
    assert options.confirm_seconds(text) == seconds


@pytest.mark.parametrize(("text", "seconds"), [("0.1", 0.1), ("2", 2.0), ("86400", 86400.0)])
def test_watch_takes_both_ends_of_its_range(text: str, seconds: float) -> None:
    assert options.watch_seconds(text) == seconds
