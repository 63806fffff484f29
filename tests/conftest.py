"""Fixtures that several test files share, and how hypothesis runs here."""

from cli_fakes import install, no_verb_is_real, parser
from hypothesis import HealthCheck, settings

__all__ = ["install", "no_verb_is_real", "parser"]

# A machine that is busy with something else is no defect: no test fails by the clock.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")
