"""What the tests of rules files share: a rule file that names one, and cells."""

from __future__ import annotations

from pathlib import Path

from test_rules_support import file_of

HEAD = 'sets: {mixed: [192.0.2.0/24, "2001:db8::/32"], web: [80, 443], unused: [1]}'
PLACE = "{rules_file: FILE}"


def written(folder: Path, name: str, text: str) -> str:
    """The rule file whose only ingress entry is a rules file of this text."""
    (folder / name).write_text(text, encoding="utf-8")
    return file_of(PLACE.replace("FILE", name), head=HEAD)


def cells(*lines: str) -> str:
    return "".join(line.replace(" ", "\t") + "\n" for line in lines)
