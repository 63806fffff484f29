"""The systemd unit: its command is one, systemd accepts it, and it is part of an installation."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from xdpguard.cli import options
from xdpguard.guard import records
from xdpguard.kernel import kept, lock

ROOT = Path(__file__).resolve().parents[1]
UNIT = ROOT / "systemd" / "xdpguard@.service"
INSTALLED = "/usr/local/bin/xdpguard"


@pytest.fixture
def unit() -> configparser.RawConfigParser:
    read = configparser.RawConfigParser(strict=False)
    read.read(UNIT)
    return read


def test_it_runs_a_command_of_ours(unit: configparser.RawConfigParser) -> None:
    program, *words = unit["Service"]["ExecStart"].replace("%I", "eth0").split()
    assert program == INSTALLED
    arguments = options.parser().parse_args(words)
    assert (arguments.command, arguments.interface) == ("restore", "eth0")


def test_it_may_write_where_commands_do(unit: configparser.RawConfigParser) -> None:
    for kind, parent, folder in (
        ("StateDirectory", "/var/lib", records.FOLDER),
        ("CacheDirectory", "/var/cache", kept.FOLDER),
        ("RuntimeDirectory", "/run", lock.FOLDER),
    ):
        assert Path(parent) / unit["Service"][kind] == folder
        assert unit["Service"][f"{kind}Mode"] == "0700"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze (systemd)")
@pytest.mark.parametrize("instance", ["eth0", "br\\x2dlan"])
def test_systemd_accepts_it(instance: str, tmp_path: Path) -> None:
    """With a command that is there."""
    path = tmp_path / f"xdpguard@{instance}.service"
    path.write_text(UNIT.read_text().replace(INSTALLED, sys.executable))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path],
        check=False, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")


def test_an_installation_has_it_below_its_prefix() -> None:
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert wheel["shared-data"] == {f"systemd/{UNIT.name}": f"lib/systemd/system/{UNIT.name}"}
