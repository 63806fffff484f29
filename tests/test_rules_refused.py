"""What a rule file must not say: each mistake gives one line with its place, value and what is allowed."""

from __future__ import annotations

import pytest
from test_rules_support import file_of, problems, refusal, ruleset

from xdpguard.rules import fields, joins
from xdpguard.rules import rule as rule_module
from xdpguard.rules.report import LIMIT

REFUSED = [
    # numbers
    ("dport: 70000", "dport '70000' is out of range; allowed: 0-65535"),
    ("dport: 65536", "out of range"),
    ("dport: 9999999999999999999999", "out of range"),
    ("dport: -1", "is not a number"),
    ("dport: 2005-2000", "runs backwards; write 2000-2005"),
    ("dport: 22:53", "is not a number from 0 to 65535; a range is written with '-'"),
    ("dport: no", "dport 'no' is not a number"),
    ("dport: 010", "has a leading zero"),
    ("dport: 0x16", "is not a number"),
    ("dport: 1_000", "is not a number"),
    ("dport: 22.0", "is not a number"),
    ("dport: ssh", "'ssh' is not a number"),
    ('dport: "22 - 23"', "dport range '22 - 23' has spaces; write it without, as in 20-30"),
    ('dport: " 22"', "dport ' 22' is not a number from 0 to 65535; spaces are not allowed"),
    ('dport: "22 23"', "spaces are not allowed"),
    ('dport: "22,23"', "a list is written as [a, b]"),
    ("dport: 1-", "is not a number"),
    ("dport: \u0661", "is not a number"),
    ("dport: []", "an empty list for dport"),
    ("dport: [[1]]", "holds single values only"),
    ("dport: {a: b}", "takes one value or a list, not a mapping"),
    ('dport: ""', "dport has no value"),
    ("proto: 256", "out of range; allowed: 0-255"),
    ("proto: TCP", "did you mean 'tcp'?"),
    ("proto: 06", "leading zero"),
    ("vlan: 4096", "out of range; allowed: 0-4095"),
    ("vlan: non", "did you mean 'none'?"),
    ("family: ipv5", "family 'ipv5' is unknown; allowed: ipv4, ipv6"),
    ("family: [ipv4, ipv6]", "family takes one value"),
    ("proto: icmp, icmp_type: 256", "out of range"),
    ("proto: icmp, icmp_type: echo-reqest", "did you mean 'echo-request'?"),
    ("proto: icmp, icmp_type: packet-too-big", "neither a known name nor a number"),
    ("proto: icmpv6, icmp_type: 1, icmp_code: host-prohibited", "neither a known name nor a number"),
    # addresses
    ("src: 192.0.2.256", "has a part over 255"),
    ("src: 192.0.02.1", "has a leading zero"),
    ("src: 192.0.2", "is not an IPv4 or IPv6 address"),
    ("src: 192.0.2.0/33", "prefix length '33'"),
    ("src: 192.0.2.0/024", "prefix length '024'"),
    ("src: 192.0.2.0/255.255.255.0", "is not a number from 0 to 32"),
    ('src: "2001:db8::/129"', "is not a number from 0 to 128"),
    ("src: 192.0.2.0/", "prefix length ''"),
    ("src: 192.0.2.9-192.0.2.7", "runs backwards"),
    ('src: "::3-::1"', "runs backwards"),
    ("src: 192.0.2.1-::1", "mixes IPv4 and IPv6"),
    ('src: "::1-192.0.2.1"', "mixes IPv4 and IPv6"),
    ("src: 192.0.2.1-", "is not an IPv4 or IPv6 address"),
    ("src: 192.0.2.0/24-192.0.3.0", "prefix length"),
    ('src: "192.0.2.1 - 192.0.2.9"', "CIDR block or range a-b; spaces are not allowed"),
    ("src: fe80::1%eth0", "has a scope id"),
    ("src: example.org", "'example.org' is not an IPv4 or IPv6 address"),
    ('src: "\\0"', "'\\x00' is not an IPv4"),
    ('src: "@nowhere"', "unknown set '@nowhere'; the file has no sets"),
    ("src: []", "an empty list for src"),
    # flags
    ("tcp_flags: {set: [syn, fin], clear: [syn]}", "syn cannot be set and clear at once"),
    ("tcp_flags: {set: [sin]}", "unknown TCP flag 'sin'; did you mean 'syn'?"),
    ("tcp_flags: {}", "names no flag"),
    ("tcp_flags: {set: [], clear: []}", "names no flag"),
    ("tcp_flags: syn", "tcp_flags takes {set: [...], clear: [...]}"),
    # keys
    ("dpot: 1", "unknown key 'dpot' in a rule; did you mean 'dport'?"),
    ("zzz: 1", "allowed: name, comment, family"),
    ("dport: 1, dport: 2", "duplicate key 'dport'; it is already in line 4"),
    ("[a]: b", "a key must be a plain word"),
    ("not: {name: a}", "unknown key 'name' in not"),
    ("not: {not: {dport: 1}}", "unknown key 'not' in not"),
    ("not: {dpor: 1}", "did you mean 'dport'?"),
    ("not: {}", "not is empty; give it match keys, as in not: {dst: 192.0.2.0/24}"),
    ("not: dport", "not takes a mapping of match keys"),
    ("not: [dport]", "not takes a mapping of match keys"),
    # fields against protocols
    ("proto: icmp, dport: 1", "dport exists only in tcp, udp, sctp; proto also allows icmp"),
    ("proto: [tcp, gre], not: {sport: 1}", "sport exists only in tcp, udp, sctp; proto also allows gre"),
    ("proto: udp, tcp_flags: {set: syn}", "tcp_flags exists only in tcp; proto also allows udp"),
    ("proto: [tcp, udp], tcp_flags: {set: syn}", "proto also allows udp"),
    ("proto: tcp, icmp_type: 8", "icmp_type exists only in icmp, icmpv6; proto also allows tcp"),
    ("dport: 1, icmp_type: 8", "icmp_type and dport never occur in one packet"),
    ("icmp_code: 1, tcp_flags: {set: syn}", "never occur in one packet"),
    ("icmp_type: 8", "write two rules, one for each"),
    ("icmp_code: 8", "write two rules, one for each"),
    ("proto: [icmp, icmpv6], icmp_type: 1", "write two rules, one for each"),
    ("proto: [icmp, icmpv6], icmp_type: 1, family: ipv4", "write two rules, one for each"),
    ("proto: udp, not: {proto: udp}", "leaves no protocol"),
    ("dport: 1, not: {proto: [tcp, udp, sctp]}", "leaves no protocol"),
    ("not: {proto: 0-255}, proto: tcp", "leaves no protocol"),
    ("not: {proto: arp}", "arp cannot stand under not"),
    ("proto: arp, src: 192.0.2.1", "src does not exist in ARP"),
    ("proto: [arp, tcp], dport: 1", "dport does not exist in ARP"),
    ("proto: arp, family: ipv4", "family does not exist in ARP"),
    ("proto: arp, not: {dst: 192.0.2.1}", "dst does not exist in ARP"),
    ("proto: [arp, udp], not: {proto: tcp}", "does not fit proto arp"),
    # comments
    (f"comment: {'c' * 257}", "comment has 257 characters; at most 256"),
    ('comment: "a\\nb"', "comment holds a control character"),
    ('comment: "\\e[31m"', "comment holds a control character"),
    ('comment: "\\u202e"', "comment holds a control character"),
    ("comment: [a]", "comment takes one line of text"),
]


@pytest.mark.parametrize(("conditions", "words"), REFUSED)
def test_a_mistake_in_a_rule_gives_one_error(conditions: str, words: str) -> None:
    assert words in refusal(conditions)


RULES = [
    ("{name: a, action: accept}", "unknown action 'accept'; did you mean 'pass'?"),
    ("{name: a, action: deny}", "did you mean 'drop'?"),
    ("{name: a, action: aborted}", "allowed: pass, drop, tx, redirect"),
    ("{name: a, action: DROP}", "did you mean 'drop'?"),
    ("{name: a, action: redirect}", "write {redirect: {interface: NAME}}"),
    ("{name: a, action: [drop]}", "action must be pass, drop, tx or"),
    ("{name: a, action: {drop: {}}}", "action must be pass, drop, tx or"),
    ("{name: a, action: {}}", "action must be pass, drop, tx or"),
    ("{name: a, action: {redir: {interface: ids0}}}", "key 'redir' in action; did you mean 'redirect'?"),
    ("{name: a, action: {redirect: {interface: a}, to: b}}", "unknown key 'to' in action; allowed: redirect"),
    ("{name: a, action: {redirect: ids0}}", "redirect takes {interface: NAME, dst_mac: MAC}"),
    ("{name: a, action: {redirect: {}}}", "redirect needs an interface"),
    ("{name: a, action: {redirect: {interface: [a]}}}", "interface takes one value"),
    ("{name: a, action: {redirect: {interface: a, mac: b}}}", "unknown key 'mac' in redirect"),
    ("{name: a, action: {redirect: {interface: a234567890123456}}}", "is no interface name"),
    ("{name: a, action: {redirect: {interface: a/b}}}", "is no interface name"),
    ('{name: a, action: {redirect: {interface: "a b"}}}', "is no interface name"),
    ('{name: a, action: {redirect: {interface: ""}}}', "is no interface name"),
    ("{name: a, action: {redirect: {interface: ..}}}", "and is not '.' or '..'"),
    ("{name: a, action: {redirect: {interface: .}}}", "and is not '.' or '..'"),
    ('{name: a, action: {redirect: {interface: a, dst_mac: "01:00:5e:00:00:01"}}}', "is a group MAC address"),
    ("{name: a, action: {redirect: {interface: a, dst_mac: ff:ff:ff:ff:ff:ff}}}", "is a group MAC address"),
    ("{name: a, action: {redirect: {interface: a, dst_mac: 00:00:00:00:00:00}}}", "is all zero"),
    ("{name: a, action: {redirect: {interface: a, dst_mac: 2:0:0:0:0:2}}}", "is no MAC address"),
    ("{name: a, action: {redirect: {interface: a, dst_mac: 02-00-00-00-00-02}}}", "is no MAC address"),
    ("{name: a, dport: 1}", "rule 'a' has no action"),
    ("{action: drop}", "a rule has no name"),
    ('{name: "a b", action: drop}', "name 'a b' is not allowed; allowed: 1-64 characters"),
    (f"{{name: {'n' * 65}, action: drop}}", "is not allowed; allowed: 1-64 characters"),
    ('{name: "", action: drop}', "name '' is not allowed"),
    ("{name: [a], action: drop}", "is not allowed; allowed: 1-64 characters"),
    ("{ruls_file: x.tsv}", "unknown key 'ruls_file' in a rule; did you mean 'rules_file'?"),
    ("{zzz: x.tsv}", "icmp_code, vlan, not, action, rules_file"),
    ("drop", "a rule must be a mapping"),
    ("[a, b]", "a rule must be a mapping"),
]


@pytest.mark.parametrize(("text", "words"), RULES)
def test_a_mistake_around_the_conditions_gives_one_error(text: str, words: str) -> None:
    found = problems(file_of(text))
    assert len(found) == 1
    assert words in found[0].message


TOP = [
    ("version: 2", "version '2' is not supported; allowed: 1"),
    ("version: 1.0", "version '1.0' is not supported"),
    ("version: [1]", "is not supported"),
    ("default: {ingress: drop}", "the file has no version"),
    ("version: 1\nversion: 1", "duplicate key 'version'"),
    ("version: 1\ningres: []", "unknown key 'ingres' in the file; did you mean 'ingress'?"),
    ("version: 1\ndefault: drop", "default takes a word for each hook"),
    ("version: 1\ndefault: {ingress: tx}", "default of ingress cannot be 'tx'; allowed: pass, drop"),
    ("version: 1\ndefault: {ingress: accept}", "did you mean 'pass'?"),
    ("version: 1\ndefault: {ingress: [drop]}", "default of ingress takes one word"),
    ("version: 1\ndefault: {in: drop}", "unknown key 'in' in default"),
    ("version: 1\nmalformed: tx", "malformed cannot be 'tx'; allowed: pass, drop"),
    ("version: 1\nfragments: pass", "fragments cannot be 'pass'; allowed: l3-only, drop"),
    ("version: 1\ningress: {}", "ingress must be a list of rules"),
    ("version: 1\negress:", "egress must be a list of rules; write [] for none"),
    ("- a", "a rule file is a mapping of the keys version, default"),
    ("text", "a rule file is a mapping of the keys"),
]


@pytest.mark.parametrize(("text", "words"), TOP)
def test_a_mistake_at_the_top_level_gives_one_error(text: str, words: str) -> None:
    found = problems(text)
    assert [words in problem.message for problem in found if problem.severity == "error"] == [True]


def test_an_error_names_file_line_and_column() -> None:
    (found,) = problems(file_of("{name: a, action: drop}", "{name: b, dport: [1, 70000], action: drop}"))
    assert str(found) == "f.yaml:5:24: error: dport '70000' is out of range; allowed: 0-65535"


def test_every_error_of_a_file_is_reported_in_file_order() -> None:
    bad = "{name: a, proto: tpc, dport: 70000, src: 300.0.0.1, action: dorp}"
    text = "malformed: no\n" + file_of(bad, "{name: a, zzz: 1}")
    places = [(problem.line, problem.column) for problem in problems(text)]
    assert places == sorted(places)
    assert [line for line, _ in places] == [1, 5, 5, 5, 5, 6, 6, 6]


def test_more_errors_than_the_limit_are_counted() -> None:
    found = problems(file_of(*(f"{{name: r{i}, dport: x, action: drop}}" for i in range(LIMIT + 23))))
    assert len(found) == LIMIT + 1
    assert found[-1].message == f"23 more errors are not shown (only the first {LIMIT} are)"
    assert found[-1].line == 0


def test_names_are_unique_across_both_hooks() -> None:
    found = problems(file_of("{name: a, action: drop}") + "egress:\n- {name: a, action: drop}\n")
    assert [str(problem) for problem in found] == [
        "f.yaml:6:10: error: duplicate rule name 'a'; line 4 has it already"
    ]


def test_too_many_rules_are_refused_with_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rule_module, "MAX_RULES", 2)
    rules = [f"{{name: r{i}, action: drop}}" for i in range(3)]
    assert "ingress has 3 rules; at most 2 are allowed" in problems(file_of(*rules))[0].message
    assert len(ruleset(file_of(*rules[:2])).ingress.rules) == 2


ODD = f"sets: {{p: [{', '.join(str(port) for port in range(1, 4096, 2))}]}}"


@pytest.mark.parametrize(
    "conditions",
    ['dport: ["@p", {even}]', 'dport: 0-{large}, not: {{dport: "@p"}}', 'not: {{dport: ["@p", {even}]}}'],
)
def test_more_joined_sets_than_there_is_room_for_are_refused_once(
    conditions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joins, "LEAST_ROOM", 10_000)
    monkeypatch.setattr(joins, "BYTES_EACH", 1000)

    def lines(count: int) -> list[str]:
        texts = [conditions.format(even=at * 2, large=65535 - at) for at in range(count)]
        return [f"{{name: r{at}, {text}, action: drop}}" for at, text in enumerate(texts)]

    assert len(ruleset(file_of(*lines(2), head=ODD)).ingress.rules) == 2
    (found,) = problems(file_of(*lines(10), head=ODD))
    assert found.line > 4
    assert "come to more than 10000 values and ranges by this rule; put what rules" in found.message


def test_small_sets_joined_in_ever_new_ways_take_room_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(joins, "LEAST_ROOM", 1000)
    monkeypatch.setattr(joins, "BYTES_EACH", 1 << 20)
    sets = [f"p{at}: [{', '.join(str(1000 * at + 2 * n) for n in range(20))}]" for at in range(30)]
    lines = [
        f"{{name: r{at}-{other}, dport: ['@p{at}', '@p{other}', 7], action: drop}}"
        for at in range(30)
        for other in range(at)
    ]
    (found,) = problems(file_of(*lines, head=f"sets: {{{', '.join(sets)}}}"))
    assert "come to more than 1000 values" in found.message


@pytest.mark.parametrize("conditions", ['dport: ["@p", 2]', 'dport: 0-9999, not: {dport: "@p"}'])
def test_joined_sets_that_rules_share_take_room_once(
    conditions: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(joins, "LEAST_ROOM", 10_000)
    monkeypatch.setattr(joins, "BYTES_EACH", 1000)
    lines = [f"{{name: r{at}, {conditions}, comment: '{at}', action: drop}}" for at in range(100)]
    assert len(ruleset(file_of(*lines, head=ODD)).ingress.rules) == 100


def test_more_lists_of_protocols_than_allowed_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "MAX_PROTOCOL_LISTS", 2)
    lines = [f"{{name: r{at}, proto: [6, {at % 3 + 20}], action: drop}}" for at in range(4)]
    (found,) = problems(file_of(*lines))
    words = "more than 2 different lists of protocols in one rule file; at most 2 are allowed"
    assert (found.line, found.message) == (6, words)


def test_the_limit_of_rules_is_the_promised_one() -> None:
    assert rule_module.MAX_RULES == 131008


def test_a_value_in_a_message_cannot_spoil_the_terminal() -> None:
    (found,) = problems(file_of('{name: a, proto: "\\e[31m\\n\\u202e' + "x" * 500 + '", action: drop}'))
    assert found.message.isprintable()
    assert len(found.message) < 250
