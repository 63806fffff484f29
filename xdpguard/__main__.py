"""``python -m xdpguard``."""

from xdpguard.cli.main import entry

entry()
