"""The rule language: YAML text to a rule set, with the place of every error. Pure."""
