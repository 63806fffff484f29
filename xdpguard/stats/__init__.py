"""Counters of what is loaded, as plain data."""
