"""Names of ICMP and ICMPv6 types and codes.

Source: the IANA registries "ICMP Parameters" and "ICMPv6 Parameters", in lower case with '-'. Data only.
"""

from __future__ import annotations

from .model import ICMP, ICMPV6

_ICMP_TYPES = {
    "echo-reply": 0, "destination-unreachable": 3, "source-quench": 4, "redirect": 5, "echo-request": 8,
    "router-advertisement": 9, "router-solicitation": 10, "time-exceeded": 11, "parameter-problem": 12,
    "timestamp-request": 13, "timestamp-reply": 14, "information-request": 15, "information-reply": 16,
    "address-mask-request": 17, "address-mask-reply": 18, "traceroute": 30, "extended-echo-request": 42,
    "extended-echo-reply": 43,
}  # fmt: skip

_ICMPV6_TYPES = {
    "destination-unreachable": 1, "packet-too-big": 2, "time-exceeded": 3, "parameter-problem": 4,
    "echo-request": 128, "echo-reply": 129, "multicast-listener-query": 130, "multicast-listener-report": 131,
    "multicast-listener-done": 132, "router-solicitation": 133, "router-advertisement": 134,
    "neighbor-solicitation": 135, "neighbour-solicitation": 135, "neighbor-advertisement": 136,
    "neighbour-advertisement": 136, "redirect": 137, "router-renumbering": 138, "node-information-query": 139,
    "node-information-response": 140, "inverse-neighbor-discovery-solicitation": 141,
    "inverse-neighbour-discovery-solicitation": 141, "inverse-neighbor-discovery-advertisement": 142,
    "inverse-neighbour-discovery-advertisement": 142, "multicast-listener-report-v2": 143,
    "home-agent-address-discovery-request": 144, "home-agent-address-discovery-reply": 145,
    "mobile-prefix-solicitation": 146, "mobile-prefix-advertisement": 147,
    "certification-path-solicitation": 148, "certification-path-advertisement": 149,
    "multicast-router-advertisement": 151, "multicast-router-solicitation": 152,
    "multicast-router-termination": 153, "rpl-control": 155, "duplicate-address-request": 157,
    "duplicate-address-confirmation": 158, "extended-echo-request": 160, "extended-echo-reply": 161,
}  # fmt: skip

TYPES: dict[int, dict[str, int]] = {ICMP: _ICMP_TYPES, ICMPV6: _ICMPV6_TYPES}
"""Protocol number -> name -> type."""

CODES: dict[tuple[int, int], dict[str, int]] = {
    (ICMP, 3): {
        "net-unreachable": 0, "host-unreachable": 1, "protocol-unreachable": 2, "port-unreachable": 3,
        "fragmentation-needed": 4, "source-route-failed": 5, "net-unknown": 6, "host-unknown": 7,
        "source-host-isolated": 8, "net-prohibited": 9, "host-prohibited": 10, "net-tos-unreachable": 11,
        "host-tos-unreachable": 12, "admin-prohibited": 13, "host-precedence-violation": 14,
        "precedence-cutoff": 15,
    },
    (ICMP, 5): {"net-redirect": 0, "host-redirect": 1, "net-tos-redirect": 2, "host-tos-redirect": 3},
    (ICMP, 11): {"ttl-exceeded": 0, "reassembly-time-exceeded": 1},
    (ICMP, 12): {"pointer-indicates-error": 0, "missing-option": 1, "bad-length": 2},
    (ICMPV6, 1): {
        "no-route": 0, "admin-prohibited": 1, "beyond-scope": 2, "address-unreachable": 3,
        "port-unreachable": 4, "policy-failed": 5, "reject-route": 6,
    },
    (ICMPV6, 3): {"hop-limit-exceeded": 0, "reassembly-time-exceeded": 1},
    (ICMPV6, 4): {"bad-header-field": 0, "unknown-next-header": 1, "unknown-option": 2},
}  # fmt: skip
"""(Protocol number, type) -> name -> code. A code's name means something only beside its type."""
