"""Fixtures that several test files share."""

from cli_fakes import install, no_verb_is_real, parser

__all__ = ["install", "no_verb_is_real", "parser"]
