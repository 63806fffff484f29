"""The named packets as real frames, through native XDP, generic XDP and TC egress.

Test runs hand a program whole frames in one piece; here a driver, the generic hook and the queueing layer do.
"""

from __future__ import annotations

import test_traffic_support  # noqa: F401 - puts tests/ on the path

# isort: split

import pytest
from corpus import CORPUS, DENY_DEFAULT_FILE, PASS_DEFAULT_FILE, Case
from lab import Veth
from test_traffic_support import UNREADABLE, Row, check_rows, every_place, silent

LEAST, MOST = 14, 1514
"""Bytes of a frame that a packet socket sends by a device of MTU 1,500."""
FILES = {"pass by default": PASS_DEFAULT_FILE, "deny by default": DENY_DEFAULT_FILE}


def sendable(hook: str) -> list[Case]:
    return [case for case in CORPUS if case.hook == hook and LEAST <= len(case.frame) <= MOST]


def rows(hook: str, file: str) -> list[Row]:
    return [
        Row(
            case.name,
            case.frame,
            case.decider,
            case.pass_default if file is PASS_DEFAULT_FILE else case.deny_default,
            case.protocol,
        )
        for case in sendable(hook)
    ]


@silent
@every_place
@pytest.mark.parametrize("default", FILES)
def test_every_named_packet_is_decided_alike_as_a_real_frame(
    veth: Veth, hook: str, mode: str, default: str
) -> None:
    check_rows(veth, hook, mode, FILES[default], rows(hook, FILES[default]))


def test_all_but_a_few_named_packets_can_be_sent() -> None:
    """The rest are shorter than an Ethernet header, longer than a frame, or need headers in many pieces."""
    sent = [case for hook in ("ingress", "egress") for case in sendable(hook)]
    assert len(sent) >= max(120, len(CORPUS) - 15)
    assert UNREADABLE not in {case.decider for case in sent}
