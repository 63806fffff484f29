"""Generations: the names, counts and slots of the rule sets that an interface holds."""
