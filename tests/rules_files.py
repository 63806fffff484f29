"""What the tests of rules files share: a rule file that names one, and cells."""

from __future__ import annotations

from pathlib import Path

from test_rules_support import file_of, ruleset

from xdpguard.errors import Problem, RulesError
from xdpguard.rules.model import RuleSet

HEAD = 'sets: {mixed: [192.0.2.0/24, "2001:db8::/32"], web: [80, 443], unused: [1]}'
PLACE = "{rules_file: FILE}"

VALUES: dict[str, list[str]] = {
    "comment": ["one, two", "x"],
    "family": ["ipv4", "ipv6", "ipv5"],
    "proto": ["tcp", "udp", "icmp", "icmpv6", "arp", "tcp,udp", "6", "0-255", "1-17", "icmp,tcp", "tpc"],
    "src": ["192.0.2.1", "192.0.2.0/24", "0.0.0.0/0", "::/0", "2001:db8::/32", "@mixed", "10.0.0.1/8", "@web",
            "192.0.2.1,2001:db8::1", "198.51.100.1-198.51.100.9", "192.0.2.256"],
    "dst": ["192.0.2.1", "203.0.113.0/24", "0.0.0.0/0", "2001:db8::1", "@mixed", "@none", "::1,::2"],
    "sport": ["80", "1-9", "1,2,3", "@web", "65536"],
    "dport": ["443", "0-65535", "@web,22", "080"],
    "icmp_type": ["8", "echo-request", "0-255", "8,0"],
    "icmp_code": ["0", "port-unreachable"],
    "vlan": ["none", "0-4095", "5,none", "4096"],
    "action": ["drop", "pass", "tx", "accept"],
}  # fmt: skip
"""Of each key, right and wrong."""


def written(folder: Path, name: str, text: str) -> str:
    """The rule file whose only ingress entry is a rules file of this text."""
    (folder / name).write_text(text, encoding="utf-8")
    return file_of(PLACE.replace("FILE", name), head=HEAD)


def cells(*lines: str) -> str:
    return "".join(line.replace(" ", "\t") + "\n" for line in lines)


def findings(text: str, folder: Path) -> tuple[RuleSet | None, list[Problem]]:
    try:
        return ruleset(text, folder), []
    except RulesError as error:
        return None, error.problems
