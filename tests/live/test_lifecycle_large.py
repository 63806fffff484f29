"""A hundred thousand rules out of a rules file go through every command, and count under their own names."""

from __future__ import annotations

from test_lifecycle_support import DROPPED, PASSED, Site

RULES = 100_000
LIST = "version: 1\ningress:\n  - {rules_file: rules.tsv}\n"


def table(port: int) -> str:
    """Rules for other hosts, with the ones that decide in the middle of them."""
    head = "name\tproto\tsrc\tdport\taction\n"
    fillers = [f"host-{n}\t\t10.{n >> 16}.{n >> 8 & 255}.{n & 255}\t\tdrop\n" for n in range(RULES - 3)]
    fillers[RULES // 2 : RULES // 2] = [
        f"never\tudp\t\t{DROPPED}\tdrop\n",
        f"toggle\tudp\t\t{port}\tdrop\n",
        f"always\tudp\t\t{PASSED}\tpass\n",
    ]
    return head + "".join(fillers)


def packets(site: Site) -> dict[str, int]:
    """Of the rules in force."""
    rules = [rule for rule in site.counts().ingress.rules if not rule.retired]
    assert len(rules) == RULES
    return {rule.name: rule.count.packets for rule in rules if rule.count.packets}


def test_a_hundred_thousand_rules_of_a_rules_file_load_count_reload_and_go(site: Site) -> None:
    site.write(table(1000), "rules.tsv")
    site.load(LIST)
    assert site.in_force() == {1000}
    assert packets(site) == {"never": 1, "toggle": 1, "always": 1}
    site.write(table(1001), "rules.tsv")
    site.load(LIST)
    assert site.in_force() == {1001}
    assert packets(site) == {"never": 2, "toggle": 1, "always": 2}
    site.rollback()
    assert site.in_force() == {1000}
    assert packets(site) == {"never": 3, "toggle": 2, "always": 3}
    assert site.status().protected()
