"""Text for people and programs, made from plain data. Reads no counter and touches no kernel."""
