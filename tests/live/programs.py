"""The shipped programs without an interface: frames go in by BPF_PROG_TEST_RUN, counters tell who decided."""

from __future__ import annotations

from dataclasses import dataclass

from xdpguard.abi import abi, reasons
from xdpguard.classify.compile import build
from xdpguard.classify.tables import Target
from xdpguard.generation import manifest, slots
from xdpguard.guard import programs
from xdpguard.kernel import accounts, counters, maps, owners, testrun
from xdpguard.rules.model import Action, RuleSet
from xdpguard.stats.model import PROTOCOLS

_NUMBERS = abi().numbers
_ACTIONS = _NUMBERS["XG_ACTIONS"]


def can_run(hook: str, frame: bytes) -> bool:
    """Does the kernel's test run take this frame? It refuses some before any program sees them.

    XDP: under 14 bytes, or over a page less head and tail room. TC: under 21, or cut inside the IP header.
    """
    if hook == "ingress":
        return 14 <= len(frame) <= 3400
    whole = {b"\x08\x00": 34, b"\x86\xdd": 54}.get(frame[12:14], 21)
    return whole <= len(frame) <= 3400


@dataclass(frozen=True, slots=True)
class Outcome:
    action: Action
    decider: str
    protocol: str
    returned: int
    frame: bytes


class Bench:
    """One rule set in slot 1 of fresh maps, decided by the real programs."""

    def __init__(
        self,
        ruleset: RuleSet,
        *,
        l3: bool = False,
        targets: dict[str, Target] | None = None,
        account_owners: bool = False,
    ) -> None:
        flags = _NUMBERS["XG_FLAG_L3_DEVICE"] if l3 else 0
        names = manifest.encode(manifest.describe(ruleset, 0.0, {}))
        tables = build(ruleset, 2, targets, names)
        size = slots.size_for(tables, names)
        self.ruleset = ruleset
        self.maps = maps.create(size, {"flags": flags, "next_serial": 3})
        slots.write(self.maps, 1, tables.blob.tobytes())
        self.maps.word = maps.Word(1, 0)
        if account_owners:
            host = owners.create()
            self.maps.fds |= {
                maps.OWNERS: host.fd,
                maps.CHANGES: host.changes,
                maps.ACCOUNTS: accounts.create(),
            }
        self.programs = programs.load(self.maps, statistics=True)
        self._counters = self.maps.counters(1)

    def close(self) -> None:
        self._counters.close()
        self.programs.close()
        self.maps.close()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def run(self, hook: str, frame: bytes, *, context: bytes = b"") -> Outcome:
        """Run one frame through the hook's program; the counters must have moved for it exactly once."""
        counters.zero(self.maps, 1)
        program = self.programs.ingress if hook == "ingress" else self.programs.egress
        result = testrun.prog_test_run(program.fd, frame, context=context)
        rules = (len(self.ruleset.ingress.rules), len(self.ruleset.egress.rules))
        both = counters.read(self.maps, 1, rules)
        index = 0 if hook == "ingress" else 1
        if any(count != [0, 0] for count in both[1 - index]):
            raise AssertionError("the other hook's counters moved")
        moved = [(at, count) for at, count in enumerate(both[index]) if count != [0, 0]]
        (cell, first), (decider, second) = moved
        if first != second or first[0] != 1:
            raise AssertionError(f"counted {first} in the matrix and {second} at the decider")
        protocol, action = divmod(cell, _ACTIONS)
        return Outcome(
            Action(action), self._decider(index, decider), PROTOCOLS[protocol], result.verdict, result.data
        )

    def _decider(self, hook: int, index: int) -> str:
        if index >= _NUMBERS["XG_COUNT_RULES"]:
            rules = (self.ruleset.ingress, self.ruleset.egress)[hook].rules
            return rules[index - _NUMBERS["XG_COUNT_RULES"]].name
        if index == _NUMBERS["XG_COUNT_DEFAULT"]:
            return "default"
        return reasons()[index - _NUMBERS["XG_COUNT_REASONS"]]
